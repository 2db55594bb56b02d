/*
 * daytona_exec - commands through the toolbox's process/execute.
 *
 * Owns: the requests that start a command, follow it and read its output, deadlines. Does not own:
 * what is done with the output, what runs in the sandbox (exec_script). Threads: a client belongs
 * to its caller. Failure: an answer that cannot be read is an error, never an exit 0; a timeout
 * names what it could not kill.
 *
 * process/execute feeds its command to a shell's stdin, merges both outputs, makes text of them
 * and, on its own timeout, loses them. So what is sent is one line that runs follow.sh with the
 * command as its input: it starts the command apart from the request, with output in files, and
 * answers what there is so far; further requests follow. An answer carries bytes as base64. A
 * request that the proxy repeats finds the command started and only follows it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/id.h"
#include "common/provider/daytona.h"
#include "common/provider/exec_script.h"

enum {
    CHUNK_BYTES = 1024 * 1024, /* of each stream in one answer; as follow.sh has it */
    ANSWER_MAX_BYTES = 4 * CHUNK_BYTES,
    SKIP_BYTES = 4 * 1024 * 1024, /* more than this behind: only the last TAIL_BYTES are wanted */
    TAIL_BYTES = 512 * 1024,
    CHECKPOINTS_MAX = 1024,
    FOLLOW_MS = 3 * 1000, /* longest time one request waits for output */
    SPARE_MS = 15 * 1000, /* for the request itself, beside what it waits */
    KILL_TIMEOUT_MS = 2 * 1000,
    TRIES = 4,
    PATIENCE_MS = 10 * 1000, /* longest wait for a rate limit between two of them */
    REST_MS = 120 * 1000,    /* for the output that is left when a command is over */
    RETRY_MS = 250,
};

struct follow {
    const struct daytona *daytona;
    struct http_client *client;
    const struct provider_target *target;
    char id[UUID_BYTES];
    const struct exec_request *request;
    struct exec_result *result;
    struct exec_marks marks;
    exec_output_fn on_output;
    void *arg;
    int64_t offset[2]; /* stdout, stderr: bytes taken of the files */
    int64_t given[2];  /* ... and passed on */
    int64_t size[2];   /* of the files, as last told */
    bool ended;        /* the runner is gone, all is taken, the files are removed */
    bool stopped;      /* on_output asked to stop */
    bool refused; /* the last request was, and would be again: not for what is busy or broken */
    struct strbuf script, input, bytes[2];
};

/* ---- one request ----------------------------------------------------------------------------- */

/* The text our script printed, behind its marker line; NULL: not the answer of our script. */
static const char *script_output(const cJSON *answer, const char *id, struct error *err)
{
    char marker[UUID_BYTES + 4];
    const cJSON *result = cJSON_GetObjectItemCaseSensitive(answer, "result");
    snprintf(marker, sizeof(marker), "@@%s\n", id);
    const char *text = cJSON_IsString(result) ? strstr(result->valuestring, marker) : NULL;
    if (!text) {
        char said[120];
        const char *words = cJSON_IsString(result) ? result->valuestring : "";
        provider_clean_text(said, sizeof(said), words, strlen(words), NULL, 0);
        error_set(err, ERR_PROVIDER, "command: unusable answer%s%s", said[0] ? ": " : "", said);
        return NULL;
    }
    return text + strlen(marker);
}

/*
 * Runs `line` with /bin/sh and `input` as its stdin. *ret is the parsed answer (caller deletes).
 * *ret_maybe_ran: -1 was returned, yet the line may have been run.
 */
static int execute(struct follow *follow, const char *line, const struct strbuf *input,
                   int64_t wait_ms, cJSON **ret, bool *ret_maybe_ran, struct error *err)
{
    struct error parse = ERROR_INIT;
    struct http_request request;
    struct http_response response;
    struct strbuf command;
    int rc = -1;
    *ret = NULL;
    *ret_maybe_ran = false;
    http_request_init(&request);
    strbuf_init(&command, request.body.max_bytes / 2);
    if (daytona_toolbox_request(follow->daytona, follow->target, "POST", "/process/execute",
                                &request, err) != 0) {
        goto out;
    }
    strbuf_puts(&command, line);
    if (input) {
        strbuf_printf(&command, " <<'SANDBOX_INPUT'\n%sSANDBOX_INPUT\n", input->data);
    } else {
        strbuf_puts(&command, " </dev/null\n");
    }
    cJSON *body = cJSON_CreateObject();
    cJSON_AddStringToObject(body, "command", command.data);
    json_add_int64(body, "timeout", (wait_ms + SPARE_MS) / 1000 + 1);
    json_print(body, &request.body);
    cJSON_Delete(body);
    if (command.overflow || request.body.overflow) {
        error_set(err, ERR_TOO_LARGE, "the command is too long");
        goto out;
    }
    strbuf_puts(&request.headers, "Content-Type: application/json\n");
    request.has_body = true;
    request.once = input != NULL; /* what starts something is sent once */
    request.timeout_ms = wait_ms + 2 * SPARE_MS;
    request.max_response_bytes = ANSWER_MAX_BYTES;
    http_client_perform(follow->client, &request, &response);
    *ret_maybe_ran =
        response.transport == HTTP_AMBIGUOUS ||
        (response.transport == HTTP_ANSWERED && (response.status == 408 || response.status >= 500));
    follow->refused = response.transport == HTTP_ANSWERED && response.status >= 400 &&
                      response.status < 500 && response.status != 408 && response.status != 429;
    if (daytona_toolbox_check(follow->daytona, &response, "command", err) != 0) {
        goto out;
    }
    *ret_maybe_ran = true;
    *ret = json_parse(response.body, response.body_bytes, &parse);
    if (!*ret) {
        error_set(err, ERR_PROVIDER, "command: unusable answer");
        goto out;
    }
    rc = 0;
out:
    strbuf_done(&command);
    http_request_done(&request);
    return rc;
}

/* "exec /bin/sh -c '<follow.sh>' sh <mode> <id> <offsets> <wait> <cwd> <limit> [<scripts>]" */
static void put_line(struct follow *follow, const char *mode, int64_t wait_ms, bool starts)
{
    struct strbuf *line = &follow->script;
    strbuf_reset(line);
    strbuf_puts(line, "exec /bin/sh -c ");
    exec_script_quote(line, provider_script_follow);
    strbuf_printf(line, " sh %s %s %lld %lld %lld ", mode, follow->id,
                  (long long)follow->offset[EXEC_STDOUT], (long long)follow->offset[EXEC_STDERR],
                  (long long)(wait_ms / 10));
    exec_script_quote(line, starts && follow->request->cwd ? follow->request->cwd : "");
    strbuf_printf(line, " %lld", (long long)exec_script_limit(follow->request));
    const char *const scripts[] = {provider_script_boot, provider_script_runner,
                                   provider_script_kill};
    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        strbuf_putc(line, ' ');
        exec_script_quote(line, starts ? scripts[i] : "");
    }
}

/* ---- reading answers ------------------------------------------------------------------------- */

/* One output in base64, up to the line with a dot. */
static int take_chunk(struct follow *follow, const char **text, enum exec_stream stream,
                      struct error *err)
{
    struct strbuf packed, *bytes = &follow->bytes[stream];
    int rc = -1;
    strbuf_init(&packed, 2 * CHUNK_BYTES);
    strbuf_reset(bytes);
    const char *at = *text;
    while (*at && *at != '.') {
        size_t length = strcspn(at, "\n");
        strbuf_append(&packed, at, length);
        at += length + (at[length] == '\n' ? 1 : 0);
    }
    if (*at == '.' && !packed.overflow &&
        decode_base64(bytes, packed.data, packed.length, err) == 0) {
        at++;
        *text = at + (*at == '\n' ? 1 : 0);
        rc = 0;
    } else {
        error_set(err, ERR_PROVIDER, "command: unusable output");
    }
    strbuf_done(&packed);
    return rc;
}

/* Gives the caller the bytes of a stream up to `until` of the whole output. */
static void give_until(struct follow *follow, enum exec_stream stream, int64_t until)
{
    struct strbuf *bytes = &follow->bytes[stream];
    int64_t begin = follow->offset[stream] - (int64_t)bytes->length; /* of what bytes holds */
    size_t given = (size_t)(follow->given[stream] - begin);
    size_t end = until - begin < (int64_t)bytes->length ? (size_t)(until - begin) : bytes->length;
    if (until > follow->given[stream] && end > given) {
        follow->given[stream] += (int64_t)(end - given);
        if (!follow->stopped && exec_marks_feed(&follow->marks, stream, bytes->data + given,
                                                end - given, follow->on_output, follow->arg) != 0) {
            follow->stopped = true;
        }
    }
}

/* Output that is not there any more, or that nobody wants. */
static void skip_to(struct follow *follow, enum exec_stream stream, int64_t offset)
{
    int64_t bytes = offset - follow->offset[stream];
    follow->offset[stream] = follow->given[stream] = offset;
    if (bytes > 0 && follow->on_output && !follow->stopped &&
        follow->on_output(follow->arg, stream, NULL, (size_t)bytes) != 0) {
        follow->stopped = true;
    }
}

/* "C <stdout> <stderr>": sizes in order of time, which is how the two outputs are put together. */
struct checkpoint {
    long long size[2];
};

static int take_checkpoints(const char **text, struct checkpoint *ret, int max)
{
    int count = 0, used = 0;
    struct checkpoint point;
    while (sscanf(*text, "C %lld %lld%n", &point.size[0], &point.size[1], &used) == 2 &&
           (*text)[used] == '\n') {
        if (count < max) {
            ret[count++] = point;
        }
        *text += used + 1;
    }
    return count;
}

static int take_status(struct follow *follow, const char *text, struct error *err)
{
    struct checkpoint points[CHECKPOINTS_MAX];
    int count = take_checkpoints(&text, points, CHECKPOINTS_MAX);
    char code[16];
    long long size[2], at[2];
    int used = 0;
    if (sscanf(text, "S %15s %lld %lld %lld %lld%n", code, &size[0], &at[0], &size[1], &at[1],
               &used) != 5 ||
        text[used] != '\n') {
        return error_set(err, ERR_PROVIDER, "command: unusable answer");
    }
    text += used + 1;
    for (int stream = EXEC_STDOUT; stream <= EXEC_STDERR; stream++) {
        if (at[stream] < follow->offset[stream] || at[stream] > size[stream]) {
            return error_set(err, ERR_PROVIDER, "command: unusable answer");
        }
        if (take_chunk(follow, &text, (enum exec_stream)stream, err) != 0) {
            return -1;
        }
        if (at[stream] < size[stream] && follow->bytes[stream].length == 0) {
            return error_set(err, ERR_PROVIDER, "command: output is announced but not given");
        }
        skip_to(follow, (enum exec_stream)stream, at[stream]);
        follow->size[stream] = size[stream];
        follow->offset[stream] += (int64_t)follow->bytes[stream].length;
    }
    for (int i = 0; i < count; i++) {
        give_until(follow, EXEC_STDOUT, points[i].size[EXEC_STDOUT]);
        give_until(follow, EXEC_STDERR, points[i].size[EXEC_STDERR]);
    }
    give_until(follow, EXEC_STDOUT, INT64_MAX);
    give_until(follow, EXEC_STDERR, INT64_MAX);
    follow->ended = strncmp(text, "gone", 4) == 0;
    if (follow->ended && !exec_marks_complete(&follow->marks)) { /* killed with its runner */
        follow->result->exited = true;
        follow->result->timed_out = false;
        follow->result->exit_code = (int)(strtol(code, NULL, 10) & 0xff);
    }
    return 0;
}

/* Nothing more is to be asked for. */
static bool is_over(const struct follow *follow)
{
    return exec_marks_complete(&follow->marks) || follow->ended;
}

static int take_answer(struct follow *follow, const cJSON *answer, struct error *err)
{
    const char *text = script_output(answer, follow->id, err);
    if (!text) {
        return -1;
    }
    if (text[0] == 'E') {
        char why[100];
        provider_clean_text(why, sizeof(why), text + 1, strcspn(text + 1, "\n"), NULL, 0);
        return error_set(err, ERR_PROVIDER, "command:%s", why);
    }
    if (text[0] == 'P') {
        follow->result->pid = strtoll(text + 1, NULL, 10);
        return 0;
    }
    return take_status(follow, text, err);
}

/* ---- a command's life ------------------------------------------------------------------------ */

/* "export NAME='value'" lines. */
static void put_environment(struct strbuf *out, const cJSON *envs)
{
    for (const cJSON *item = envs ? envs->child : NULL; item; item = item->next) {
        if (strcmp(item->string, PROVIDER_EXEC_ID) == 0 || !cJSON_IsString(item)) {
            continue;
        }
        strbuf_printf(out, "export %s=", item->string);
        exec_script_quote(out, item->valuestring);
        strbuf_putc(out, '\n');
    }
}

static int put_input(struct follow *follow, struct error *err)
{
    struct strbuf environment, command;
    strbuf_init(&environment, 8 * 1024 * 1024);
    strbuf_init(&command, 8 * 1024 * 1024);
    put_environment(&environment, follow->request->envs);
    exec_script_command(follow->request->command, follow->request->envs, &command);
    encode_base64(&follow->input, environment.data, environment.length);
    strbuf_putc(&follow->input, '\n');
    encode_base64(&follow->input, command.data, command.length);
    strbuf_putc(&follow->input, '\n');
    bool fits = !environment.overflow && !command.overflow && !follow->input.overflow;
    strbuf_done(&environment);
    strbuf_done(&command);
    return fits ? 0 : error_set(err, ERR_TOO_LARGE, "the command is too long");
}

static int64_t until(int64_t deadline_ms)
{
    int64_t left_ms = deadline_ms - clock_mono_ms();
    return left_ms < 0 ? 0 : left_ms < FOLLOW_MS ? left_ms : FOLLOW_MS;
}

/* Waits before the next try of what may be repeated, for as long as the provider asks for; false
 * when there is to be none. */
static bool wait_to_try(const struct follow *follow, int tried, const struct error *err)
{
    int64_t wait_ms = (int64_t)RETRY_MS << (tried - 1);
    int64_t asked_ms = (int64_t)err->retry_after_s * 1000;
    if (tried >= TRIES || follow->refused || err->code == ERR_SANDBOX_NOT_FOUND ||
        err->code == ERR_INVALID || asked_ms > PATIENCE_MS) {
        return false;
    }
    clock_sleep_ms(wait_ms > asked_ms ? wait_ms : asked_ms);
    return true;
}

/* Asks for more output; harmless when repeated, so a lost answer is asked for again. */
static int follow_on(struct follow *follow, const char *mode, int64_t wait_ms, struct error *err)
{
    bool maybe_ran;
    for (int try = 1;; try++) {
        cJSON *answer = NULL;
        put_line(follow, mode, wait_ms, false);
        if (execute(follow, follow->script.data, NULL, wait_ms, &answer, &maybe_ran, err) == 0) {
            int rc = take_answer(follow, answer, err);
            cJSON_Delete(answer);
            return rc;
        }
        if (!wait_to_try(follow, try, err)) {
            return -1;
        }
    }
}

/* Kills the command and all it started; it can be killed twice. -1 + err when that could not be
 * tried. */
static int kill_tree(struct follow *follow, struct error *err)
{
    cJSON *answer = NULL;
    bool maybe_ran;
    strbuf_reset(&follow->script);
    /* root reaches what the command started through sudo, where the image has it */
    strbuf_puts(&follow->script, "k=");
    exec_script_quote(&follow->script, provider_script_kill);
    strbuf_printf(&follow->script,
                  "; r=$(/bin/sh -c \"$k\" sh %s 0 </dev/null); [ \"$r\" = left ] || "
                  "s=$(sudo -n /bin/sh -c \"$k\" sh %s 0 </dev/null 2>/dev/null); "
                  "echo \"${s:-$r}\"; exit 0",
                  follow->id, follow->id);
    for (int try = 1;
         execute(follow, follow->script.data, NULL, KILL_TIMEOUT_MS, &answer, &maybe_ran, err) != 0;
         try++) {
        if (!wait_to_try(follow, try, err)) {
            return -1;
        }
    }
    const cJSON *text = cJSON_GetObjectItemCaseSensitive(answer, "result");
    int rc = cJSON_IsString(text) ? exec_take_left(follow->result, text->valuestring) : -1;
    cJSON_Delete(answer);
    return rc == 0 ? 0
                   : error_set(err, ERR_PROVIDER, "processes of the command could not be killed");
}

/* Passes over output that nobody will keep. */
static void skip_what_is_too_much(struct follow *follow, bool over)
{
    for (int stream = EXEC_STDOUT; stream <= EXEC_STDERR; stream++) {
        int64_t behind = follow->size[stream] - follow->offset[stream];
        if ((over || follow->request->any_output) && behind > SKIP_BYTES) {
            skip_to(follow, (enum exec_stream)stream, follow->size[stream] - TAIL_BYTES);
        }
    }
}

/* Follows until the command is over and all its output is taken. */
static int follow_to_end(struct follow *follow, int64_t deadline_ms, bool *ret_late,
                         struct error *err)
{
    *ret_late = false;
    while (!follow->stopped && !is_over(follow)) {
        if (http_client_over(follow->client)) {
            follow->stopped = true;
            return 0;
        }
        if (clock_mono_ms() >= deadline_ms) {
            *ret_late = true;
            return 0;
        }
        if (follow->request->on_tick && follow->request->on_tick(follow->arg) != 0) {
            follow->result->left = true;
            return 0;
        }
        skip_what_is_too_much(follow, follow->result->timed_out);
        if (follow_on(follow, "follow", until(deadline_ms), err) != 0) {
            return -1;
        }
    }
    return 0;
}

/* The tree is dead, or its end is known: what it had printed, and the end of its files. */
static int take_rest(struct follow *follow, struct error *err)
{
    const int64_t start_ms = clock_mono_ms();
    do {
        skip_what_is_too_much(follow, true);
        if (follow_on(follow, "follow", 0, err) != 0) {
            return -1;
        }
        if (clock_mono_ms() - start_ms >= REST_MS) {
            return error_set(err, ERR_PROVIDER, "the command is over, its output does not end");
        }
    } while (!is_over(follow) && (follow->offset[EXEC_STDOUT] < follow->size[EXEC_STDOUT] ||
                                  follow->offset[EXEC_STDERR] < follow->size[EXEC_STDERR]));
    return 0;
}

static void remove_files(struct follow *follow)
{
    struct error ignored = ERROR_INIT; /* what is left costs the sandbox a few files */
    cJSON *answer = NULL;
    bool maybe_ran;
    strbuf_reset(&follow->script);
    strbuf_printf(&follow->script, "rm -rf /tmp/.sandbox-exec-%s", follow->id);
    if (execute(follow, follow->script.data, NULL, 0, &answer, &maybe_ran, &ignored) == 0) {
        cJSON_Delete(answer);
    }
}

static int end_early(struct follow *follow, struct error *err)
{
    if (kill_tree(follow, err) != 0 || take_rest(follow, err) != 0) {
        if (err->code == ERR_SANDBOX_NOT_FOUND) {
            return error_set(err, ERR_PROVIDER_DOWN, "the sandbox went away under the command");
        }
        return error_prefix(err, "the command is over its time");
    }
    return 0;
}

/* Starts the command and follows it to its end. *ret_maybe_ran: something may run, or have run. */
static int run_command(struct follow *follow, bool *ret_maybe_ran, struct error *err)
{
    const struct exec_request *request = follow->request;
    int64_t deadline_ms = request->timeout_ms > 0
                              ? clock_mono_ms() + request->timeout_ms + EXEC_ANSWER_MS
                              : INT64_MAX;
    int64_t wait_ms = request->background ? 5000 : until(deadline_ms);
    bool late = false;
    cJSON *answer = NULL;
    int rc = -1;
    put_line(follow, request->background ? "start" : "run", wait_ms, true);
    if (execute(follow, follow->script.data, &follow->input, wait_ms, &answer, ret_maybe_ran,
                err) == 0) {
        rc = take_answer(follow, answer, err);
    }
    cJSON_Delete(answer);
    if (rc == 0 && !request->background) {
        rc = follow_to_end(follow, deadline_ms, &late, err);
    }
    if (rc == 0 && !follow->result->left && (late || follow->stopped)) {
        *ret_maybe_ran = false; /* this is the kill */
        rc = end_early(follow, err);
        if (rc == 0) {
            follow->result->timed_out = late;
            follow->result->exited = false;
        }
    }
    return rc;
}

int daytona_exec(struct provider *provider, struct http_client *client,
                 const struct provider_target *target, const struct exec_request *request,
                 exec_output_fn on_output, void *arg, struct exec_result *ret, struct error *err)
{
    struct follow follow = {.daytona = (struct daytona *)provider,
                            .client = client,
                            .target = target,
                            .request = request,
                            .result = ret,
                            .on_output = on_output,
                            .arg = arg};
    bool maybe_ran = false;
    memset(ret, 0, sizeof(*ret));
    id_uuid(follow.id);
    follow.marks = (struct exec_marks){.id = follow.id, .result = ret};
    strbuf_init(&follow.script, 128 * 1024);
    strbuf_init(&follow.bytes[EXEC_STDOUT], CHUNK_BYTES + 16);
    strbuf_init(&follow.bytes[EXEC_STDERR], CHUNK_BYTES + 16);
    strbuf_init(&follow.input, 12 * 1024 * 1024);
    int rc = put_input(&follow, err);
    if (rc == 0) {
        rc = run_command(&follow, &maybe_ran, err);
    }
    if (rc == 0) {
        (void)exec_marks_flush(&follow.marks, on_output, arg);
    } else if (maybe_ran) {
        struct error ignored = ERROR_INIT; /* failing already; this is for the sandbox's sake */
        if (kill_tree(&follow, &ignored) == 0) {
            remove_files(&follow);
        }
        if (err->code ==
            ERR_SANDBOX_NOT_FOUND) { /* something may have run: not to be tried again */
            err->code = ERR_PROVIDER_DOWN;
        }
    }
    if (rc == 0 && !request->background && !ret->left && !follow.ended) {
        remove_files(&follow);
    }
    if (rc == 0) {
        rc = exec_marks_check(&follow.marks, err);
    }
    ret->started = rc == 0;
    strbuf_done(&follow.script);
    strbuf_done(&follow.bytes[EXEC_STDOUT]);
    strbuf_done(&follow.bytes[EXEC_STDERR]);
    strbuf_done(&follow.input);
    return rc;
}

/* ---- a start command ------------------------------------------------------------------------- */

int daytona_start_request(struct provider *provider, const struct provider_target *target,
                          const char *command, struct http_request *ret, struct error *err)
{
    struct strbuf line;
    if (daytona_toolbox_request((struct daytona *)provider, target, "POST", "/process/execute", ret,
                                err) != 0) {
        return -1;
    }
    strbuf_init(&line, ret->body.max_bytes / 2);
    strbuf_puts(&line, "setsid bash -l -c ");
    exec_script_quote(&line, command);
    strbuf_puts(&line, " </dev/null >/dev/null 2>&1 &");
    cJSON *body = cJSON_CreateObject();
    cJSON_AddStringToObject(body, "command", line.data);
    json_add_int64(body, "timeout", SPARE_MS / 1000);
    json_print(body, &ret->body);
    cJSON_Delete(body);
    bool fits = !line.overflow && !ret->body.overflow;
    strbuf_done(&line);
    strbuf_puts(&ret->headers, "Content-Type: application/json\n");
    ret->has_body = true;
    ret->once = true;
    ret->timeout_ms = SPARE_MS;
    ret->max_response_bytes = ANSWER_MAX_BYTES;
    return fits ? 0 : error_set(err, ERR_TOO_LARGE, "the command is too long");
}

int daytona_start_check(struct provider *provider, const struct provider_target *target,
                        const struct http_response *response, struct error *err)
{
    (void)target;
    return daytona_toolbox_check((struct daytona *)provider, response, "start command", err);
}
