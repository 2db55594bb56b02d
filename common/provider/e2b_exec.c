/*
 * e2b_exec - commands through envd's process.Process/Start.
 *
 * Owns: the start request, the event stream, deadlines. Does not own: what is done with the output,
 * what runs in the sandbox (exec_script). Threads: a client belongs to its caller. Failure: a
 * stream that ends without its result is an error, never an exit 0; a timeout names what it could
 * not kill.
 *
 * envd's stream lasts as long as anybody holds the command's outputs, its deadline ends that stream
 * and kills one pid only. So a runner of ours is what envd starts: it ends the command at its time
 * and writes how it ended into the output. Only where no such mark comes in time the command is
 * killed from here, by a second command.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/id.h"
#include "common/provider/e2b.h"
#include "common/provider/exec_script.h"

enum {
    MESSAGE_MAX_BYTES = 4 * 1024 * 1024, /* envd sends chunks of 32 KiB; leave others room */
    ERROR_BODY_MAX_BYTES = 16 * 1024,
    KEEPALIVE_SECONDS = 50,
    IDLE_MS = 3 * KEEPALIVE_SECONDS * 1000, /* three keepalives missed: the stream is dead */
    KILL_TIMEOUT_MS = 2000,
    SIGNAL_TIMEOUT_MS = 2000,
};

/* ---- one Start stream ------------------------------------------------------------------------ */

struct run {
    struct connect_stream stream;
    exec_output_fn on_output; /* NULL discards */
    void *arg;
    int (*on_tick)(void *arg); /* or NULL */
    struct exec_marks marks;
    struct exec_result *result;
    struct strbuf decoded;
    bool detach;  /* leave once the command runs */
    bool stopped; /* on_output asked to stop */
    bool got_end;
    int64_t runner_pid;
    bool broken; /* the bytes were no Connect stream; err says why */
    struct error *err;
};

/* Go's names of signals, as os.ProcessState prints them ("signal: killed"). */
static int signal_number(const char *status)
{
    static const struct {
        const char *name;
        int number;
    } names[] = {{"hangup", 1},
                 {"interrupt", 2},
                 {"quit", 3},
                 {"illegal instruction", 4},
                 {"trace/breakpoint trap", 5},
                 {"aborted", 6},
                 {"bus error", 7},
                 {"floating point exception", 8},
                 {"killed", 9},
                 {"user defined signal 1", 10},
                 {"segmentation fault", 11},
                 {"user defined signal 2", 12},
                 {"broken pipe", 13},
                 {"alarm clock", 14},
                 {"terminated", 15},
                 {"stack fault", 16},
                 {"cpu time limit exceeded", 24},
                 {"file size limit exceeded", 25},
                 {"bad system call", 31}};
    if (strncmp(status, "signal: ", 8) != 0) {
        return 0;
    }
    status += 8;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        size_t length = strlen(names[i].name);
        /* " (core dumped)" may follow */
        if (strncmp(status, names[i].name, length) == 0 &&
            (status[length] == '\0' || status[length] == ' ')) {
            return names[i].number;
        }
    }
    long number = strncmp(status, "signal ", 7) == 0 ? strtol(status + 7, NULL, 10) : 0;
    return number > 0 && number < 65 ? (int)number : 0;
}

/* proto3 JSON omits what is 0 or false: no exitCode is exit 0, no exited is a signal if the code
 * is -1. */
static int take_end(struct run *run, const cJSON *end, struct error *err)
{
    const cJSON *code = cJSON_GetObjectItemCaseSensitive(end, "exitCode");
    const cJSON *status = cJSON_GetObjectItemCaseSensitive(end, "status");
    int exit_code = 0;
    if (code && !cJSON_IsNull(code)) {
        if (!cJSON_IsNumber(code) || code->valuedouble < -1 || code->valuedouble > 255) {
            return error_set(err, ERR_PROVIDER, "unusable exit code");
        }
        exit_code = (int)code->valuedouble;
    }
    int number = cJSON_IsString(status) ? signal_number(status->valuestring) : 0;
    run->got_end = true;
    if (!exec_marks_complete(&run->marks)) { /* the runner was killed, with the command maybe */
        run->result->exited = true;
        run->result->timed_out = false;
        run->result->exit_code = exit_code >= 0 && number == 0 ? exit_code : 128 + number;
    }
    return 0;
}

/* Delivers one field of a data event. */
static int take_data(struct run *run, const cJSON *data, const char *field, enum exec_stream stream,
                     struct error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(data, field);
    if (!cJSON_IsString(item) || !item->valuestring[0]) {
        return 0;
    }
    strbuf_reset(&run->decoded);
    if (decode_base64(&run->decoded, item->valuestring, strlen(item->valuestring), err) != 0) {
        err->code = ERR_PROVIDER;
        return -1;
    }
    if (run->decoded.length > 0 &&
        exec_marks_feed(&run->marks, stream, run->decoded.data, run->decoded.length, run->on_output,
                        run->arg) != 0) {
        run->stopped = true;
        return -1;
    }
    return 0;
}

/* Nothing more of the stream is wanted. */
static bool has_all(const struct run *run)
{
    return run->detach ? run->result->pid > 0 || exec_marks_complete(&run->marks)
                       : exec_marks_complete(&run->marks);
}

/* Events of unknown kinds, keepalives and empty messages say nothing to us. */
static int on_message(void *arg, const char *json, size_t bytes, struct error *err)
{
    struct run *run = arg;
    int rc = 0;
    cJSON *root = json_parse(json, bytes, err);
    if (!root) {
        err->code = ERR_PROVIDER;
        return -1;
    }
    const cJSON *event = cJSON_GetObjectItemCaseSensitive(root, "event");
    const cJSON *start = cJSON_GetObjectItemCaseSensitive(event, "start");
    const cJSON *data = cJSON_GetObjectItemCaseSensitive(event, "data");
    const cJSON *end = cJSON_GetObjectItemCaseSensitive(event, "end");
    if (cJSON_IsObject(start)) {
        const cJSON *pid = cJSON_GetObjectItemCaseSensitive(start, "pid");
        run->result->started = true;
        if (cJSON_IsNumber(pid) && pid->valuedouble > 0 && pid->valuedouble < 4294967296.0) {
            run->runner_pid = (int64_t)pid->valuedouble;
        }
    } else if (cJSON_IsObject(data)) {
        rc = take_data(run, data, "stdout", EXEC_STDOUT, err);
        if (rc == 0) {
            rc = take_data(run, data, "stderr", EXEC_STDERR, err);
        }
        if (rc == 0) {
            rc = take_data(run, data, "pty", EXEC_STDOUT, err);
        }
    } else if (cJSON_IsObject(end)) {
        rc = take_end(run, end, err);
    }
    cJSON_Delete(root);
    return rc == 0 && !run->got_end && has_all(run) ? -1 : rc;
}

static int on_bytes(void *arg, const void *data, size_t bytes)
{
    struct run *run = arg;
    if (connect_stream_feed(&run->stream, data, bytes, on_message, run, run->err) == 0) {
        return 0;
    }
    if (!run->stopped && !has_all(run)) {
        run->broken = true;
    }
    return -1;
}

static int on_tick(void *arg)
{
    struct run *run = arg;
    if (run->on_tick && run->on_tick(run->arg) != 0) {
        run->result->left = true;
        return -1;
    }
    return 0;
}

struct start {
    const cJSON *process; /* cmd, args, envs, cwd */
    const char *user_header;
    int64_t timeout_ms; /* of the exchange; 0 = unlimited */
};

/* Fills the Start request but for its bounds. */
static int build_start(const struct e2b *e2b, const struct provider_target *target,
                       const struct start *start, struct http_request *request, struct error *err)
{
    struct strbuf json;
    if (e2b_envd_request(e2b, target, "POST", "/process.Process/Start", request, err) != 0) {
        return -1;
    }
    strbuf_printf(&request->headers,
                  "Content-Type: application/connect+json\nConnect-Protocol-Version: 1\n"
                  "Keepalive-Ping-Interval: %d\n%s",
                  KEEPALIVE_SECONDS, start->user_header);
    cJSON *body = cJSON_CreateObject();
    cJSON_AddItemToObject(body, "process", cJSON_Duplicate(start->process, 1));
    cJSON_AddFalseToObject(body, "stdin"); /* before envd 0.3.0 it is open all the same */
    strbuf_init(&json, request->body.max_bytes - 5);
    int printed = json_print(body, &json);
    cJSON_Delete(body);
    if (printed == 0) {
        printed = connect_envelope_put(&request->body, json.data, json.length);
    }
    strbuf_done(&json);
    if (printed != 0) {
        return error_set(err, ERR_TOO_LARGE, "the command is too long");
    }
    request->has_body = true;
    request->once = true; /* a command must never be sent twice */
    request->timeout_ms = start->timeout_ms;
    request->max_response_bytes = ERROR_BODY_MAX_BYTES;
    return 0;
}

/*
 * Performs one Start. Returns 0 when the stream came to its end, or was left on purpose (all is
 * known, stopped, on_tick), or our deadline passed (*ret_late). -1 + err otherwise;
 * *ret_maybe_running tells whether a process may have been started and not be over.
 */
static int run_start(const struct e2b *e2b, struct http_client *client,
                     const struct provider_target *target, const struct start *start,
                     struct run *run, bool *ret_late, bool *ret_maybe_running, struct error *err)
{
    struct http_request request;
    struct http_response response;
    struct http_stream stream = {
        .on_data = on_bytes, .on_tick = on_tick, .arg = run, .body_bytes = -1, .idle_ms = IDLE_MS};
    int rc = -1;
    *ret_late = false;
    *ret_maybe_running = false;
    run->err = err;
    connect_stream_init(&run->stream, MESSAGE_MAX_BYTES);
    strbuf_init(&run->decoded, MESSAGE_MAX_BYTES);
    http_request_init(&request);
    if (build_start(e2b, target, start, &request, err) != 0) {
        goto out;
    }

    int64_t deadline_ms = clock_mono_ms() + start->timeout_ms;
    http_client_stream(client, &request, &stream, &response);

    if (run->stopped || run->result->left || (has_all(run) && !run->broken)) {
        *ret_maybe_running = run->stopped;
        rc = 0;
    } else if (run->broken) {
        *ret_maybe_running = true;
        error_prefix(err, "command stream");
    } else if (run->stream.ended && run->stream.end.code == CONNECT_NONE && run->got_end) {
        (void)exec_marks_flush(&run->marks, run->on_output, run->arg);
        rc = 0;
    } else if (run->stream.ended && run->stream.end.code == CONNECT_DEADLINE_EXCEEDED) {
        *ret_late = *ret_maybe_running = true;
        rc = 0;
    } else if (run->stream.ended && run->stream.end.code != CONNECT_NONE) {
        *ret_maybe_running = run->result->started;
        e2b_rpc_error(e2b, target, &run->stream.end, "command", err);
        if (err->code == ERR_FILE_NOT_FOUND) {
            err->code = ERR_PROVIDER; /* no file was asked for */
        }
    } else if (run->stream.ended) {
        *ret_maybe_running = run->result->started;
        error_set(err, ERR_PROVIDER, "the command's stream ended without its result");
    } else if (response.transport == HTTP_NOT_SENT) {
        e2b_envd_check(e2b, target, &response, "command", err);
    } else if (start->timeout_ms > 0 && response.transport == HTTP_AMBIGUOUS &&
               clock_mono_ms() >= deadline_ms) {
        *ret_late = *ret_maybe_running = true;
        rc = 0;
    } else if (response.transport == HTTP_AMBIGUOUS) {
        *ret_maybe_running = true;
        e2b_envd_check(e2b, target, &response, "the command's stream broke", err);
    } else if (e2b_envd_check(e2b, target, &response, "command", err) == 0) {
        *ret_maybe_running = true;
        error_set(err, ERR_PROVIDER_DOWN, "the command's stream broke off");
    } else if (err->code == ERR_FILE_NOT_FOUND) {
        err->code = ERR_PROVIDER;
    }
out:
    http_request_done(&request);
    strbuf_done(&run->decoded);
    connect_stream_done(&run->stream);
    return rc;
}

/* ---- killing --------------------------------------------------------------------------------- */

/* Keeps the first of what is printed. */
static int on_left(void *arg, enum exec_stream stream, const void *data, size_t bytes)
{
    struct strbuf *left = arg;
    size_t room = left->max_bytes - left->length;
    if (stream == EXEC_STDOUT) {
        strbuf_append(left, data, bytes < room ? bytes : room);
    }
    return 0;
}

static int run_kill_script(const struct e2b *e2b, struct http_client *client,
                           const struct provider_target *target, const char *exec_id, int64_t pid,
                           const char *user_header, struct exec_result *ret, struct error *err)
{
    struct exec_result result = {0};
    struct strbuf left;
    struct run run = {
        .result = &result, .marks = {.id = exec_id, .result = &result}, .on_output = on_left};
    char pid_text[24];
    bool late, maybe_running;
    strbuf_init(&left, 1024);
    run.arg = &left;
    snprintf(pid_text, sizeof(pid_text), "%lld", (long long)pid);
    cJSON *process = cJSON_CreateObject();
    cJSON_AddStringToObject(process, "cmd", "/bin/sh");
    cJSON *args = cJSON_AddArrayToObject(process, "args");
    cJSON_AddItemToArray(args, cJSON_CreateString("-c"));
    cJSON_AddItemToArray(args, cJSON_CreateString(provider_script_kill));
    cJSON_AddItemToArray(args, cJSON_CreateString("sh"));
    cJSON_AddItemToArray(args, cJSON_CreateString(exec_id));
    cJSON_AddItemToArray(args, cJSON_CreateString(pid_text));
    const struct start start = {
        .process = process, .user_header = user_header, .timeout_ms = KILL_TIMEOUT_MS};
    int rc = run_start(e2b, client, target, &start, &run, &late, &maybe_running, err);
    cJSON_Delete(process);
    if (rc == 0 && (late || !result.exited || exec_take_left(ret, left.data) != 0)) {
        rc = error_set(err, ERR_PROVIDER, "processes of the command could not be killed");
    }
    strbuf_done(&left);
    return rc;
}

/* Kills the command and all it started; ret->survivors are what it could not. -1 + err when that
 * could not be tried. */
static int kill_tree(const struct e2b *e2b, struct http_client *client,
                     const struct provider_target *target, const char *exec_id, int64_t pid,
                     struct exec_result *ret, struct error *err)
{
    struct error root_err = ERROR_INIT;
    int rc = run_kill_script(e2b, client, target, exec_id, pid, E2B_USER_HEADER, ret, err);
    /* root reaches what the command started through sudo */
    if ((rc != 0 && err->code != ERR_SANDBOX_NOT_FOUND) || (rc == 0 && ret->survivor_count > 0)) {
        struct exec_result reached = {0};
        if (run_kill_script(e2b, client, target, exec_id, pid, E2B_ROOT_HEADER, &reached,
                            &root_err) == 0 &&
            (rc != 0 || reached.survivor_count < ret->survivor_count)) {
            ret->survivor_count = reached.survivor_count;
            memcpy(ret->survivors, reached.survivors, sizeof(ret->survivors));
            rc = 0;
        }
    }
    if (pid <= 0 || (rc != 0 && err->code == ERR_SANDBOX_NOT_FOUND)) {
        return rc;
    }
    /* envd's own kill also ends its wait for holders of the output */
    struct error ignored = ERROR_INIT; /* usually "not found": the process is dead already */
    cJSON *answer = NULL;
    cJSON *body = cJSON_CreateObject();
    json_add_int64(cJSON_AddObjectToObject(body, "process"), "pid", pid);
    cJSON_AddStringToObject(body, "signal", "SIGNAL_SIGKILL");
    if (e2b_unary(e2b, client, target, "/process.Process/SendSignal", body, SIGNAL_TIMEOUT_MS,
                  &answer, &ignored) == 0) {
        cJSON_Delete(answer);
    }
    cJSON_Delete(body);
    return rc;
}

/* ---- exec ------------------------------------------------------------------------------------ */

/*
 * No argument of a program may be longer than 128 KiB: a longer command travels in pieces, which
 * the shell puts together again. None of them ends within a character.
 */
static void add_command(cJSON *args, const char *command)
{
    enum { PIECE_BYTES = 100000 };
    static const char join[] = "IFS=; __command=$*; unset IFS; set --; eval \"$__command\"";
    size_t left = strlen(command);
    if (left <= PIECE_BYTES) {
        cJSON_AddItemToArray(args, cJSON_CreateString(command));
        return;
    }
    cJSON_AddItemToArray(args, cJSON_CreateString(join));
    cJSON_AddItemToArray(args, cJSON_CreateString("bash"));
    while (left > 0) {
        size_t bytes = left < PIECE_BYTES ? left : PIECE_BYTES;
        while (bytes < left && ((unsigned char)command[bytes] & 0xc0) == 0x80) {
            bytes--;
        }
        char *piece = xmalloc(bytes + 1);
        memcpy(piece, command, bytes);
        piece[bytes] = '\0';
        cJSON_AddItemToArray(args, cJSON_CreateString(piece));
        free(piece);
        command += bytes;
        left -= bytes;
    }
}

static void add_arg(cJSON *args, const char *text)
{
    cJSON_AddItemToArray(args, cJSON_CreateString(text));
}

/* envd starts boot.sh, which becomes runner.sh, which runs bash with the command. */
static cJSON *build_process(const struct exec_request *request, const char *exec_id)
{
    /* tells the pid of what it becomes */
    static const char tell_pid[] =
        "printf '\\001%s P %s\\002' \"$" PROVIDER_EXEC_ID "\" $$; exec \"$@\"";
    struct strbuf command;
    char limit[24];
    cJSON *process = cJSON_CreateObject();
    cJSON_AddStringToObject(process, "cmd", "/bin/sh");
    cJSON *args = cJSON_AddArrayToObject(process, "args");
    add_arg(args, "-c");
    add_arg(args, provider_script_boot);
    add_arg(args, "sh");
    add_arg(args, provider_script_runner);
    snprintf(limit, sizeof(limit), "%lld", (long long)exec_script_limit(request));
    add_arg(args, limit);
    add_arg(args, request->cwd ? request->cwd : "");
    add_arg(args, provider_script_kill);
    if (request->background) {
        add_arg(args, "/bin/sh");
        add_arg(args, "-c");
        add_arg(args, tell_pid);
        add_arg(args, "sh");
    }
    add_arg(args, "/bin/bash");
    add_arg(args, "-l");
    add_arg(args, "-c");
    strbuf_init(&command, 16 * 1024 * 1024);
    exec_script_command(request->command, request->envs, &command);
    add_command(args, command.data);
    strbuf_done(&command);
    cJSON *envs = request->envs ? cJSON_Duplicate(request->envs, 1) : cJSON_CreateObject();
    cJSON_DeleteItemFromObjectCaseSensitive(envs, PROVIDER_EXEC_ID);
    cJSON_AddStringToObject(envs, PROVIDER_EXEC_ID, exec_id);
    cJSON_AddItemToObject(process, "envs", envs);
    return process;
}

int e2b_exec(struct provider *provider, struct http_client *client,
             const struct provider_target *target, const struct exec_request *request,
             exec_output_fn on_output, void *arg, struct exec_result *ret, struct error *err)
{
    const struct e2b *e2b = (struct e2b *)provider;
    char exec_id[UUID_BYTES];
    struct run run = {.on_output = on_output,
                      .on_tick = request->on_tick,
                      .arg = arg,
                      .marks = {.id = exec_id, .result = ret},
                      .result = ret,
                      .detach = request->background};
    bool late, maybe_running;
    memset(ret, 0, sizeof(*ret));
    id_uuid(exec_id);
    cJSON *process = build_process(request, exec_id);
    const struct start start = {.process = process,
                                .user_header = E2B_USER_HEADER,
                                .timeout_ms = !request->background && request->timeout_ms > 0
                                                  ? request->timeout_ms + EXEC_ANSWER_MS
                                                  : 0};
    int rc = run_start(e2b, client, target, &start, &run, &late, &maybe_running, err);
    cJSON_Delete(process);
    if (rc == 0 && exec_marks_check(&run.marks, err) != 0) {
        return -1;
    }
    if (rc == 0 && ret->pid == 0) {
        ret->pid = run.runner_pid;
    }
    if (!maybe_running) {
        return rc;
    }

    struct error kill_err = ERROR_INIT;
    int killed = kill_tree(e2b, client, target, exec_id, run.runner_pid, ret, &kill_err);
    if (rc != 0) { /* already failing; the kill was for the sandbox's sake */
        return -1;
    }
    if (killed != 0) {
        if (kill_err.code == ERR_SANDBOX_NOT_FOUND) {
            return error_set(err, ERR_PROVIDER_DOWN, "the sandbox went away under the command");
        }
        *err = kill_err;
        return error_prefix(err, "the command is over its time");
    }
    ret->timed_out = late;
    ret->exited = false;
    return 0;
}

/* ---- a start command ------------------------------------------------------------------------- */

int e2b_start_request(struct provider *provider, const struct provider_target *target,
                      const char *command, struct http_request *ret, struct error *err)
{
    /* its own shell ends at once, and with it the stream: what it started holds no output of it */
    static const char detach[] = "setsid bash -l -c \"$0\" </dev/null >/dev/null 2>&1 &";
    cJSON *process = cJSON_CreateObject();
    cJSON_AddStringToObject(process, "cmd", "/bin/bash");
    cJSON *args = cJSON_AddArrayToObject(process, "args");
    cJSON_AddItemToArray(args, cJSON_CreateString("-c"));
    cJSON_AddItemToArray(args, cJSON_CreateString(detach));
    cJSON_AddItemToArray(args, cJSON_CreateString(command));
    const struct start start = {
        .process = process, .user_header = E2B_USER_HEADER, .timeout_ms = SIGNAL_TIMEOUT_MS};
    int rc = build_start((struct e2b *)provider, target, &start, ret, err);
    cJSON_Delete(process);
    return rc;
}

int e2b_start_check(struct provider *provider, const struct provider_target *target,
                    const struct http_response *response, struct error *err)
{
    const struct e2b *e2b = (struct e2b *)provider;
    struct exec_result result = {0};
    struct run run = {
        .result = &result, .marks = {.id = "no command of ours", .result = &result}, .err = err};
    int rc = -1;
    if (e2b_envd_check(e2b, target, response, "start command", err) != 0) {
        return -1;
    }
    connect_stream_init(&run.stream, MESSAGE_MAX_BYTES);
    strbuf_init(&run.decoded, MESSAGE_MAX_BYTES);
    if (connect_stream_feed(&run.stream, response->body, response->body_bytes, on_message, &run,
                            err) != 0) {
        error_prefix(err, "start command");
    } else if (run.stream.ended && run.stream.end.code != CONNECT_NONE) {
        e2b_rpc_error(e2b, target, &run.stream.end, "start command", err);
    } else if (!run.got_end || result.exit_code != 0) {
        error_set(err, ERR_PROVIDER, "start command: the sandbox has no bash or no setsid");
    } else {
        rc = 0;
    }
    strbuf_done(&run.decoded);
    connect_stream_done(&run.stream);
    return rc;
}
