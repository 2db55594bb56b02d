/* door - see door.h. */
#include "deploy/template/tool-server/door.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "deploy/template/tool-server/mcp.h"

enum {
    TOKEN_BYTES = 513,
    ORIGIN_BYTES = 300,
    HEADERS_BYTES = 1024,
    QUIET_MS = 10000, /* an event stream without news gets a comment this often */
    ANSWER_BYTES = 256 << 20,
    FRAME_BYTES = 64,
};

/* One POST on its way: what it may be answered with, and what was sent so far. */
struct reply {
    struct http_exchange *exchange;
    char headers[HEADERS_BYTES]; /* CORS, session */
    bool may_stream, streaming;
    const cJSON *progress_token; /* or NULL */
    int64_t started_ms, sent_ms;
};

/* ---- who may come in ---- */

static bool is_loopback(const char *origin)
{
    static const char *const hosts[] = {"localhost", "127.0.0.1", "[::1]"};
    const char *host = strncmp(origin, "http://", 7) == 0    ? origin + 7
                       : strncmp(origin, "https://", 8) == 0 ? origin + 8
                                                             : "";

    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        const size_t length = strlen(hosts[i]);

        if (strncasecmp(host, hosts[i], length) == 0 &&
            (host[length] == '\0' || host[length] == ':')) {
            return true;
        }
    }
    return false;
}

bool door_origin_allowed(const char *list, const char *origin)
{
    const size_t wanted = strlen(origin);

    for (const char *at = list; at != NULL && *at != '\0';) {
        const size_t length = strcspn(at, ",");

        if ((length == 1 && *at == '*') ||
            (length == wanted && strncasecmp(at, origin, length) == 0)) {
            return true;
        }
        at += length + (at[length] == ',');
    }
    return is_loopback(origin);
}

/* The token in the file: 1, 0 = there is no file, -1 = there is one that cannot be used. */
static int read_token(const char *path, char ret[TOKEN_BYTES])
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0) {
        return errno == ENOENT ? 0 : -1;
    }
    n = read(fd, ret, TOKEN_BYTES);
    close(fd);
    while (n > 0 && (ret[n - 1] == '\n' || ret[n - 1] == '\r')) {
        n--;
    }
    if (n <= 0 || n == TOKEN_BYTES) {
        return -1;
    }
    ret[n] = '\0';
    return 1;
}

static bool same(const char *a, const char *b)
{
    unsigned char first[crypto_hash_sha256_BYTES], second[crypto_hash_sha256_BYTES];

    /* of one length, so that the comparison tells nothing of the token's */
    crypto_hash_sha256(first, (const unsigned char *)a, strlen(a));
    crypto_hash_sha256(second, (const unsigned char *)b, strlen(b));
    return sodium_memcmp(first, second, sizeof(first)) == 0;
}

static bool is_authorized(const struct tool_config *config, const char *header)
{
    const char *given = header != NULL && strncasecmp(header, "Bearer ", 7) == 0 ? header + 7 : "";
    char token[TOKEN_BYTES] = "";
    const int from_file = config->token_path != NULL ? read_token(config->token_path, token) : 0;
    bool allowed;

    if (from_file < 0) {
        log_event(LOG_ERROR, "door.token_unusable", LOG_S("path", config->token_path));
        return false;
    }
    allowed = (from_file > 0 && same(given, token)) ||
              (config->token != NULL && same(given, config->token)) ||
              (from_file == 0 && config->token == NULL);
    sodium_memzero(token, sizeof(token));
    return allowed;
}

/* ---- answers ---- */

static void send_json(struct reply *reply, int status, cJSON *tree)
{
    struct strbuf text;

    strbuf_init(&text, ANSWER_BYTES);
    (void)json_print(tree, &text);
    cJSON_Delete(tree);
    http_respond(reply->exchange, status, "application/json", reply->headers, text.data,
                 text.length);
    strbuf_done(&text);
}

static void refuse(struct reply *reply, int status, enum rpc_code code, const char *message)
{
    send_json(reply, status, rpc_failure(NULL, code, message));
}

static void add_header(struct reply *reply, const char *name, const char *value)
{
    const size_t used = strlen(reply->headers);

    snprintf(reply->headers + used, sizeof(reply->headers) - used, "%s: %s\r\n", name, value);
}

static int send_frame(struct reply *reply, const char *before, const char *text, size_t length)
{
    struct strbuf frame;
    int status;

    strbuf_init(&frame, length + FRAME_BYTES);
    (void)strbuf_puts(&frame, before);
    (void)strbuf_append(&frame, text, length);
    (void)strbuf_puts(&frame, "\n\n");
    status = http_stream_write(reply->exchange, frame.data, frame.length);
    strbuf_done(&frame);
    reply->sent_ms = clock_mono_ms();
    return status;
}

/* Takes `tree`. */
static int send_event(struct reply *reply, cJSON *tree)
{
    struct strbuf text;
    int status;

    strbuf_init(&text, ANSWER_BYTES);
    (void)json_print(tree, &text); /* one line: JSON has no raw line breaks in it */
    cJSON_Delete(tree);
    status = send_frame(reply, "event: message\ndata: ", text.data, text.length);
    strbuf_done(&text);
    return status;
}

static int begin_stream(struct reply *reply)
{
    if (!reply->streaming) {
        add_header(reply, "Cache-Control", "no-store");
        add_header(reply, "X-Accel-Buffering", "no");
        reply->streaming = true;
        return http_stream_begin(reply->exchange, 200, "text/event-stream", reply->headers, -1);
    }
    return 0;
}

static cJSON *progress(const struct reply *reply, const char *news)
{
    cJSON *params = cJSON_CreateObject();

    cJSON_AddItemToObject(params, "progressToken", cJSON_Duplicate(reply->progress_token, true));
    /* it has to grow; what grows with any command is time */
    cJSON_AddNumberToObject(params, "progress",
                            (double)(clock_mono_ms() - reply->started_ms) / 1000);
    if (news != NULL && news[0] != '\0') {
        tool_add_text(params, "message", news, strlen(news));
    }
    return rpc_notification("notifications/progress", params);
}

/* tool_call.waiting: about once a second while a tool waits. */
static bool still_waiting(void *arg, const char *news)
{
    struct reply *reply = arg;

    if (http_peer_gone(reply->exchange)) {
        return false;
    }
    if (!reply->may_stream) {
        return true;
    }
    if (reply->progress_token != NULL) {
        return begin_stream(reply) == 0 && send_event(reply, progress(reply, news)) == 0;
    }
    if (clock_mono_ms() - reply->sent_ms >= QUIET_MS) {
        return begin_stream(reply) == 0 && send_frame(reply, ": still running", "", 0) == 0;
    }
    return true;
}

/* `answer` NULL: there is nothing to say (cancelled, or the client has left). */
static void send_answer(struct reply *reply, cJSON *answer)
{
    if (!reply->streaming && answer != NULL) {
        send_json(reply, 200, answer);
        return;
    }
    if (answer != NULL) {
        (void)send_event(reply, answer); /* the client may be gone: nobody else wants it */
    } else if (!reply->streaming && !reply->may_stream) {
        refuse(reply, 200, RPC_INVALID_REQUEST, "the request was cancelled");
        return;
    } else {
        (void)begin_stream(reply);
    }
    (void)http_stream_end(reply->exchange);
}

/* ---- messages ---- */

static void serve_one(struct mcp_call *call, struct reply *reply, const cJSON *node)
{
    struct error err = ERROR_INIT;
    struct rpc_message message;
    cJSON *answer;

    rpc_read(node, &message, &err);
    switch (message.kind) {
    case RPC_REQUEST:
        reply->progress_token = cJSON_GetObjectItemCaseSensitive(
            cJSON_GetObjectItemCaseSensitive(message.params, "_meta"), "progressToken");
        answer = mcp_request(call, &message);
        if (strcmp(message.method, "initialize") == 0 && call->session[0] != '\0') {
            add_header(reply, "Mcp-Session-Id", call->session);
        }
        send_answer(reply, answer);
        break;
    case RPC_NOTIFICATION:
        mcp_notification(call, &message);
        http_respond(reply->exchange, 202, NULL, reply->headers, "", 0);
        break;
    case RPC_RESPONSE: /* to a request we never made */
        http_respond(reply->exchange, 202, NULL, reply->headers, "", 0);
        break;
    case RPC_BROKEN:
        send_json(reply, 400, rpc_failure(message.id, RPC_INVALID_REQUEST, err.message));
        break;
    }
}

/* Answers one after the other, in one array. */
static void serve_batch(struct mcp_call *call, struct reply *reply, const cJSON *batch)
{
    cJSON *answers = cJSON_CreateArray();
    const cJSON *node;

    reply->may_stream = false;
    cJSON_ArrayForEach(node, batch)
    {
        struct error err = ERROR_INIT;
        struct rpc_message message;
        cJSON *answer = NULL;

        rpc_read(node, &message, &err);
        if (message.kind == RPC_BROKEN) {
            answer = rpc_failure(message.id, RPC_INVALID_REQUEST, err.message);
        } else if (message.kind == RPC_NOTIFICATION) {
            mcp_notification(call, &message);
        } else if (message.kind == RPC_REQUEST && strcmp(message.method, "initialize") == 0) {
            answer = rpc_failure(message.id, RPC_INVALID_REQUEST,
                                 "initialize must not be part of a batch");
        } else if (message.kind == RPC_REQUEST) {
            answer = mcp_request(call, &message);
        }
        if (answer != NULL) {
            cJSON_AddItemToArray(answers, answer);
        }
    }
    if (cJSON_GetArraySize(answers) > 0) {
        send_json(reply, 200, answers);
    } else {
        cJSON_Delete(answers);
        http_respond(reply->exchange, 202, NULL, reply->headers, "", 0);
    }
}

/* ---- HTTP ---- */

/* Whether the client takes this type; one that says nothing takes all. */
static bool accepts(const char *header, const char *type)
{
    const size_t length = strlen(type), major = strcspn(type, "/") + 1;

    for (const char *at = header; at != NULL && *at != '\0';) {
        at += strspn(at, " \t,");
        if (strncasecmp(at, type, length) == 0 || strncmp(at, "*/*", 3) == 0 ||
            (strncasecmp(at, type, major) == 0 && at[major] == '*')) {
            return true;
        }
        at += strcspn(at, ",");
    }
    return header == NULL;
}

static bool is_json(const char *content_type)
{
    static const char json[] = "application/json";

    return content_type != NULL && strncasecmp(content_type, json, sizeof(json) - 1) == 0 &&
           strchr("; \t", content_type[sizeof(json) - 1]) != NULL;
}

/* The session and the revision that the headers name; false when refused. */
static bool read_session(const struct door *door, struct reply *reply, struct mcp_call *call,
                         const char **ret_revision)
{
    const char *session = http_header(reply->exchange, "Mcp-Session-Id");
    const char *asked = http_header(reply->exchange, "MCP-Protocol-Version");

    *ret_revision = asked != NULL ? mcp_revision(asked) : MCP_ASSUMED;
    if (*ret_revision == NULL) {
        refuse(reply, 400, RPC_INVALID_REQUEST,
               "MCP-Protocol-Version: this revision is not spoken here");
        return false;
    }
    if (session != NULL) {
        *ret_revision = session_version(door->sessions, session);
        if (*ret_revision == NULL) {
            refuse(reply, 404, RPC_INVALID_REQUEST,
                   "Mcp-Session-Id: no such session (any more); initialize again");
            return false;
        }
        /* a known id fits */
        snprintf(call->session, sizeof(call->session), "%s", session);
    }
    return true;
}

static void serve_body(const struct door *door, struct reply *reply, struct mcp_call *call,
                       const char *revision)
{
    struct error err = ERROR_INIT;
    enum rpc_code code;
    struct strbuf body;
    cJSON *tree;

    strbuf_init(&body, (size_t)door->config->max_body_bytes);
    if (http_read_body(reply->exchange, &body, &err) != 0) {
        strbuf_done(&body);
        refuse(reply, error_code_http_status(err.code), RPC_INVALID_REQUEST, err.message);
        return;
    }
    tree = rpc_parse(body.data, body.length, &code, &err);
    strbuf_done(&body);
    if (tree == NULL) {
        refuse(reply, 400, code, err.message);
    } else if (!cJSON_IsArray(tree)) {
        serve_one(call, reply, tree);
    } else if (mcp_batches(revision)) {
        serve_batch(call, reply, tree);
    } else {
        refuse(reply, 400, RPC_INVALID_REQUEST, "batches are not part of this revision");
    }
    cJSON_Delete(tree);
}

static void serve_post(const struct door *door, struct reply *reply)
{
    struct mcp_call call = {
        .config = door->config,
        .sessions = door->sessions,
        .tool = {.waiting = still_waiting, .arg = reply},
    };
    const char *accept = http_header(reply->exchange, "Accept");
    const char *revision;

    reply->may_stream = accepts(accept, "text/event-stream");
    if (!is_json(http_header(reply->exchange, "Content-Type"))) {
        refuse(reply, 415, RPC_INVALID_REQUEST, "Content-Type must be application/json");
    } else if (!accepts(accept, "application/json")) {
        refuse(reply, 406, RPC_INVALID_REQUEST,
               "Accept must list application/json and text/event-stream");
    } else if (read_session(door, reply, &call, &revision)) {
        serve_body(door, reply, &call, revision);
    }
}

static void serve_delete(const struct door *door, struct reply *reply)
{
    const char *session = http_header(reply->exchange, "Mcp-Session-Id");

    if (session == NULL || !session_end(door->sessions, session)) {
        refuse(reply, session == NULL ? 400 : 404, RPC_INVALID_REQUEST,
               "Mcp-Session-Id: no such session");
        return;
    }
    http_respond(reply->exchange, 204, NULL, reply->headers, "", 0);
}

/* Lets pages of an allowed origin see the answers, and only them. */
static void add_cors(struct reply *reply, const char *origin)
{
    add_header(reply, "Access-Control-Allow-Origin", origin);
    add_header(reply, "Access-Control-Expose-Headers", "Mcp-Session-Id");
    add_header(reply, "Vary", "Origin");
}

static void serve_preflight(struct reply *reply)
{
    add_header(reply, "Access-Control-Allow-Methods", "POST, DELETE");
    add_header(reply, "Access-Control-Allow-Headers",
               "Authorization, Content-Type, Mcp-Session-Id, MCP-Protocol-Version, Last-Event-ID");
    add_header(reply, "Access-Control-Max-Age", "600");
    http_respond(reply->exchange, 204, NULL, reply->headers, "", 0);
}

static void serve_mcp(const struct door *door, struct reply *reply)
{
    const char *method = http_method(reply->exchange);
    const char *origin = http_header(reply->exchange, "Origin");

    if (origin != NULL &&
        (strlen(origin) >= ORIGIN_BYTES || !door_origin_allowed(door->config->origins, origin))) {
        refuse(reply, 403, RPC_INVALID_REQUEST,
               "Origin: pages from there may not call (MCP_ALLOWED_ORIGINS)");
        return;
    }
    if (origin != NULL) {
        add_cors(reply, origin);
    }
    if (strcmp(method, "OPTIONS") == 0) {
        serve_preflight(reply);
    } else if (!is_authorized(door->config, http_header(reply->exchange, "Authorization"))) {
        add_header(reply, "WWW-Authenticate", "Bearer");
        refuse(reply, 401, RPC_INVALID_REQUEST,
               "Authorization: the bearer token is missing or "
               "wrong");
    } else if (strcmp(method, "POST") == 0) {
        serve_post(door, reply);
    } else if (strcmp(method, "DELETE") == 0) {
        serve_delete(door, reply);
    } else {
        /* GET would be a stream of messages the server begins; it begins none */
        add_header(reply, "Allow", "POST, DELETE, OPTIONS");
        refuse(reply, 405, RPC_INVALID_REQUEST, "only POST and DELETE");
    }
}

static void serve_health(struct reply *reply)
{
    cJSON *root = cJSON_CreateObject();

    cJSON_AddStringToObject(root, "status", "ok");
    cJSON_AddStringToObject(root, "version", VERSION);
    add_header(reply, "Cache-Control", "no-store");
    send_json(reply, 200, root);
}

void door_serve(void *arg, struct http_exchange *exchange)
{
    const struct door *door = arg;
    const char *path = http_path(exchange), *method = http_method(exchange);
    struct reply reply = {.exchange = exchange, .started_ms = clock_mono_ms()};

    reply.sent_ms = reply.started_ms;
    /* also at the root, so that the port's bare URL (the API's mcp_url) serves as it is */
    if (strcmp(path, "/mcp") == 0 || strcmp(path, "/mcp/") == 0 || strcmp(path, "/") == 0) {
        serve_mcp(door, &reply);
    } else if (strcmp(path, "/health") == 0 &&
               (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0)) {
        serve_health(&reply);
    } else {
        refuse(&reply, 404, RPC_INVALID_REQUEST, "there is /mcp and /health");
    }
    log_event(LOG_INFO, "door.served", LOG_S("method", method), LOG_S("path", path),
              LOG_I("status", http_status_sent(exchange)),
              LOG_I("ms", clock_mono_ms() - reply.started_ms));
}

void door_bad_request(void *arg, const struct http_exchange *exchange, enum error_code code,
                      const char *message, struct strbuf *headers, struct strbuf *body)
{
    cJSON *root = rpc_failure(NULL, RPC_INVALID_REQUEST, message);

    (void)arg;
    (void)exchange;
    (void)headers;
    (void)code;
    (void)json_print(root, body);
    cJSON_Delete(root);
}
