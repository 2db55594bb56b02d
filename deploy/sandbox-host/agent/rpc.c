/* rpc - see rpc.h. */
#include "deploy/sandbox-host/agent/rpc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/alloc.h"
#include "common/base/encode.h"
#include "common/base/json.h"
#include "deploy/sandbox-host/agent/rpc_filesystem.h"
#include "deploy/sandbox-host/agent/rpc_process.h"

#define KEEPALIVE_DEFAULT_MS 90000
#define KEEPALIVE_MAX_S      86400

enum rpc_kind { RPC_UNARY, RPC_SERVER_STREAM, RPC_CLIENT_STREAM };

static const struct {
    const char *path;
    enum rpc_kind kind;
    rpc_unary *unary;
    rpc_stream *stream;
} methods[] = {
    {"/process.Process/List", RPC_UNARY, rpc_process_list, NULL},
    {"/process.Process/Start", RPC_SERVER_STREAM, NULL, rpc_process_start},
    {"/process.Process/Connect", RPC_SERVER_STREAM, NULL, rpc_process_connect},
    {"/process.Process/Update", RPC_UNARY, rpc_process_update, NULL},
    {"/process.Process/SendSignal", RPC_UNARY, rpc_process_send_signal, NULL},
    {"/process.Process/SendInput", RPC_UNARY, rpc_process_send_input, NULL},
    {"/process.Process/StreamInput", RPC_CLIENT_STREAM, NULL, rpc_process_stream_input},
    {"/process.Process/CloseStdin", RPC_UNARY, rpc_process_close_stdin, NULL},
    {"/filesystem.Filesystem/MakeDir", RPC_UNARY, rpc_filesystem_make_dir, NULL},
    {"/filesystem.Filesystem/ListDir", RPC_UNARY, rpc_filesystem_list_dir, NULL},
    {"/filesystem.Filesystem/Stat", RPC_UNARY, rpc_filesystem_stat, NULL},
    {"/filesystem.Filesystem/Remove", RPC_UNARY, rpc_filesystem_remove, NULL},
    {"/filesystem.Filesystem/Move", RPC_UNARY, rpc_filesystem_move, NULL},
    {"/filesystem.Filesystem/WatchDir", RPC_SERVER_STREAM, NULL, rpc_filesystem_watch_dir},
    {"/filesystem.Filesystem/CreateWatcher", RPC_UNARY, rpc_filesystem_create_watcher, NULL},
    {"/filesystem.Filesystem/GetWatcherEvents", RPC_UNARY, rpc_filesystem_get_watcher_events, NULL},
    {"/filesystem.Filesystem/RemoveWatcher", RPC_UNARY, rpc_filesystem_remove_watcher, NULL},
};

static void respond_error(struct http_exchange *exchange, const struct connect_error *err)
{
    struct strbuf text;
    cJSON *root = connect_error_json(err);

    strbuf_init(&text, 8192);
    (void)json_print(root, &text);
    cJSON_Delete(root);
    http_respond(exchange, connect_code_status(err->code), "application/json", "", text.data,
                 text.length);
    strbuf_done(&text);
}

/* Authorization: Basic base64("user:") names the Linux user; anything else is no answer to that. */
static int call_user(struct rpc_call *call, struct connect_error *err)
{
    const char *header = http_header(call->exchange, "Authorization");
    struct error cause = ERROR_INIT;
    struct strbuf name;
    int result = -1;

    strbuf_init(&name, 256);
    if (header != NULL && strncasecmp(header, "Basic ", 6) == 0) {
        if (decode_base64(&name, header + 6, strlen(header + 6), &cause) != 0) {
            connect_fail(err, CONNECT_UNAUTHENTICATED, "invalid Authorization header");
            goto out;
        }
        char *colon = memchr(name.data, ':', name.length);
        if (colon != NULL) {
            *colon = '\0';
        }
        if (strlen(name.data) != (colon != NULL ? (size_t)(colon - name.data) : name.length) ||
            !utf8_is_valid(name.data, strlen(name.data))) {
            connect_fail(err, CONNECT_UNAUTHENTICATED, "invalid Authorization header");
            goto out;
        }
    }
    if (user_lookup(call->config, name.data, &call->user, &cause) != 0) {
        connect_fail(err, CONNECT_UNAUTHENTICATED, "invalid username: '%s'", name.data);
        goto out;
    }
    result = 0;
out:
    strbuf_done(&name);
    return result;
}

static int call_headers(struct rpc_call *call, struct connect_error *err)
{
    const char *version = http_header(call->exchange, "Connect-Protocol-Version");
    const char *keepalive = http_header(call->exchange, "Keepalive-Ping-Interval");

    call->keepalive_ms = KEEPALIVE_DEFAULT_MS;
    if (keepalive != NULL && keepalive[0] != '\0' && strlen(keepalive) < 9 &&
        strspn(keepalive, "0123456789") == strlen(keepalive)) {
        const long seconds = strtol(keepalive, NULL, 10);
        /* 0 would be a ping without end */
        call->keepalive_ms = 1000 * (seconds < 1                 ? 1
                                     : seconds > KEEPALIVE_MAX_S ? KEEPALIVE_MAX_S
                                                                 : seconds);
    }
    if (version != NULL && strcmp(version, "1") != 0) {
        return connect_fail(err, CONNECT_INVALID_ARGUMENT,
                            "connect-protocol-version must be \"1\": got \"%.32s\"", version);
    }
    if (connect_parse_timeout(http_header(call->exchange, "Connect-Timeout-Ms"), &call->timeout_ms,
                              err) != 0) {
        return -1;
    }
    return call_user(call, err);
}

static int read_body(struct http_exchange *exchange, struct strbuf *body, struct connect_error *err)
{
    struct error cause = ERROR_INIT;

    if (http_read_body(exchange, body, &cause) != 0) {
        return connect_fail_from(err,
                                 cause.code == ERR_TOO_LARGE         ? CONNECT_RESOURCE_EXHAUSTED
                                 : cause.code == ERR_REQUEST_TIMEOUT ? CONNECT_DEADLINE_EXCEEDED
                                                                     : CONNECT_INVALID_ARGUMENT,
                                 "", &cause);
    }
    return 0;
}

static int parse_request(struct rpc_call *call, const char *text, size_t length,
                         struct connect_error *err)
{
    struct error cause = ERROR_INIT;

    call->request = json_parse(text, length, &cause);
    if (call->request == NULL) {
        return connect_fail_from(err, CONNECT_INVALID_ARGUMENT, "unmarshal message: ", &cause);
    }
    if (!cJSON_IsObject(call->request)) {
        return connect_fail(err, CONNECT_INVALID_ARGUMENT, "unmarshal message: not a JSON object");
    }
    return 0;
}

static void serve_unary(struct rpc_call *call, rpc_unary *method)
{
    struct connect_error err = {.code = CONNECT_OK};
    struct strbuf body, text;
    cJSON *response = cJSON_CreateObject();
    const char *encoding = http_header(call->exchange, "Content-Encoding");

    strbuf_init(&body, AGENT_MAX_REQUEST_BYTES);
    strbuf_init(&text, 64u << 20);
    if (encoding != NULL && encoding[0] != '\0' && strcasecmp(encoding, "identity") != 0) {
        connect_fail(&err, CONNECT_UNIMPLEMENTED,
                     "unknown compression \"%.32s\": supported encodings are identity", encoding);
    } else if (call_headers(call, &err) == 0 && read_body(call->exchange, &body, &err) == 0 &&
               parse_request(call, body.length > 0 ? body.data : "{}",
                             body.length > 0 ? body.length : 2, &err) == 0) {
        /* the tree holds its own copy; a large input need not be held twice */
        strbuf_done(&body);
        if (method(call, response, &err) == 0 && json_print(response, &text) != 0) {
            connect_fail(&err, CONNECT_RESOURCE_EXHAUSTED, "the answer is larger than %lu bytes",
                         (unsigned long)text.max_bytes);
        }
    }
    if (err.code == CONNECT_OK) {
        http_respond(call->exchange, 200, "application/json", "", text.data, text.length);
    } else {
        respond_error(call->exchange, &err);
    }
    cJSON_Delete(response);
    strbuf_done(&body);
    strbuf_done(&text);
}

static void serve_stream(struct rpc_call *call, rpc_stream *method, bool one_message)
{
    struct connect_error err = {.code = CONNECT_OK};
    struct connect_stream stream;
    struct strbuf body;
    const char *payload = NULL;
    size_t length = 0;
    int result;

    connect_stream_init(&stream, call->exchange);
    strbuf_init(&body, AGENT_MAX_REQUEST_BYTES);
    result = call_headers(call, &err);
    if (result == 0 && one_message) {
        result = read_body(call->exchange, &body, &err);
        if (result == 0) {
            result = connect_one_envelope(body.data, body.length, &payload, &length, &err);
        }
        if (result == 0) {
            result =
                parse_request(call, length > 0 ? payload : "{}", length > 0 ? length : 2, &err);
        }
        strbuf_done(&body);
    }
    if (result == 0) {
        result = method(call, &stream, &err);
    }
    connect_stream_end(&stream, result != 0 ? &err : NULL);
    connect_stream_done(&stream);
    strbuf_done(&body);
}

void rpc_serve(struct http_exchange *exchange, const struct agent_config *config)
{
    const char *path = http_path(exchange);
    size_t i = 0;
    const size_t count = sizeof(methods) / sizeof(methods[0]);

    while (i < count && strcmp(methods[i].path, path) != 0) {
        i++;
    }
    if (i == count) {
        http_respond(exchange, 404, "text/plain; charset=utf-8", "", "404 page not found\n", 19);
        return;
    }
    if (strcmp(http_method(exchange), "POST") != 0) {
        http_respond(exchange, 405, NULL, "Allow: POST\r\n", "", 0);
        return;
    }
    const bool unary = methods[i].kind == RPC_UNARY;
    const char *accepted = unary ? "application/json" : "application/connect+json";
    if (!connect_content_type_is(http_header(exchange, "Content-Type"), accepted)) {
        http_respond(exchange, 415, NULL,
                     unary ? "Accept-Post: application/json\r\n"
                           : "Accept-Post: application/connect+json\r\n",
                     "", 0);
        return;
    }
    struct rpc_call call = {.exchange = exchange, .config = config};
    if (unary) {
        serve_unary(&call, methods[i].unary);
    } else {
        serve_stream(&call, methods[i].stream, methods[i].kind == RPC_SERVER_STREAM);
    }
    cJSON_Delete(call.request);
}
