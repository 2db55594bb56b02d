/*
 * Fuzz target: a request of any route, from its bytes to the answer. Router, headers, token, JSON,
 * every handler's reading of its body and query and common/httpd itself, socket included, are the
 * real ones; PostgreSQL and Redis are away, so a request that is in order ends at 503. Every
 * request gets one well-formed answer that a server may give, and never a 500.
 *
 * Input: byte 0 the route, or 255 for a whole request: head and body. After a route: lines of more
 * headers up to an empty line, with ?query as a line of its own; then the body. $TOKEN is a good
 * token.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/json.h"
#include "common/base/log.h"
#include "common/httpd/httpd.h"
#include "gateway/auth/jwt.h"
#include "gateway/gateway.h"
#include "gateway/http/router.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ID     "11111111-2222-4333-8444-555555555555"
#define SECRET "0123456789abcdef0123456789abcdef"

enum { HEAD_MAX_BYTES = 16384, OUT_MAX_BYTES = 1 << 24 };

static const struct {
    const char *name, *method, *path;
} routes[] = {
#define X(method, path, flags, handler) {#handler, method, path},
#include "gateway/http/routes.def"
#undef X
};
enum { ROUTE_COUNT = sizeof(routes) / sizeof(routes[0]) };

static struct gateway gateway;
static struct httpd *server;
static char token[TOKEN_BYTES];

/* ---- the gateway, once ----------------------------------------------------------------------- */

static void must(bool good, const struct error *err)
{
    if (!good) {
        fprintf(stderr, "fuzz_request: %s\n", err->message);
        abort();
    }
}

static void make_token(void)
{
    const struct auth_options options = {.secret = SECRET};
    struct error err = ERROR_INIT;
    struct token_keys *keys = token_keys_new(&options, &err);
    int64_t now_s = clock_wall_ms() / 1000;
    const struct token_claims claims = {.subject = "fuzz", .expires_at_s = now_s + 10000000};

    must(keys != NULL && token_sign(keys, &claims, now_s, token, sizeof(token), &err) == 0, &err);
    token_keys_free(keys);
}

static void set_environment(void)
{
    setenv("DATABASE_URL", "postgresql:///none?host=/nonexistent", 1);
    setenv("REDIS_HOST", "/nonexistent", 1);
    setenv("JWT_SECRET_KEY", SECRET, 1);
    setenv("E2B_API_KEY", "e2b_5ec2e75ec2e75ec2e7", 1);
    setenv("SANDBOX_WAIT_SECONDS", "1", 1);
    setenv("LOGIN_USER_MAX", "100000", 1);
    setenv("LOGIN_ADDRESS_MAX", "100000", 1);
    setenv("LOGIN_WINDOW_SECONDS", "1", 1);
    setenv("GATEWAY_MAX_FILE_BYTES", "4096", 1);
    setenv("GATEWAY_MAX_BODY_BYTES", "4096", 1);
}

static void start_once(void)
{
    static bool started;
    static struct gateway_config config;
    const struct httpd_options options = {.listen = "127.0.0.1:0",
                                          .threads = 2,
                                          .connection_queue = 64,
                                          .keep_alive_ms = 1000,
                                          .request_timeout_ms = 1000,
                                          .max_head_bytes = HEAD_MAX_BYTES,
                                          .handler = router_handle,
                                          .bad_request = router_bad_request,
                                          .arg = &gateway};
    struct error err = ERROR_INIT;

    if (started) {
        return;
    }
    started = true;
    set_environment();
    must(sodium_init() >= 0 && log_init("fuzz", "error") == 0, &err);
    must(config_schema_load(&gateway_config_schema, &config, &err) == 0, &err);
    must(gateway_open(&gateway, &config, &err) == 0, &err);
    must((server = httpd_start(&options, &err)) != NULL, &err);
    make_token();
}

/* ---- one request ----------------------------------------------------------------------------- */

/* Appends text with $TOKEN replaced. */
static void put_text(struct strbuf *out, const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (bytes - i >= 6 && memcmp(text + i, "$TOKEN", 6) == 0) {
            strbuf_puts(out, token);
            i += 5;
        } else {
            strbuf_putc(out, text[i]);
        }
    }
}

/* The next line of *text, without its end; NULL behind the last. */
static const char *next_line(const char **text, size_t *left, size_t *ret_bytes)
{
    const char *line = *text, *end;

    if (*left == 0) {
        return NULL;
    }
    end = memchr(line, '\n', *left);
    *ret_bytes = end != NULL ? (size_t)(end - line) : *left;
    *left -= *ret_bytes + (end != NULL);
    *text += *ret_bytes + (end != NULL);
    return line;
}

/* A request of this route with all it needs, more headers, and what is left as its body. */
static void put_route(int route, const char **text, size_t *left, struct strbuf *head)
{
    const char *hole = strstr(routes[route].path, "{id}"), *line;
    struct strbuf headers;
    size_t bytes;

    strbuf_init(&headers, HEAD_MAX_BYTES);
    strbuf_printf(head, "%s ", routes[route].method);
    strbuf_append(head, routes[route].path,
                  hole != NULL ? (size_t)(hole - routes[route].path) : strlen(routes[route].path));
    if (hole != NULL) {
        strbuf_printf(head, "%s%s", ID, hole + strlen("{id}"));
    }
    while ((line = next_line(text, left, &bytes)) != NULL && bytes > 0) {
        if (line[0] == '?') {
            strbuf_append(head, line, bytes);
        } else {
            put_text(&headers, line, bytes);
            strbuf_puts(&headers, "\r\n");
        }
    }
    strbuf_printf(head,
                  " HTTP/1.1\r\nHost: h\r\nUser-Agent: fuzz\r\nX-Request-ID: " ID
                  "\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n",
                  token);
    if (*left > 0) {
        strbuf_printf(head, "Content-Length: %zu\r\n", *left);
    }
    strbuf_append(head, headers.data, headers.length);
    strbuf_puts(head, "\r\n");
    strbuf_done(&headers);
}

/* Splits a whole request behind its first empty line. */
static bool put_whole(const char **text, size_t *left, struct strbuf *head)
{
    const char *end = memmem(*text, *left, "\r\n\r\n", 4);
    size_t bytes;

    if (end == NULL) {
        return false;
    }
    bytes = (size_t)(end - *text) + 4;
    put_text(head, *text, bytes);
    *text += bytes;
    *left -= bytes;
    return true;
}

/* ---- the answer ------------------------------------------------------------------------------ */

static bool is_known_status(int status)
{
    if (status == 200 || status == 202) {
        return true;
    }
    for (int code = 0; code <= ERR_FENCED; code++) {
        if (error_code_http_status((enum error_code)code) == status) {
            return true;
        }
    }
    return false;
}

static void fail(const char *what, const struct strbuf *out)
{
    fprintf(stderr, "fuzz_request: %s\n%.4096s\n", what, out->data);
    abort();
}

static void check_json(const struct strbuf *out, const char *body, size_t bytes, int status)
{
    struct error err = ERROR_INIT;
    cJSON *tree = json_parse(body, bytes, &err);
    const cJSON *code = cJSON_GetObjectItemCaseSensitive(tree, "code");

    if (tree == NULL || (status >= 400 && (!cJSON_IsNumber(code) || code->valuedouble != status))) {
        fail("the body is not the envelope", out);
    }
    cJSON_Delete(tree);
}

static void check_answer(const struct strbuf *out, bool is_head)
{
    const char *body = strstr(out->data, "\r\n\r\n"),
               *length = strstr(out->data, "Content-Length: ");
    int status = 0;
    size_t bytes;

    if (sscanf(out->data, "HTTP/1.1 %d ", &status) != 1 || body == NULL || length == NULL ||
        length > body) {
        fail("no answer", out);
    }
    if (!is_known_status(status) || status == 500 || status == 409) {
        fail("an answer that this gateway does not give", out);
    }
    for (const char *line = out->data; line < body;) {
        const char *end = strstr(line, "\r\n");

        if (line != out->data && memchr(line, ':', (size_t)(end - line)) == NULL) {
            fail("a header line that is none", out);
        }
        line = end + 2;
    }
    body += 4;
    bytes = out->length - (size_t)(body - out->data);
    /* a head that could not be read has no method */
    is_head = is_head && (status != 400 || bytes == 0);
    const size_t wanted = is_head ? 0 : strtoull(length + strlen("Content-Length: "), NULL, 10);
    /* what stands behind the body is the next request */
    if (bytes < wanted || (bytes > wanted && strncmp(body + wanted, "HTTP/1.1 ", 9) != 0)) {
        fail("more or less than one answer", out);
    }
    bytes = wanted;
    if (!is_head && strstr(out->data, "Content-Type: application/json") != NULL) {
        check_json(out, body, bytes, status);
    }
    if (strstr(out->data, token) != NULL || strstr(out->data, SECRET) != NULL) {
        fail("a secret in an answer", out);
    }
}

/* Sends it, says that no more comes, and collects all there is as answer. */
static void exchange(const struct strbuf *request, struct strbuf *out)
{
    const struct sockaddr_in there = {.sin_family = AF_INET,
                                      .sin_port = htons((uint16_t)httpd_port(server)),
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char piece[16384];
    ssize_t got;

    if (fd < 0 || connect(fd, (const struct sockaddr *)&there, sizeof(there)) != 0) {
        fail("no connection", out);
    }
    for (size_t at = 0; at < request->length; at += (size_t)got) {
        got = send(fd, request->data + at, request->length - at, MSG_NOSIGNAL);
        if (got <= 0) {
            break; /* refused before it was read */
        }
    }
    shutdown(fd, SHUT_WR);
    while ((got = recv(fd, piece, sizeof(piece), 0)) > 0) {
        strbuf_append(out, piece, (size_t)got);
    }
    close(fd);
}

static void run(const struct strbuf *head, const char *body, size_t bytes)
{
    struct strbuf request, out;

    strbuf_init(&request, OUT_MAX_BYTES);
    strbuf_init(&out, OUT_MAX_BYTES);
    strbuf_append(&request, head->data, head->length);
    strbuf_append(&request, body, bytes);
    exchange(&request, &out);
    /* 100-continue comes before the answer */
    if (strncmp(out.data, "HTTP/1.1 100 ", 13) == 0) {
        strbuf_consume(&out, (size_t)(strstr(out.data, "\r\n\r\n") - out.data) + 4);
    }
    check_answer(&out, strncmp(head->data, "HEAD ", 5) == 0);
    strbuf_done(&out);
    strbuf_done(&request);
}

/* Takes the first line; -1: it names no handler. */
static int take_route(const char **text, size_t *left)
{
    for (int i = 0; i < ROUTE_COUNT; i++) {
        size_t bytes = strlen(routes[i].name);

        if (*left > bytes && memcmp(*text, routes[i].name, bytes) == 0 && (*text)[bytes] == '\n') {
            *text += bytes + 1;
            *left -= bytes + 1;
            return i;
        }
    }
    return -1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    struct strbuf head;
    bool whole = true;
    int route;

    start_once();
    strbuf_init(&head, HEAD_MAX_BYTES);
    route = take_route(&text, &size);
    if (route >= 0) {
        put_route(route, &text, &size, &head);
    } else {
        whole = put_whole(&text, &size, &head);
    }
    /* no answer is due to empty lines alone */
    if (whole && !head.overflow && strspn(head.data, "\r\n") < head.length) {
        run(&head, text, size);
    }
    strbuf_done(&head);
    return 0;
}
