/*
 * daytona_exec - commands through the toolbox's process/execute.
 *
 * Owns: the scripts that run a command in the sandbox, follow it and read its output, deadlines,
 * the death of a whole process tree. Does not own: what is done with the output. Threads: a client
 * belongs to its caller. Failure: an answer that cannot be read is an error, never an exit 0; a
 * timeout is reported only once the command and all it started are dead.
 *
 * process/execute feeds its command to a shell's stdin, merges both outputs, makes text of them
 * and, on its own timeout, loses them. So what is sent is one line that runs a script of ours with
 * the command as its input: it starts the command apart from the request, with output in files,
 * and answers what there is so far; further requests follow. An answer carries bytes as base64. A
 * request that the proxy repeats finds the command started and only follows it.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/id.h"
#include "common/provider/daytona.h"
#include "common/provider/kill_script.h"

/* As the scripts need them, too. */
#define CHUNK_BYTES    1048576  /* of each stream in one answer */
#define FILE_MAX_BYTES 67108864 /* an output file this long is begun anew */
#define TEXT_OF_(x)    #x
#define TEXT_OF(x)     TEXT_OF_(x)

enum {
    ANSWER_MAX_BYTES = 4 * CHUNK_BYTES,
    FOLLOW_MS = 3 * 1000, /* longest time one request waits for output */
    SPARE_MS = 15 * 1000, /* for the request itself, beside what it waits */
    KILL_TIMEOUT_MS = 10 * 1000,
    TRIES = 4,
    PATIENCE_MS = 10 * 1000, /* longest wait for a rate limit between two of them */
    REST_MS = 120 * 1000,    /* for the output that is left when a command is over */
    RETRY_MS = 250,
};

/*
 * $1 run|start|follow|end, $2 id, $3 stdout offset, $4 stderr offset, $5 how many 10 ms to wait,
 * $6 cwd. run and start take two lines of base64 on stdin: environment, command.
 * start leaves the command alone and answers its pid; end takes what is left and cleans up.
 * Answers a marker line, then "E why", "P pid", or "S exit-or-dash stdout-size stderr-size reset"
 * and both outputs from the offsets on, each closed by a line with a dot.
 */
static const char exec_script[] =
    "exec 2>/dev/null; mode=$1; id=$2; oo=$3; oe=$4; wait=$5; cwd=$6; d=/tmp/.sandbox-exec-$id; "
    "n=0; grace=3\n"
    "echo \"@@$id\"\n"
    "inner='c=$(wc -c <\"$1/cmd\"); t=; [ \"$c\" -lt 100000 ] && t=$(cat \"$1/cmd\")\n"
    "  echo $$ >\"$1/p\"; mv \"$1/p\" \"$1/pid\"; . \"$1/env\"\n"
    "  if [ \"$c\" -lt 100000 ]; then exec \"$2\" -l -c \"$t\"; else exec \"$2\" -l \"$1/cmd\"; "
    "fi'\n"
    "outer='(sh -c \"$1\" sh \"$2\" \"$3\" </dev/null >>\"$4\" 2>>\"$5\"\n"
    "  echo $? >\"$2/e\" 2>/dev/null && mv \"$2/e\" \"$2/exit\"; [ -z \"$6\" ] || { sleep 1; rm "
    "-rf \"$2\"; }\n"
    "  ) </dev/null >/dev/null 2>&1 &'\n"
    "begin() {\n"
    "  mkdir -m 700 \"$d\" 2>/dev/null || { [ -d \"$d\" ] && return 0; echo 'E no place in /tmp'; "
    "exit 0; }\n"
    "  cat >\"$d/in\" && sed -n 1p \"$d/in\" | base64 -d >\"$d/env\" &&\n"
    "    sed -n 2p \"$d/in\" | base64 -d >\"$d/cmd\" && : >\"$d/out\" && : >\"$d/err\" ||\n"
    "    { rm -rf \"$d\"; echo 'E the command could not be stored'; exit 0; }\n"
    "  if [ -n \"$cwd\" ] && ! cd \"$cwd\" 2>/dev/null; then rm -rf \"$d\"; echo 'E cwd'; exit 0; "
    "fi\n"
    "  out=$d/out; err=$d/err; alone=\n"
    "  [ \"$mode\" = run ] || { out=/dev/null; err=/dev/null; alone=1; }\n"
    "  export " PROVIDER_EXEC_ID "=\"$id\"\n"
    /* with job control a background job does not ignore SIGINT and has its own process group */
    "  if sh=$(command -v bash); then\n"
    "    \"$sh\" -m -c \"$outer\" bash \"$inner\" \"$d\" \"$sh\" \"$out\" \"$err\" \"$alone\"\n"
    "  else\n"
    "    sh=$(command -v sh); set -- sh -c \"$outer\" sh \"$inner\" \"$d\" \"$sh\" \"$out\" "
    "\"$err\" \"$alone\"\n"
    "    command -v setsid >/dev/null && set -- setsid \"$@\"\n"
    "    \"$@\"\n"
    "  fi\n"
    "  unset " PROVIDER_EXEC_ID "\n"
    "}\n"
    "nap() { if [ \"$n\" -lt 10 ]; then s=1; else s=5; fi; sleep 0.0$s 2>/dev/null || { sleep 1; "
    "s=100; }; n=$((n+s)); }\n"
    "case $mode in run|start) begin;; esac\n"
    "if [ \"$mode\" = start ]; then\n"
    "  while [ ! -f \"$d/pid\" ] && [ -d \"$d\" ] && [ \"$n\" -lt 500 ]; do nap; done\n"
    "  pid=0; { read -r pid <\"$d/pid\"; } 2>/dev/null; echo \"P $pid\"; exit 0\n"
    "fi\n"
    "[ -d \"$d\" ] || { echo 'E the command is not known'; exit 0; }\n"
    "while :; do\n"
    "  code=-; [ ! -f \"$d/exit\" ] || read -r code <\"$d/exit\"\n"
    "  so=$(wc -c <\"$d/out\"); se=$(wc -c <\"$d/err\"); so=$((so)); se=$((se))\n"
    "  [ \"$code\" = - ] && [ \"$mode\" != end ] && [ \"$n\" -lt \"$wait\" ] || break\n"
    "  if [ \"$so\" -gt \"$oo\" ] || [ \"$se\" -gt \"$oe\" ]; then\n"
    "    grace=$((grace-1)); [ $grace -gt 0 ] || break\n"
    "  fi\n"
    "  nap\n"
    "done\n"
    "max=" TEXT_OF(CHUNK_BYTES) "; lim=" TEXT_OF(
        FILE_MAX_BYTES) "; reset=0\n"
                        "if [ \"$code\" = - ] && [ \"$mode\" != end ] && { [ \"$so\" -gt $lim ] || "
                        "[ \"$se\" -gt $lim ]; }; then reset=1; fi\n"
                        "echo \"S $code $so $se $reset\"\n"
                        "tail -c +$((oo+1)) \"$d/out\" | head -c $max | base64; echo .\n"
                        "tail -c +$((oe+1)) \"$d/err\" | head -c $max | base64; echo .\n"
                        "if [ $reset = 1 ]; then : >\"$d/out\"; : >\"$d/err\"; fi\n"
                        "if [ \"$code\" != - ] || [ \"$mode\" = end ]; then\n"
                        "  [ $((so-oo)) -le $max ] && [ $((se-oe)) -le $max ] && rm -rf \"$d\"\n"
                        "fi\n"
                        "exit 0\n";

struct follow {
    const struct daytona *daytona;
    struct http_client *client;
    const struct provider_target *target;
    char id[UUID_BYTES];
    exec_output_fn on_output;
    void *arg;
    int64_t offset[2]; /* stdout, stderr: bytes taken of the files */
    bool exited;
    bool drained; /* all there was is taken */
    int exit_code;
    int64_t pid;
    bool stopped; /* on_output asked to stop */
    bool refused; /* the last request was, and would be again: not for what is busy or broken */
    struct strbuf script, bytes, input;
};

/* ---- one request ----------------------------------------------------------------------------- */

static void put_quoted(struct strbuf *out, const char *text)
{
    strbuf_putc(out, '\'');
    for (const char *c = text; *c; c++) {
        if (*c == '\'') {
            strbuf_puts(out, "'\\''");
        } else {
            strbuf_putc(out, *c);
        }
    }
    strbuf_putc(out, '\'');
}

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

/* "exec /bin/sh -c '<script>' sh <mode> <id> <offsets> <wait> <cwd>" */
static void put_line(struct follow *follow, const char *mode, int64_t wait_ms, const char *cwd)
{
    strbuf_reset(&follow->script);
    strbuf_puts(&follow->script, "exec /bin/sh -c ");
    put_quoted(&follow->script, exec_script);
    strbuf_printf(&follow->script, " sh %s %s %lld %lld %lld ", mode, follow->id,
                  (long long)follow->offset[0], (long long)follow->offset[1],
                  (long long)(wait_ms / 10));
    put_quoted(&follow->script, cwd ? cwd : "");
}

/* ---- reading answers ------------------------------------------------------------------------- */

/* One output in base64, up to the line with a dot; gives its bytes to the caller. */
static int take_chunk(struct follow *follow, const char **text, enum exec_stream stream,
                      struct error *err)
{
    struct strbuf packed;
    int rc = -1;
    strbuf_init(&packed, 2 * CHUNK_BYTES);
    strbuf_reset(&follow->bytes);
    const char *at = *text;
    while (*at && *at != '.') {
        size_t length = strcspn(at, "\n");
        strbuf_append(&packed, at, length);
        at += length + (at[length] == '\n' ? 1 : 0);
    }
    if (*at != '.' || packed.overflow ||
        decode_base64(&follow->bytes, packed.data, packed.length, err) != 0) {
        error_set(err, ERR_PROVIDER, "command: unusable output");
        goto out;
    }
    at++;
    *text = at + (*at == '\n' ? 1 : 0);
    follow->offset[stream] += (int64_t)follow->bytes.length;
    if (follow->bytes.length > 0 && follow->on_output && !follow->stopped &&
        follow->on_output(follow->arg, stream, follow->bytes.data, follow->bytes.length) != 0) {
        follow->stopped = true;
    }
    rc = 0;
out:
    strbuf_done(&packed);
    return rc;
}

static int take_status(struct follow *follow, const char *text, struct error *err)
{
    const int64_t before[2] = {follow->offset[EXEC_STDOUT], follow->offset[EXEC_STDERR]};
    char code[16];
    long long size[2];
    int reset = 0, used = 0;
    if (sscanf(text, "S %15s %lld %lld %d%n", code, &size[0], &size[1], &reset, &used) != 4 ||
        text[used] != '\n') {
        return error_set(err, ERR_PROVIDER, "command: unusable answer");
    }
    text += used + 1;
    if (take_chunk(follow, &text, EXEC_STDOUT, err) != 0 ||
        take_chunk(follow, &text, EXEC_STDERR, err) != 0) {
        return -1;
    }
    follow->drained =
        follow->offset[EXEC_STDOUT] >= size[0] && follow->offset[EXEC_STDERR] >= size[1];
    for (int stream = EXEC_STDOUT; stream <= EXEC_STDERR; stream++) {
        if (follow->offset[stream] < size[stream] && follow->offset[stream] == before[stream]) {
            return error_set(err, ERR_PROVIDER, "command: output is announced but not given");
        }
    }
    if (reset) {
        follow->offset[EXEC_STDOUT] = follow->offset[EXEC_STDERR] = 0;
    }
    if (strcmp(code, "-") != 0) {
        follow->exited = true;
        follow->exit_code = (int)strtol(code, NULL, 10);
    }
    return 0;
}

static int take_answer(struct follow *follow, const cJSON *answer, struct error *err)
{
    const char *text = script_output(answer, follow->id, err);
    if (!text) {
        return -1;
    }
    if (strncmp(text, "E cwd", 5) == 0) {
        return error_set(err, ERR_INVALID, "cwd is not a directory that can be entered");
    }
    if (text[0] == 'E') {
        char why[100];
        provider_clean_text(why, sizeof(why), text + 1, strcspn(text + 1, "\n"), NULL, 0);
        return error_set(err, ERR_PROVIDER, "command:%s", why);
    }
    if (text[0] == 'P') {
        follow->pid = strtoll(text + 1, NULL, 10);
        return 0;
    }
    return take_status(follow, text, err);
}

/* ---- a command's life ------------------------------------------------------------------------ */

/* "export NAME='value'" lines. A shell can only carry names of its own kind. */
static int put_environment(struct strbuf *out, const cJSON *envs, struct error *err)
{
    for (const cJSON *item = envs ? envs->child : NULL; item; item = item->next) {
        bool ok = item->string[0] && !isdigit((unsigned char)item->string[0]);
        for (const char *c = item->string; *c; c++) {
            ok = ok && (isalnum((unsigned char)*c) || *c == '_');
        }
        if (!ok) {
            return error_set(err, ERR_INVALID,
                             "envs: daytona takes names of letters, digits and _ only");
        }
        if (strcmp(item->string, PROVIDER_EXEC_ID) == 0 || !cJSON_IsString(item)) {
            continue;
        }
        strbuf_printf(out, "export %s=", item->string);
        put_quoted(out, item->valuestring);
        strbuf_putc(out, '\n');
    }
    return 0;
}

static int put_input(struct follow *follow, const struct exec_request *request, struct error *err)
{
    struct strbuf environment;
    int rc = -1;
    strbuf_init(&environment, 8 * 1024 * 1024);
    if (put_environment(&environment, request->envs, err) == 0) {
        encode_base64(&follow->input, environment.data, environment.length);
        strbuf_putc(&follow->input, '\n');
        encode_base64(&follow->input, request->command, strlen(request->command));
        strbuf_putc(&follow->input, '\n');
        rc = environment.overflow || follow->input.overflow
                 ? error_set(err, ERR_TOO_LARGE, "the command is too long")
                 : 0;
    }
    strbuf_done(&environment);
    return rc;
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
        put_line(follow, mode, wait_ms, NULL);
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

/* Leaves nothing of the command alive; it can be killed twice. */
static int kill_tree(struct follow *follow, struct error *err)
{
    cJSON *answer = NULL;
    bool maybe_ran;
    strbuf_reset(&follow->script);
    strbuf_puts(&follow->script, "exec /bin/sh -c ");
    put_quoted(&follow->script, provider_kill_script);
    strbuf_printf(&follow->script, " sh %s 0", follow->id);
    for (int try = 1;
         execute(follow, follow->script.data, NULL, KILL_TIMEOUT_MS, &answer, &maybe_ran, err) != 0;
         try++) {
        if (!wait_to_try(follow, try, err)) {
            return -1;
        }
    }
    const cJSON *code = cJSON_GetObjectItemCaseSensitive(answer, "exitCode");
    if (!code) {
        code = cJSON_GetObjectItemCaseSensitive(answer, "code"); /* its name in older servers */
    }
    int rc = cJSON_IsNumber(code) && code->valuedouble == 0
                 ? 0
                 : error_set(err, ERR_PROVIDER, "processes of the command could not be killed");
    cJSON_Delete(answer);
    return rc;
}

static int refuse_endless(struct error *err)
{
    return error_set(err, ERR_PROVIDER, "the command is over, its output does not end");
}

/* Follows until the command is over and all its output is taken. */
static int follow_to_end(struct follow *follow, int64_t deadline_ms, bool *ret_late,
                         struct error *err)
{
    int64_t over_ms = 0; /* when it was seen to be over */
    *ret_late = false;
    while (!follow->stopped && !(follow->exited && follow->drained)) {
        if (http_client_over(follow->client)) {
            follow->stopped = true;
            return 0;
        }
        if (!follow->exited && clock_mono_ms() >= deadline_ms) {
            *ret_late = true;
            return 0;
        }
        if (follow->exited && over_ms == 0) {
            over_ms = clock_mono_ms();
        }
        if (follow->exited && clock_mono_ms() - over_ms >= REST_MS) {
            return refuse_endless(err);
        }
        if (follow_on(follow, "follow", follow->exited ? 0 : until(deadline_ms), err) != 0) {
            return -1;
        }
    }
    return 0;
}

/* The tree is dead: what it had printed, and the end of its files. */
static int take_rest(struct follow *follow, struct error *err)
{
    const int64_t start_ms = clock_mono_ms();
    do {
        follow->drained = false;
        if (follow_on(follow, "end", 0, err) != 0) {
            return -1;
        }
        if (!follow->drained && clock_mono_ms() - start_ms >= REST_MS) {
            return refuse_endless(err);
        }
    } while (!follow->drained);
    return 0;
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

int daytona_exec(struct provider *provider, struct http_client *client,
                 const struct provider_target *target, const struct exec_request *request,
                 exec_output_fn on_output, void *arg, struct exec_result *ret, struct error *err)
{
    struct follow follow = {.daytona = (struct daytona *)provider,
                            .client = client,
                            .target = target,
                            .on_output = on_output,
                            .arg = arg};
    int64_t deadline_ms =
        request->timeout_ms > 0 ? clock_mono_ms() + request->timeout_ms : INT64_MAX;
    int64_t wait_ms = request->background ? 5000 : until(deadline_ms);
    bool maybe_ran = false, late = false;
    cJSON *answer = NULL;
    int rc = -1;
    memset(ret, 0, sizeof(*ret));
    id_uuid(follow.id);
    strbuf_init(&follow.script, 64 * 1024);
    strbuf_init(&follow.bytes, CHUNK_BYTES + 16);
    strbuf_init(&follow.input, 12 * 1024 * 1024);
    if (put_input(&follow, request, err) != 0) {
        goto out;
    }
    put_line(&follow, request->background ? "start" : "run", wait_ms, request->cwd);
    if (execute(&follow, follow.script.data, &follow.input, wait_ms, &answer, &maybe_ran, err) ==
        0) {
        rc = take_answer(&follow, answer, err);
    }
    if (rc == 0 && !request->background) {
        rc = follow_to_end(&follow, deadline_ms, &late, err);
    }
    if (rc != 0 && maybe_ran && err->code != ERR_INVALID) {
        struct error ignored = ERROR_INIT; /* failing already; this is for the sandbox's sake */
        if (kill_tree(&follow, &ignored) == 0) {
            take_rest(&follow, &ignored);
        }
        if (err->code ==
            ERR_SANDBOX_NOT_FOUND) { /* something may have run: not to be tried again */
            err->code = ERR_PROVIDER_DOWN;
        }
    }
    if (rc == 0 && (late || follow.stopped)) {
        rc = end_early(&follow, err);
    }
    ret->started = rc == 0;
    ret->pid = follow.pid;
    ret->exited = follow.exited;
    ret->exit_code = follow.exit_code;
    ret->timed_out = rc == 0 && late;
out:
    cJSON_Delete(answer);
    strbuf_done(&follow.script);
    strbuf_done(&follow.bytes);
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
    put_quoted(&line, command);
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
