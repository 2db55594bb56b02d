/*
 * rpc_process - the methods of process.Process.
 *
 * Owns: their JSON and the event streams. Does not own: processes (process.h). Threads: each call
 * on its handler thread; a stream waits here, awake once a second to see whether the client left.
 */
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/json.h"
#include "deploy/sandbox-host/agent/process.h"
#include "deploy/sandbox-host/agent/process_control.h"
#include "deploy/sandbox-host/agent/rpc_process.h"

#define LOOK_MS         1000 /* how soon a client that left is noticed */
#define MAX_ARGS        8192
#define MAX_EXEC_BYTES  (2u << 20) /* arguments + environment: a quarter of the 8 MB stack */
#define INPUT_WAIT_MS   60000      /* without Connect-Timeout-Ms */
#define EVENT_TEXT      256
#define DEFAULT_PATH    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define DEADLINE_TEXT   "context deadline exceeded"
#define DEFAULT_COLUMNS 80
#define DEFAULT_ROWS    24
#define GATEWAY_EXEC_ID "SANDBOX_EXEC_ID"

/* ---- requests ---- */

static int get_selector(const cJSON *request, struct process_selector *ret,
                        struct connect_error *err)
{
    const cJSON *object = NULL;

    if (rpc_get_object(request, "process", &object, err) != 0) {
        return -1;
    }
    *ret = (struct process_selector){.pid = 0};
    if (object != NULL && (rpc_get_uint32(object, "pid", &ret->pid, err) != 0 ||
                           rpc_get_string(object, "tag", 1024, &ret->tag, err) != 0)) {
        return -1;
    }
    const bool has_tag =
        object != NULL && cJSON_IsString(cJSON_GetObjectItemCaseSensitive(object, "tag"));
    if (!has_tag) {
        ret->tag = NULL;
    }
    if (ret->pid == 0 && ret->tag == NULL) {
        return connect_fail(err,
                            object != NULL && cJSON_HasObjectItem(object, "pid")
                                ? CONNECT_NOT_FOUND
                                : CONNECT_UNIMPLEMENTED,
                            "no process selected: give its pid or its tag");
    }
    return 0;
}

/* NAME=value strings; a later NAME replaces an earlier one. */
struct env_list {
    char **items;
    size_t count, capacity, bytes;
};

static void env_put(struct env_list *list, const char *name, const char *value)
{
    const size_t name_bytes = strlen(name), value_bytes = strlen(value);
    char *item = xmalloc(name_bytes + value_bytes + 2);

    memcpy(item, name, name_bytes);
    item[name_bytes] = '=';
    memcpy(item + name_bytes + 1, value, value_bytes + 1);
    list->bytes += name_bytes + value_bytes + 2;
    for (size_t i = 0; i < list->count; i++) {
        if (strncmp(list->items[i], item, name_bytes + 1) == 0) {
            free(list->items[i]);
            list->items[i] = item;
            return;
        }
    }
    if (list->count + 1 >= list->capacity) {
        list->capacity = list->capacity == 0 ? 32 : 2 * list->capacity;
        list->items = xrealloc(list->items, list->capacity * sizeof(*list->items));
    }
    list->items[list->count++] = item;
    list->items[list->count] = NULL;
}

static void env_put_all(struct env_list *list, const cJSON *object)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, object)
    {
        env_put(list, item->string, item->valuestring);
    }
}

static void free_strings(char **strings)
{
    for (size_t i = 0; strings != NULL && strings[i] != NULL; i++) {
        free(strings[i]);
    }
    free(strings);
}

/* argv from cmd and args; NULL + err when one is not a string or all are too much to execute. */
static char **get_argv(const cJSON *process, const char *cmd, size_t *ret_bytes,
                       struct connect_error *err)
{
    const cJSON *args = cJSON_GetObjectItemCaseSensitive(process, "args"), *item;
    const int count = cJSON_IsArray(args) ? cJSON_GetArraySize(args) : 0;
    size_t i = 0;

    if (args != NULL && !cJSON_IsNull(args) && (!cJSON_IsArray(args) || count > MAX_ARGS)) {
        connect_fail(err, CONNECT_INVALID_ARGUMENT, "args: not an array of at most %d strings",
                     MAX_ARGS);
        return NULL;
    }
    char **argv = xcalloc((size_t)count + 2, sizeof(*argv));
    argv[i++] = xstrdup(cmd);
    *ret_bytes = strlen(cmd) + 1;
    cJSON_ArrayForEach(item, args)
    {
        if (!cJSON_IsString(item) || strlen(item->valuestring) >= AGENT_MAX_ARG_BYTES) {
            connect_fail(err, CONNECT_INVALID_ARGUMENT,
                         "args: every argument is a string shorter than %d bytes",
                         AGENT_MAX_ARG_BYTES);
            free_strings(argv);
            return NULL;
        }
        *ret_bytes += strlen(item->valuestring) + 1;
        argv[i++] = xstrdup(item->valuestring);
    }
    return argv;
}

/* ---- event streams ---- */

static int put_event(struct connect_stream *stream, const char *event)
{
    return connect_stream_put(stream, event, strlen(event));
}

static void put_start(struct connect_stream *stream, uint32_t pid)
{
    char text[EVENT_TEXT];

    snprintf(text, sizeof(text), "{\"event\":{\"start\":{\"pid\":%lu}}}", (unsigned long)pid);
    (void)put_event(stream, text);
}

static void put_end(struct connect_stream *stream, int wait_status)
{
    char text[EVENT_TEXT], status[64];

    if (WIFEXITED(wait_status)) {
        const int code = WEXITSTATUS(wait_status);
        snprintf(status, sizeof(status), "exit status %d", code);
        if (code == 0) {
            snprintf(text, sizeof(text),
                     "{\"event\":{\"end\":{\"exited\":true,\"status\":\"%s\"}}}", status);
        } else {
            snprintf(text, sizeof(text),
                     "{\"event\":{\"end\":{\"exitCode\":%d,\"exited\":true,\"status\":\"%s\","
                     "\"error\":\"%s\"}}}",
                     code, status, status);
        }
    } else {
        const char *name = sigdescr_np(WTERMSIG(wait_status));
        snprintf(status, sizeof(status), "signal: %s%s", name != NULL ? name : "unknown",
                 WCOREDUMP(wait_status) ? " (core dumped)" : "");
        if (status[8] >= 'A' && status[8] <= 'Z') {
            status[8] = (char)(status[8] - 'A' + 'a');
        }
        snprintf(text, sizeof(text),
                 "{\"event\":{\"end\":{\"exitCode\":-1,\"status\":\"%s\",\"error\":\"%s\"}}}",
                 status, status);
    }
    (void)put_event(stream, text);
}

static void put_data(struct connect_stream *stream, struct strbuf *text,
                     const struct process_chunk *chunk)
{
    static const char *const names[] = {
        [PROCESS_STDOUT] = "stdout",
        [PROCESS_STDERR] = "stderr",
        [PROCESS_PTY] = "pty",
    };

    strbuf_reset(text);
    strbuf_puts(text, "{\"event\":{\"data\":{\"");
    strbuf_puts(text, names[chunk->output]);
    strbuf_puts(text, "\":\"");
    (void)encode_base64(text, chunk->data, chunk->length);
    strbuf_puts(text, "\"}}}");
    (void)connect_stream_put(stream, text->data, text->length);
}

/*
 * Start event, output, end. `stream_deadline` (ms, mono; 0 = none) ends this stream only. Returns 0
 * after the end event or when the client left, -1 + err for the end-of-stream error.
 */
static int serve_events(struct rpc_call *call, struct connect_stream *stream,
                        struct process_sub *sub, uint32_t pid, int64_t stream_deadline,
                        struct connect_error *err)
{
    struct process_news news;
    struct strbuf text;
    int64_t last_sent = clock_mono_ms();
    int result = 0;

    strbuf_init(&text, 128 * 1024);
    put_start(stream, pid);
    bool more = connect_stream_flush(stream) == 0;
    while (more) {
        const int64_t now = clock_mono_ms();
        int64_t wait = last_sent + call->keepalive_ms - now;
        if (stream_deadline != 0 && stream_deadline - now < wait) {
            wait = stream_deadline - now;
        }
        wait = wait < 0 ? 0 : wait > LOOK_MS ? LOOK_MS : wait;
        process_wait(sub, wait, &news);
        switch (news.kind) {
        case PROCESS_DATA:
            for (int i = 0; i < news.count; i++) {
                put_data(stream, &text, news.chunks[i]);
            }
            process_news_done(&news);
            break;
        case PROCESS_ENDED:
            put_end(stream, news.wait_status);
            more = false;
            break;
        case PROCESS_EXPIRED:
            result = connect_fail(err, CONNECT_DEADLINE_EXCEEDED, DEADLINE_TEXT);
            more = false;
            break;
        case PROCESS_DROPPED:
            result = connect_fail(err, CONNECT_RESOURCE_EXHAUSTED,
                                  "this client did not read the output for %d s",
                                  PROCESS_STALL_MS / 1000);
            more = false;
            break;
        case PROCESS_IDLE:
            if (http_peer_gone(call->exchange)) {
                stream->gone = true;
                more = false;
            } else if (stream_deadline != 0 && clock_mono_ms() >= stream_deadline) {
                result = connect_fail(err, CONNECT_DEADLINE_EXCEEDED, DEADLINE_TEXT);
                more = false;
            } else if (clock_mono_ms() - last_sent >= call->keepalive_ms) {
                (void)put_event(stream, "{\"event\":{\"keepalive\":{}}}");
            }
            break;
        }
        if (more && stream->out.length > 0) {
            more = connect_stream_flush(stream) == 0;
            last_sent = clock_mono_ms();
        }
    }
    strbuf_done(&text);
    return result;
}

/* ---- methods ---- */

static int check_cwd(const char *cwd, struct connect_error *err)
{
    struct stat info;

    if (stat(cwd, &info) != 0) {
        return connect_fail(err, CONNECT_INVALID_ARGUMENT, "cwd '%.300s' does not exist", cwd);
    }
    if (!S_ISDIR(info.st_mode)) {
        return connect_fail(err, CONNECT_INVALID_ARGUMENT, "cwd '%.300s' is not a directory", cwd);
    }
    return 0;
}

/* What List shows of it; absent fields stay absent. */
static cJSON *describe(const cJSON *process)
{
    static const char *const fields[] = {"cmd", "args", "envs", "cwd"};
    cJSON *config = cJSON_CreateObject();

    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(process, fields[i]);
        if (item != NULL && !cJSON_IsNull(item) && (cJSON_IsString(item) || item->child != NULL)) {
            cJSON_AddItemToObject(config, fields[i], cJSON_Duplicate(item, true));
        }
    }
    return config;
}

static int get_pty_size(const cJSON *pty, unsigned *columns, unsigned *rows,
                        struct connect_error *err)
{
    const cJSON *size = NULL;
    uint32_t c = 0, r = 0;

    if (rpc_get_object(pty, "size", &size, err) != 0 ||
        (size != NULL && (rpc_get_uint32(size, "cols", &c, err) != 0 ||
                          rpc_get_uint32(size, "rows", &r, err) != 0))) {
        return -1;
    }
    if (c > USHRT_MAX || r > USHRT_MAX) {
        return connect_fail(err, CONNECT_INVALID_ARGUMENT, "size: at most %d", USHRT_MAX);
    }
    *columns = c;
    *rows = r;
    return 0;
}

int rpc_process_start(struct rpc_call *call, struct connect_stream *stream,
                      struct connect_error *err)
{
    const cJSON *process = NULL, *pty = NULL, *envs = NULL;
    const char *cmd = NULL, *cwd_text = NULL, *tag = NULL;
    struct spawn_spec spec = {.user = &call->user, .nofile = call->config->nofile};
    struct env_list env = {.items = NULL};
    struct error cause = ERROR_INIT;
    struct process_sub *sub = NULL;
    unsigned columns = DEFAULT_COLUMNS, rows = DEFAULT_ROWS;
    char *cwd = NULL;
    uint32_t pid = 0;
    size_t arg_bytes = 0;
    int result = -1;

    if (rpc_get_object(call->request, "process", &process, err) != 0 ||
        rpc_get_object(call->request, "pty", &pty, err) != 0 ||
        rpc_get_string(call->request, "tag", 1024, &tag, err) != 0 ||
        rpc_get_string(process, "cmd", PATH_MAX, &cmd, err) != 0 ||
        rpc_get_string(process, "cwd", PATH_MAX - 1, &cwd_text, err) != 0) {
        return -1;
    }
    if (json_get_bool(call->request, "stdin", true, &spec.stdin_pipe, &cause) != 0 ||
        (process != NULL &&
         json_get_string_map(process, "envs", AGENT_MAX_ENVS, AGENT_MAX_NAME_BYTES,
                             AGENT_MAX_ARG_BYTES - 1, &envs, &cause) != 0)) {
        return connect_fail_from(err, CONNECT_INVALID_ARGUMENT, "", &cause);
    }
    if (cmd[0] == '\0') {
        return connect_fail(err, CONNECT_INVALID_ARGUMENT, "process.cmd: missing");
    }
    if (pty != NULL) {
        if (get_pty_size(pty, &columns, &rows, err) != 0) {
            return -1;
        }
        spec.pty = true;
        spec.columns = (unsigned short)columns;
        spec.rows = (unsigned short)rows;
    }
    cwd = xmalloc(PATH_MAX);
    if (user_resolve_path(call->config, &call->user, cwd_text, cwd, &cause) != 0) {
        connect_fail_from(err, CONNECT_INVALID_ARGUMENT, "", &cause);
        goto out;
    }
    if (check_cwd(cwd, err) != 0) {
        goto out;
    }
    spec.cwd = cwd;
    spec.argv = get_argv(process, cmd, &arg_bytes, err);
    if (spec.argv == NULL) {
        goto out;
    }
    const char *path = getenv("PATH");
    env_put(&env, "PATH", path != NULL && path[0] != '\0' ? path : DEFAULT_PATH);
    env_put(&env, "HOME", call->user.home);
    env_put(&env, "USER", call->user.name);
    env_put(&env, "LOGNAME", call->user.name);
    env_put_all(&env, call->config->envs);
    env_put_all(&env, envs);
    if (cJSON_GetObjectItemCaseSensitive(envs, GATEWAY_EXEC_ID) != NULL &&
        cJSON_GetObjectItemCaseSensitive(envs, "SANDBOX_SUBREAPER") == NULL) {
        /* the gateway's runner asks for this, and would start an interpreter to get it */
        spec.subreaper = true;
        env_put(&env, "SANDBOX_SUBREAPER", "1");
    }
    spec.envp = env.items;
    if (arg_bytes + env.bytes > MAX_EXEC_BYTES) {
        connect_fail(err, CONNECT_INVALID_ARGUMENT,
                     "arguments and environment are longer than %lu bytes",
                     (unsigned long)MAX_EXEC_BYTES);
        goto out;
    }
    if (process_start(&spec, describe(process), tag[0] != '\0' ? tag : NULL, call->timeout_ms, &sub,
                      &pid, err) != 0) {
        goto out;
    }
    /* nothing of the request is needed while the command runs, maybe for days */
    cJSON_Delete(call->request);
    call->request = NULL;
    free_strings(spec.argv);
    free_strings(env.items);
    free(cwd);
    spec.argv = env.items = NULL;
    cwd = NULL;
    result = serve_events(call, stream, sub, pid, 0, err);
    process_unsubscribe(sub);
out:
    free_strings(spec.argv);
    free_strings(env.items);
    free(cwd);
    return result;
}

int rpc_process_connect(struct rpc_call *call, struct connect_stream *stream,
                        struct connect_error *err)
{
    struct process_selector selector;
    struct process_sub *sub = NULL;
    uint32_t pid = 0;

    if (get_selector(call->request, &selector, err) != 0 ||
        process_connect(&selector, &sub, &pid, err) != 0) {
        return -1;
    }
    const int64_t deadline = call->timeout_ms >= 0 ? clock_mono_ms() + call->timeout_ms : 0;
    const int result = serve_events(call, stream, sub, pid, deadline, err);
    process_unsubscribe(sub);
    return result;
}

int rpc_process_list(struct rpc_call *call, cJSON *response, struct connect_error *err)
{
    cJSON *list = process_list();

    (void)call;
    (void)err;
    if (list->child != NULL) {
        cJSON_AddItemToObject(response, "processes", list);
    } else {
        cJSON_Delete(list);
    }
    return 0;
}

int rpc_process_update(struct rpc_call *call, cJSON *response, struct connect_error *err)
{
    struct process_selector selector;
    const cJSON *pty = NULL;
    unsigned columns = 0, rows = 0;

    (void)response;
    if (get_selector(call->request, &selector, err) != 0 ||
        rpc_get_object(call->request, "pty", &pty, err) != 0) {
        return -1;
    }
    if (pty == NULL) {
        return 0;
    }
    if (get_pty_size(pty, &columns, &rows, err) != 0) {
        return -1;
    }
    return process_resize(&selector, columns, rows, err);
}

int rpc_process_send_signal(struct rpc_call *call, cJSON *response, struct connect_error *err)
{
    struct process_selector selector;
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(call->request, "signal");
    int number = 0;

    (void)response;
    if (get_selector(call->request, &selector, err) != 0) {
        return -1;
    }
    if (cJSON_IsString(item)) {
        number = strcmp(item->valuestring, "SIGNAL_SIGKILL") == 0   ? SIGKILL
                 : strcmp(item->valuestring, "SIGNAL_SIGTERM") == 0 ? SIGTERM
                                                                    : 0;
    } else if (cJSON_IsNumber(item)) {
        number = item->valueint;
    }
    if (number != SIGKILL && number != SIGTERM) {
        return connect_fail(err, CONNECT_UNIMPLEMENTED,
                            "invalid signal: SIGNAL_SIGKILL and SIGNAL_SIGTERM can be sent");
    }
    return process_signal(&selector, number, err);
}

/* Writes the ProcessInput in `holder`.input. */
static int write_input(const struct rpc_call *call, const struct process_selector *selector,
                       const cJSON *holder, struct connect_error *err)
{
    const cJSON *input = NULL;
    struct error cause = ERROR_INIT;
    struct strbuf bytes;

    if (rpc_get_object(holder, "input", &input, err) != 0) {
        return -1;
    }
    const cJSON *to_stdin = cJSON_GetObjectItemCaseSensitive(input, "stdin");
    const cJSON *to_pty = cJSON_GetObjectItemCaseSensitive(input, "pty");
    const cJSON *data = cJSON_IsString(to_pty) ? to_pty : to_stdin;
    if (!cJSON_IsString(data)) {
        return connect_fail(err, CONNECT_UNIMPLEMENTED,
                            "invalid input: give stdin or pty, base64 text");
    }
    strbuf_init(&bytes, AGENT_MAX_REQUEST_BYTES);
    int result = decode_base64(&bytes, data->valuestring, strlen(data->valuestring), &cause);
    if (result != 0) {
        connect_fail_from(err, CONNECT_INVALID_ARGUMENT, "unmarshal message: ", &cause);
    } else {
        result = process_write(selector, data == to_pty, bytes.data, bytes.length,
                               call->timeout_ms >= 0 ? call->timeout_ms : INPUT_WAIT_MS, err);
    }
    strbuf_done(&bytes);
    return result;
}

int rpc_process_send_input(struct rpc_call *call, cJSON *response, struct connect_error *err)
{
    struct process_selector selector;

    (void)response;
    if (get_selector(call->request, &selector, err) != 0) {
        return -1;
    }
    return write_input(call, &selector, call->request, err);
}

int rpc_process_close_stdin(struct rpc_call *call, cJSON *response, struct connect_error *err)
{
    struct process_selector selector;

    (void)response;
    if (get_selector(call->request, &selector, err) != 0) {
        return -1;
    }
    return process_close_stdin(&selector, err);
}

/* Fills buf wholly: 1, or 0 at the end of the body before the first byte, or -1. */
static int read_exactly(struct http_exchange *exchange, void *buf, size_t bytes)
{
    size_t done = 0;

    while (done < bytes) {
        const long n = http_read(exchange, (char *)buf + done, bytes - done);
        if (n <= 0) {
            return n == 0 && done == 0 ? 0 : -1;
        }
        done += (size_t)n;
    }
    return 1;
}

/* One message of the client's stream. `target` is filled by the first, which names the process. */
static int stream_input_message(struct rpc_call *call, const char *payload, size_t length,
                                struct process_selector *target, char **target_tag,
                                struct connect_error *err)
{
    struct error cause = ERROR_INIT;
    const cJSON *start = NULL, *data = NULL, *keepalive = NULL;
    int result = -1;
    cJSON *message = json_parse(payload, length, &cause);

    if (message == NULL) {
        return connect_fail_from(err, CONNECT_INVALID_ARGUMENT, "unmarshal message: ", &cause);
    }
    if (rpc_get_object(message, "start", &start, err) != 0 ||
        rpc_get_object(message, "data", &data, err) != 0 ||
        rpc_get_object(message, "keepalive", &keepalive, err) != 0) {
        goto out;
    }
    if (start != NULL) {
        result = get_selector(start, target, err) != 0 ? -1 : process_check(target, err);
        free(*target_tag);
        *target_tag = result == 0 && target->tag != NULL ? xstrdup(target->tag) : NULL;
        target->tag = *target_tag;
    } else if (data != NULL) {
        if (target->pid == 0 && target->tag == NULL) {
            connect_fail(err, CONNECT_INVALID_ARGUMENT, "the first message must be start");
            goto out;
        }
        result = write_input(call, target, data, err);
    } else if (keepalive != NULL) {
        result = 0;
    } else {
        connect_fail(err, CONNECT_UNIMPLEMENTED, "invalid event type");
    }
out:
    cJSON_Delete(message);
    return result;
}

int rpc_process_stream_input(struct rpc_call *call, struct connect_stream *stream,
                             struct connect_error *err)
{
    struct process_selector target = {.pid = 0};
    char *target_tag = NULL, *payload = NULL;
    unsigned char bytes[CONNECT_HEAD_BYTES];
    int result;

    while ((result = read_exactly(call->exchange, bytes, sizeof(bytes))) == 1) {
        const struct connect_head head = connect_head_parse(bytes);
        if ((head.flags & CONNECT_FLAG_END) != 0) {
            result = 0;
            break;
        }
        if (head.flags != 0 || head.length > AGENT_MAX_REQUEST_BYTES) {
            result = connect_fail(err, CONNECT_RESOURCE_EXHAUSTED,
                                  "a message is compressed or larger than %lu bytes",
                                  (unsigned long)AGENT_MAX_REQUEST_BYTES);
            goto out;
        }
        payload = xmalloc((size_t)head.length + 1);
        if (head.length > 0 && read_exactly(call->exchange, payload, head.length) != 1) {
            result = -1;
            break;
        }
        payload[head.length] = '\0';
        if (stream_input_message(call, head.length > 0 ? payload : "{}",
                                 head.length > 0 ? head.length : 2, &target, &target_tag,
                                 err) != 0) {
            result = -1;
            goto out;
        }
        free(payload);
        payload = NULL;
    }
    if (result < 0) {
        connect_fail(err, CONNECT_UNKNOWN, "error streaming input: unexpected end of the body");
    } else {
        (void)connect_stream_put(stream, "{}", 2);
    }
out:
    free(payload);
    free(target_tag);
    return result;
}
