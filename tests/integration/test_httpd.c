/*
 * test_httpd - the HTTP server over raw sockets: what a careful client never sends.
 *
 * Owns: smuggling shapes, framing of bodies, deadlines, keep-alive, drain, load. One server per
 * program run on a free loopback port, with short timeouts. Failure: cmocka.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/httpd/httpd.h"

enum {
    TIMEOUT_MS = 1500,
    KEEP_ALIVE_MS = TIMEOUT_MS,
    LONG_MS = 20000,
    BODY_MAX = 4 << 20,
    THREADS = 320
};

static struct httpd *server;
static _Atomic int handled;
static _Atomic int saw_gone;
static _Atomic int stream_failed;
static _Atomic long stack_bytes;

/* ---- the server under test ------------------------------------------------------------------ */

static void bad_request(void *arg, const struct http_exchange *exchange, enum error_code code,
                        const char *message, struct strbuf *headers, struct strbuf *body)
{
    (void)arg;
    strbuf_printf(headers, "X-Exchange: %s\r\n", exchange != NULL ? "yes" : "no");
    strbuf_printf(body, "{\"bad\":\"%s\",\"message\":\"%s\"}", error_code_name(code), message);
}

static void echo(struct http_exchange *exchange)
{
    struct strbuf body;
    struct error err = ERROR_INIT;

    strbuf_init(&body, BODY_MAX);
    if (http_read_body(exchange, &body, &err) == 0)
        http_respond(exchange, 200, "text/plain", "X-Test: 1\r\n", body.data, body.length);
    else
        http_respond(exchange, error_code_http_status(err.code), "text/plain", "", err.message,
                     strlen(err.message));
    strbuf_done(&body);
}

static void count_upload(struct http_exchange *exchange)
{
    char buf[4096], text[64];
    long got, total = 0;

    while ((got = http_read(exchange, buf, sizeof(buf))) > 0)
        total += got;
    snprintf(text, sizeof(text), "%s %ld", got < 0 ? "broken" : "whole", total);
    http_respond(exchange, 200, "text/plain", "", text, strlen(text));
}

static void stream(struct http_exchange *exchange, int64_t length)
{
    assert_int_equal(http_stream_begin(exchange, 200, "text/plain", "", length), 0);
    for (int i = 0; i < 3; i++)
        http_stream_write(exchange, "abc", 3);
    http_stream_end(exchange);
}

static void endless(struct http_exchange *exchange)
{
    char *piece = xcalloc(1, 1 << 20);

    if (http_stream_begin(exchange, 200, "text/plain", "", -1) == 0)
        while (http_stream_write(exchange, piece, 1 << 20) == 0)
            continue;
    atomic_store(&stream_failed, 1);
    free(piece);
}

static void measure_stack(void)
{
    pthread_attr_t attributes;
    void *base;
    size_t bytes = 0;

    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        pthread_attr_getstack(&attributes, &base, &bytes);
        pthread_attr_destroy(&attributes);
    }
    atomic_store(&stack_bytes, (long)bytes);
}

static void show_params(struct http_exchange *exchange)
{
    char value[16] = "", text[96];
    int found = http_query_param(exchange, "a b", value, sizeof(value));

    snprintf(text, sizeof(text), "%d[%s] %s", found, found == 1 ? value : "", http_path(exchange));
    http_respond(exchange, 200, "text/plain", "", text, strlen(text));
}

static void handle(void *arg, struct http_exchange *exchange)
{
    const char *path = http_path(exchange);

    (void)arg;
    atomic_fetch_add(&handled, 1);
    if (strcmp(path, "/echo") == 0) {
        echo(exchange);
    } else if (strcmp(path, "/upload") == 0) {
        count_upload(exchange);
    } else if (strcmp(path, "/stream") == 0) {
        stream(exchange, -1);
    } else if (strcmp(path, "/short") == 0) {
        stream(exchange, 100);
    } else if (strcmp(path, "/exact") == 0) {
        stream(exchange, 9);
    } else if (strcmp(path, "/endless") == 0) {
        endless(exchange);
    } else if (strncmp(path, "/params", 7) == 0) {
        show_params(exchange);
    } else if (strcmp(path, "/silent") == 0) {
        return;
    } else if (strcmp(path, "/wait") == 0) {
        for (int i = 0; i < 100 && !http_peer_gone(exchange); i++)
            clock_sleep_ms(20);
        atomic_store(&saw_gone, http_peer_gone(exchange) ? 1 : -1);
        http_respond(exchange, 200, "text/plain", "", "done", 4);
    } else if (strcmp(path, "/nap") == 0) {
        clock_sleep_ms(400);
        http_respond(exchange, 200, "text/plain", "", "nap", 3);
    } else if (strcmp(path, "/big") == 0) {
        char *text = xmalloc(3 << 20);

        memset(text, 'x', 3 << 20);
        http_respond(exchange, 200, "text/plain", "", text, 3 << 20);
        free(text);
    } else if (strcmp(path, "/host") == 0) {
        http_respond(exchange, 200, "text/plain", "", http_header(exchange, "Host"),
                     strlen(http_header(exchange, "Host")));
    } else if (strcmp(path, "/peer") == 0) {
        http_respond(exchange, 200, "text/plain", "", http_peer(exchange),
                     strlen(http_peer(exchange)));
    } else if (strcmp(path, "/header") == 0) {
        const char *value = http_header(exchange, "x-value");

        http_respond(exchange, 200, "text/plain", "", value != NULL ? value : "-",
                     value != NULL ? strlen(value) : 1);
    } else {
        measure_stack();
        http_respond(exchange, 200, "text/plain", "", "hello", 5);
    }
}

static struct httpd *start_with(int threads, int queue, int ms)
{
    struct httpd_options options = {
        .listen = "127.0.0.1:0",
        .threads = threads,
        .connection_queue = queue,
        .keep_alive_ms = ms,
        .request_timeout_ms = ms,
        .max_head_bytes = 16384,
        .refusal_body = "{\"full\":true}",
        .handler = handle,
        .bad_request = bad_request,
    };
    struct error err = ERROR_INIT;
    struct httpd *started = httpd_start(&options, &err);

    if (started == NULL)
        fail_msg("%s", err.message);
    return started;
}

static struct httpd *start(int threads)
{
    return start_with(threads, 400, TIMEOUT_MS);
}

/* ---- the client ----------------------------------------------------------------------------- */

static int dial(const struct httpd *to)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)httpd_port(to))};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

static int push(int fd, const char *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t sent = send(fd, data, bytes, MSG_NOSIGNAL);

        if (sent <= 0)
            return -1;
        data += sent;
        bytes -= (size_t)sent;
    }
    return 0;
}

enum { STAYS_OPEN, CLOSED, RESET };

/* Collects until `until` was seen (NULL: until the end), the peer closes, or ms pass. */
static int collect(int fd, struct strbuf *out, const char *until, int64_t ms)
{
    int64_t end_ms = clock_mono_ms() + ms;

    for (;;) {
        struct pollfd item = {.fd = fd, .events = POLLIN};
        char buf[16384];
        ssize_t got;

        if (until != NULL && strstr(out->data, until) != NULL)
            return STAYS_OPEN;
        if (clock_mono_ms() >= end_ms || poll(&item, 1, (int)(end_ms - clock_mono_ms())) <= 0)
            return STAYS_OPEN;
        got = recv(fd, buf, sizeof(buf), 0);
        if (got == 0)
            return CLOSED;
        if (got < 0)
            return RESET;
        strbuf_append(out, buf, (size_t)got);
    }
}

/* Sends and collects to the end of the connection. */
static int ask(const char *request, size_t bytes, struct strbuf *out, int64_t ms)
{
    int fd = dial(server), end;

    strbuf_init(out, 64 << 20);
    push(fd, request, bytes);
    end = collect(fd, out, NULL, ms);
    close(fd);
    return end;
}

static int count_of(const char *text, const char *part)
{
    int n = 0;

    for (const char *p = strstr(text, part); p != NULL; p = strstr(p + 1, part))
        n++;
    return n;
}

/* ---- shapes that must be refused ------------------------------------------------------------ */

/* Whatever follows the first request must never be read as a second one. */
#define SMUGGLED "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

static const struct {
    const char *name, *request;
} refused[] = {
    {"CL and TE", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: "
                  "chunked\r\n\r\n0\r\n\r\n" SMUGGLED},
    {"TE and CL", "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: "
                  "5\r\n\r\n0\r\n\r\n" SMUGGLED},
    {"two CL, same", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: "
                     "0\r\n\r\n" SMUGGLED},
    {"two CL, different", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\ncontent-length: "
                          "44\r\n\r\n" SMUGGLED},
    {"CL list", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 0\r\n\r\n" SMUGGLED},
    {"CL 5abc", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5abc\r\n\r\nhello" SMUGGLED},
    {"CL +5", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello" SMUGGLED},
    {"CL -1", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n" SMUGGLED},
    {"CL 0x5", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello" SMUGGLED},
    {"CL empty", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n" SMUGGLED},
    {"CL 2^63-1",
     "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\n" SMUGGLED},
    {"CL 2^64+5",
     "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n\r\n" SMUGGLED},
    {"two TE", "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: "
               "identity\r\n\r\n0\r\n\r\n" SMUGGLED},
    {"TE gzip, chunked", "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, "
                         "chunked\r\n\r\n0\r\n\r\n" SMUGGLED},
    {"TE identity",
     "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n" SMUGGLED},
    {"TE xchunked",
     "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n" SMUGGLED},
    {"TE in 1.0",
     "POST /echo HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" SMUGGLED},
    {"space before colon", "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : "
                           "chunked\r\n\r\n0\r\n\r\n" SMUGGLED},
    {"space before colon, CL",
     "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length : 36\r\n\r\n" SMUGGLED},
    {"folded line",
     "POST /echo HTTP/1.1\r\nHost: a\r\nX-A: b\r\n Content-Length: 36\r\n\r\n" SMUGGLED},
    {"folded TE",
     "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n" SMUGGLED},
    {"white space before the first header", "GET /hello HTTP/1.1\r\n X-A: b\r\nHost: a\r\n\r\n"},
    {"two blanks in the request line", "GET  /hello HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"two blanks before the version", "GET /hello  HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"line of no header",
     "POST /echo HTTP/1.1\r\nHost: a\r\nnonsense\r\nContent-Length: 36\r\n\r\n" SMUGGLED},
    {"empty name", "POST /echo HTTP/1.1\r\nHost: a\r\n: x\r\nContent-Length: 36\r\n\r\n" SMUGGLED},
    {"control in name", "GET /hello HTTP/1.1\r\nHost: a\r\nX\tY: b\r\n\r\n"},
    {"bare LF", "GET /hello HTTP/1.1\r\nHost: a\nX-A: b\r\n\r\n"},
    {"bare LF at the end", "GET /hello HTTP/1.1\r\nHost: a\r\nX-A: b\n\n" SMUGGLED},
    {"bare LF only", "GET /hello HTTP/1.1\nHost: a\n\n"},
    {"bare CR", "GET /hello HTTP/1.1\r\nHost: a\rX-A: b\r\n\r\n"},
    {"no Host", "GET /hello HTTP/1.1\r\nX-A: b\r\n\r\n"},
    {"no header at all", "GET /hello HTTP/1.1\r\n\r\n"},
    {"two Host", "GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"},
    {"odd Host", "GET /hello HTTP/1.1\r\nHost: a b\r\n\r\n"},
    {"two Authorization",
     "GET /hello HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a\r\nauthorization: Bearer "
     "b\r\n\r\n"},
    {"two Content-Type",
     "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Type: "
     "application/json\r\nContent-Length: 0\r\n\r\n"},
    {"two X-Request-ID",
     "GET /hello HTTP/1.1\r\nHost: a\r\nX-Request-ID: 1\r\nX-Request-Id: 2\r\n\r\n"},
    {"%00 in path", "GET /hello%00x HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"bad escape", "GET /hello%zz HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"cut escape", "GET /hello%4 HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"no slash", "GET hello HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"absolute form without a path", "GET http://a?b HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"absolute form of another scheme", "GET ftp://a/hello HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"absolute form with a user", "GET http://u@a/hello HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"absolute form without Host", "GET http://a/hello HTTP/1.1\r\n\r\n"},
    {"connect", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"},
    {"version 2.0", "GET /hello HTTP/2.0\r\nHost: a\r\n\r\n"},
    {"version 1.2", "GET /hello HTTP/1.2\r\nHost: a\r\n\r\n"},
    {"version 0.9", "GET /hello\r\n\r\n"},
    {"not http", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"},
    {"high byte in path", "GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"other expectation",
     "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 0\r\n\r\n"},
};

static void test_refused_shapes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        struct strbuf out;
        int before = atomic_load(&handled);
        int end = ask(refused[i].request, strlen(refused[i].request), &out, 4000);

        const bool answered = strncmp(out.data, "HTTP/1.1 4", 10) == 0 &&
                              strstr(out.data, "{\"bad\":") != NULL &&
                              strstr(out.data, "X-Exchange: ") != NULL &&
                              strstr(out.data, "Connection: close\r\n") != NULL &&
                              count_of(out.data, "HTTP/1.1 ") == 1;

        if (end != CLOSED || atomic_load(&handled) != before || !answered)
            fail_msg("%s: end %d, handled %d, answer: %s", refused[i].name, end,
                     atomic_load(&handled) - before, out.data);
        strbuf_done(&out);
    }
}

static void test_nul_in_head(void **state)
{
    static const char with_nul[] = "GET /hello HTTP/1.1\r\nHost: a\r\nX: a\0b\r\nY: c\r\n\r\n";
    struct strbuf out;

    (void)state;
    assert_int_equal(ask(with_nul, sizeof(with_nul) - 1, &out, 4000), CLOSED);
    assert_memory_equal(out.data, "HTTP/1.1 4", 10);
    strbuf_done(&out);
}

static void put_headers(struct strbuf *request, int headers, int value_bytes)
{
    strbuf_init(request, 1 << 20);
    strbuf_puts(request, "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n");
    for (int i = 0; i < headers; i++) {
        strbuf_printf(request, "X-%d: ", i);
        for (int k = 0; k < value_bytes; k++)
            strbuf_putc(request, 'v');
        strbuf_puts(request, "\r\n");
    }
    strbuf_puts(request, "\r\n");
}

static void test_header_limits(void **state)
{
    static const struct {
        int headers, value_bytes;
        const char *status;
    } cases[] = {{61, 1, "HTTP/1.1 200"},    {62, 1, "HTTP/1.1 431"},    {63, 1, "HTTP/1.1 431"},
                 {200, 1, "HTTP/1.1 431"},   {1, 15000, "HTTP/1.1 200"}, {1, 17000, "HTTP/1.1 431"},
                 {20, 20000, "HTTP/1.1 431"}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct strbuf request, out;

        put_headers(&request, cases[i].headers, cases[i].value_bytes);
        if (ask(request.data, request.length, &out, 4000) != CLOSED ||
            strncmp(out.data, cases[i].status, strlen(cases[i].status)) != 0)
            fail_msg("%d headers of %d: %s", cases[i].headers, cases[i].value_bytes, out.data);
        strbuf_done(&out);
        strbuf_done(&request);
    }
}

/* ---- requests that are fine ----------------------------------------------------------------- */

static const struct {
    const char *name, *request, *answer; /* the answer's end */
} accepted[] = {
    {"plain", "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "\r\n\r\nhello"},
    {"1.0", "GET /hello HTTP/1.0\r\n\r\n", "\r\n\r\nhello"},
    {"HEAD", "HEAD /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "\r\n\r\n"},
    {"preflight reaches us",
     "OPTIONS /hello HTTP/1.1\r\nHost: a\r\nOrigin: b\r\nAccess-Control-Request-Method: "
     "GET\r\nConnection: close\r\n\r\n",
     "\r\n\r\nhello"},
    {"body",
     "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
     "\r\n\r\nhello"},
    {"empty body",
     "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
     "Content-Length: 0\r\nConnection: close\r\nX-Test: 1\r\n\r\n"},
    {"POST without length", "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
     "Content-Length: 0\r\nConnection: close\r\nX-Test: 1\r\n\r\n"},
    {"chunked",
     "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: "
     "chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n",
     "\r\n\r\nhello!"},
    {"Chunked, upper",
     "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: "
     "Chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
     "\r\n\r\n0123456789"},
    {"DELETE with body",
     "DELETE /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: "
     "2\r\n\r\nok",
     "\r\n\r\nok"},
    {"blanks around values",
     "GET /header HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Value:   v  \r\n\r\n", "\r\n\r\nv"},
    {"query", "GET /params%20x?z=1&a%20b=c%2Bd+e HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
     "\r\n\r\n1[c+d e] /params%20x"},
    {"query absent", "GET /params?z=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
     "\r\n\r\n0[] /params"},
    {"query malformed", "GET /params?a+b=%0 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
     "\r\n\r\n-1[] /params"},
    {"query NUL", "GET /params?a+b=x%00y HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
     "\r\n\r\n-1[] /params"},
    {"query too long",
     "GET /params?a+b=0123456789abcdef HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
     "\r\n\r\n-1[] /params"},
    {"dots stay", "GET /params/../x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
     "\r\n\r\n0[] /params/../x"},
    {"stream", "GET /stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
     "\r\n\r\n3\r\nabc\r\n3\r\nabc\r\n3\r\nabc\r\n0\r\n\r\n"},
    {"stream to 1.0", "GET /stream HTTP/1.0\r\n\r\n", "\r\n\r\nabcabcabc"},
    {"stream to HEAD", "HEAD /stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "\r\n\r\n"},
    {"exact stream", "GET /exact HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
     "\r\n\r\nabcabcabc"},
    {"stream too short closes", "GET /short HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n\r\nabcabcabc"},
    {"silent handler", "GET /silent HTTP/1.1\r\nHost: a\r\n\r\n",
     "X-Exchange: yes\r\n\r\n{\"bad\":\"internal_error\",\"message\":\"the request was not "
     "answered\"}"},
    {"bad chunk size",
     "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello" SMUGGLED,
     "the body is incomplete or malformed"},
    {"chunk extensions",
     "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: "
     "chunked\r\n\r\n5;a=b\r\nhello\r\n1 ; c = \"d;\"\r\n!\r\n0;x\r\nTrailer: y\r\n\r\n",
     "\r\n\r\nhello!"},
    {"chunk extension with a bare LF",
     "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
     "chunked\r\n\r\n5;a\nhello\r\n0\r\n\r\n" SMUGGLED,
     "the body is incomplete or malformed"},
    {"chunk size with a bare LF",
     "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
     "chunked\r\n\r\n5\nhello\r\n0\r\n\r\n" SMUGGLED,
     "the body is incomplete or malformed"},
    {"trailer with a bare LF",
     "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
     "chunked\r\n\r\n0\r\nA: b\n\r\n" SMUGGLED,
     "the body is incomplete or malformed"},
    {"empty lines first", "\r\n\r\nGET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
     "\r\n\r\nhello"},
    {"absolute form",
     "GET http://b.example:8000/header?q HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
     "\r\n\r\n-"},
    {"absolute form of the root", "GET HTTP://b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
     "\r\n\r\nhello"},
    {"absolute form names the host",
     "GET http://b.example:80/host HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
     "\r\n\r\nb.example:80"},
    {"TRACE reaches us", "TRACE /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
     "\r\n\r\nhello"},
    {"close among other options", "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: te, Close\r\n\r\n",
     "\r\n\r\nhello"},
    {"chunk without CR LF",
     "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
     "chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n" SMUGGLED,
     "the body is incomplete or malformed"},
    {"chunk of 2^64",
     "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
     "chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n" SMUGGLED,
     NULL},
    {"Content-Length over the cap",
     "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\nabc" SMUGGLED,
     "the body is larger than 4194304 bytes"},
};

static void test_accepted_shapes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(accepted) / sizeof(accepted[0]); i++) {
        struct strbuf out;
        const char *want = accepted[i].answer;
        int end = ask(accepted[i].request, strlen(accepted[i].request), &out, 5000);
        size_t length = want != NULL ? strlen(want) : 0;

        if (end != CLOSED || count_of(out.data, "HTTP/1.1 ") != 1 || out.length < length ||
            (want != NULL && strcmp(out.data + out.length - length, want) != 0))
            fail_msg("%s: end %d, answer: %s", accepted[i].name, end, out.data);
        strbuf_done(&out);
    }
}

/* Every way to send a body, thrice over one connection, then all at once. */
static void test_keep_alive_and_pipelining(void **state)
{
    static const char *const requests[] = {
        "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "DELETE /hello HTTP/1.1\r\nHost: a\r\n\r\n",
        "HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /exact HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, TE\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\n\r\n",
        ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
         "chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    };
    struct strbuf all, out;
    int fd;

    (void)state;
    strbuf_init(&all, 65536);
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        fd = dial(server);
        for (int round = 0; round < 3; round++) {
            strbuf_init(&out, 65536);
            push(fd, requests[i], strlen(requests[i]));
            if (collect(fd, &out, "keep-alive\r\n", 3000) != STAYS_OPEN ||
                strncmp(out.data, "HTTP/1.1 200", 12) != 0)
                fail_msg("request %zu, round %d: %s", i, round, out.data);
            collect(fd, &out, NULL, 50);
            strbuf_done(&out);
        }
        close(fd);
        strbuf_puts(&all, requests[i]);
    }
    strbuf_puts(&all, "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_int_equal(ask(all.data, all.length, &out, 5000), CLOSED);
    assert_int_equal(count_of(out.data, "HTTP/1.1 200"), 9);
    strbuf_done(&out);
    strbuf_done(&all);
}

/* Whatever the size of a body, the answer says truly whether the connection lives on. */
static void test_large_bodies_and_reuse(void **state)
{
    static const size_t sizes[] = {1, 4096, 16000, 20000, 300000, BODY_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (int chunked = 0; chunked < 2; chunked++) {
            struct strbuf request, out;
            int fd = dial(server), end;
            bool keeps;

            strbuf_init(&request, 16 << 20);
            strbuf_init(&out, 16 << 20);
            strbuf_puts(&request, "POST /echo HTTP/1.1\r\nHost: a\r\n");
            if (chunked)
                strbuf_printf(&request, "Transfer-Encoding: chunked\r\n\r\n%zx\r\n", sizes[i]);
            else
                strbuf_printf(&request, "Content-Length: %zu\r\n\r\n", sizes[i]);
            for (size_t k = 0; k < sizes[i]; k++)
                strbuf_putc(&request, (char)('a' + k % 26));
            strbuf_puts(&request, chunked ? "\r\n0\r\n\r\n" : "");
            assert_int_equal(push(fd, request.data, request.length), 0);
            end = collect(fd, &out, NULL, 500);
            keeps = strstr(out.data, "Connection: keep-alive") != NULL;
            if (strncmp(out.data, "HTTP/1.1 200", 12) != 0 || out.length < sizes[i] ||
                keeps != (end == STAYS_OPEN))
                fail_msg("%zu bytes, chunked %d: end %d, %.300s", sizes[i], chunked, end, out.data);
            if (keeps) {
                strbuf_reset(&out);
                push(fd, SMUGGLED, strlen(SMUGGLED));
                collect(fd, &out, "hello", 2000);
                assert_non_null(strstr(out.data, "hello"));
            }
            close(fd);
            strbuf_done(&out);
            strbuf_done(&request);
        }
    }
}

static void test_body_refused_while_it_is_sent(void **state)
{
    static const size_t bytes = 40 << 20;
    char *body = xcalloc(1, bytes);
    struct strbuf out;
    int fd = dial(server);
    char head[128];

    (void)state;
    strbuf_init(&out, 65536);
    snprintf(head, sizeof(head), "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n",
             bytes);
    assert_int_equal(push(fd, head, strlen(head)), 0);
    assert_int_equal(push(fd, body, bytes), 0);
    assert_int_equal(collect(fd, &out, NULL, 3000), CLOSED);
    assert_memory_equal(out.data, "HTTP/1.1 413", 12);
    strbuf_done(&out);
    close(fd);
    free(body);
}

static void test_unread_body_closes(void **state)
{
    static const char request[] =
        "POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 35\r\n\r\n" SMUGGLED;
    struct strbuf out;

    (void)state;
    assert_int_equal(ask(request, sizeof(request) - 1, &out, 3000), CLOSED);
    assert_int_equal(count_of(out.data, "HTTP/1.1 "), 1);
    assert_non_null(strstr(out.data, "Connection: close"));
    strbuf_done(&out);
}

static void test_expect_continue(void **state)
{
    static const char head[] =
        "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    static const char refused_head[] =
        "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5000000\r\n\r\n";
    struct strbuf out;
    int fd = dial(server);

    (void)state;
    strbuf_init(&out, 65536);
    push(fd, head, strlen(head));
    collect(fd, &out, "100 Continue\r\n\r\n", 1000);
    assert_string_equal(out.data, "HTTP/1.1 100 Continue\r\n\r\n");
    push(fd, "hello", 5);
    collect(fd, &out, "\r\n\r\nhello", 1000);
    assert_non_null(strstr(out.data, "HTTP/1.1 200"));
    strbuf_done(&out);
    close(fd);

    assert_int_equal(ask(refused_head, strlen(refused_head), &out, 3000), CLOSED);
    assert_memory_equal(out.data, "HTTP/1.1 413", 12);
    strbuf_done(&out);
}

/* ---- slow clients --------------------------------------------------------------------------- */

/* One byte each 100 ms; returns how long the server let it. */
static int64_t trickle(const char *text, size_t bytes, struct strbuf *out)
{
    int fd = dial(server);
    int64_t start_ms = clock_mono_ms();

    strbuf_init(out, 65536);
    for (size_t i = 0; i < bytes && clock_mono_ms() - start_ms < 8000; i++) {
        if (push(fd, text + i, 1) != 0 || collect(fd, out, NULL, 100) != STAYS_OPEN)
            break;
    }
    close(fd);
    return clock_mono_ms() - start_ms;
}

static void test_trickled_head(void **state)
{
    struct strbuf request, out;
    int64_t took_ms;

    (void)state;
    put_headers(&request, 1, 500);
    took_ms = trickle(request.data, request.length, &out);
    assert_in_range(took_ms, TIMEOUT_MS - 200, TIMEOUT_MS + 1500);
    strbuf_done(&out);
    strbuf_done(&request);
}

static void test_trickled_body(void **state)
{
    static const char head[] = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n";
    static const char chunked_head[] =
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1f4\r\n";

    (void)state;
    for (int chunked = 0; chunked < 2; chunked++) {
        int fd = dial(server), end = STAYS_OPEN;
        int64_t start_ms = clock_mono_ms(), took_ms;
        const char *text = chunked ? chunked_head : head;
        struct strbuf out;

        strbuf_init(&out, 65536);
        push(fd, text, strlen(text));
        while (end == STAYS_OPEN && clock_mono_ms() - start_ms < 8000) {
            push(fd, "x", 1);
            end = collect(fd, &out, NULL, 100);
        }
        took_ms = clock_mono_ms() - start_ms;
        if (took_ms < TIMEOUT_MS - 200 || took_ms > TIMEOUT_MS + 1500 ||
            strstr(out.data, "the body did not arrive in 1500 ms") == NULL)
            fail_msg("chunked %d: %lld ms, %s", chunked, (long long)took_ms, out.data);
        strbuf_done(&out);
        close(fd);
    }
}

static void test_stalled_and_cut_bodies(void **state)
{
    static const struct {
        const char *request;
        bool cut;
        const char *answer;
    } cases[] = {
        {"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nabc", false, "broken"},
        {"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nabc", true, "broken"},
        {"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc", false,
         "broken"},
        {"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc", true,
         "broken"},
        {"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", true,
         "broken"},
        {"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
         false, "broken"},
        {"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
         "chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
         true, "whole 3"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int fd = dial(server);
        struct strbuf out;

        strbuf_init(&out, 65536);
        push(fd, cases[i].request, strlen(cases[i].request));
        if (cases[i].cut)
            shutdown(fd, SHUT_WR);
        collect(fd, &out, NULL, TIMEOUT_MS + 1500);
        if (strstr(out.data, cases[i].answer) == NULL)
            fail_msg("case %zu: %s", i, out.data);
        strbuf_done(&out);
        close(fd);
    }
}

static void test_stalled_reader(void **state)
{
    static const char request[] = "GET /endless HTTP/1.1\r\nHost: a\r\n\r\n";
    int fd = dial(server);
    int64_t start_ms = clock_mono_ms();

    (void)state;
    atomic_store(&stream_failed, 0);
    push(fd, request, strlen(request));
    while (!atomic_load(&stream_failed) && clock_mono_ms() - start_ms < 8000)
        clock_sleep_ms(50);
    assert_true(atomic_load(&stream_failed));
    assert_true(clock_mono_ms() - start_ms < TIMEOUT_MS + 3000);
    close(fd);
}

static void test_slow_reader_gets_all(void **state)
{
    static const char request[] = "GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    int fd = dial(server);
    size_t total = 0;
    char *buf = xmalloc(128 << 10);

    (void)state;
    push(fd, request, strlen(request));
    for (;;) {
        ssize_t got = recv(fd, buf, 128 << 10, 0);

        assert_true(got >= 0);
        if (got == 0)
            break;
        total += (size_t)got;
        clock_sleep_ms(30);
    }
    assert_true(total > 3 << 20);
    free(buf);
    close(fd);
}

static void test_peer_gone(void **state)
{
    static const char request[] = "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n";
    int64_t start_ms = clock_mono_ms();
    int fd = dial(server);
    struct strbuf out;

    (void)state;
    atomic_store(&saw_gone, 0);
    push(fd, request, strlen(request));
    clock_sleep_ms(100);
    assert_int_equal(atomic_load(&saw_gone), 0);
    close(fd);
    while (atomic_load(&saw_gone) == 0 && clock_mono_ms() - start_ms < 5000)
        clock_sleep_ms(10);
    assert_int_equal(atomic_load(&saw_gone), 1); /* not -1: that the time was over */

    fd = dial(server);
    strbuf_init(&out, 65536);
    push(fd, request, strlen(request));
    collect(fd, &out, "done", 4000);
    assert_non_null(strstr(out.data, "done"));
    assert_int_equal(atomic_load(&saw_gone), -1);
    strbuf_done(&out);
    close(fd);
}

static void test_idle_connection_ends(void **state)
{
    static const char request[] = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
    int fd = dial(server);
    struct strbuf out;
    int64_t start_ms;

    (void)state;
    strbuf_init(&out, 65536);
    push(fd, request, strlen(request));
    collect(fd, &out, "hello", 1000);
    start_ms = clock_mono_ms();
    assert_int_equal(collect(fd, &out, NULL, 6000), CLOSED);
    assert_in_range(clock_mono_ms() - start_ms, KEEP_ALIVE_MS - 300, KEEP_ALIVE_MS + 2500);
    strbuf_done(&out);
    close(fd);
}

/* ---- many, stack, drain --------------------------------------------------------------------- */

static void *one_of_many(void *arg)
{
    int *ok = arg;
    int fd = dial(server);
    struct strbuf out;

    strbuf_init(&out, 65536);
    for (int i = 0; i < 5; i++) {
        static const char request[] =
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nmarker";

        strbuf_reset(&out);
        if (push(fd, request, strlen(request)) == 0)
            collect(fd, &out, "marker", 10000);
        *ok += strstr(out.data, "\r\n\r\nmarker") != NULL;
    }
    strbuf_done(&out);
    close(fd);
    return NULL;
}

static void test_300_connections(void **state)
{
    enum { MANY = 300 };
    pthread_t threads[MANY];
    int ok[MANY] = {0}, total = 0;

    (void)state;
    for (int i = 0; i < MANY; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, one_of_many, &ok[i]), 0);
    for (int i = 0; i < MANY; i++) {
        pthread_join(threads[i], NULL);
        total += ok[i];
    }
    assert_int_equal(total, MANY * 5);
}

static void test_handler_stack(void **state)
{
    static const char request[] = "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    struct strbuf out;

    (void)state;
    assert_int_equal(ask(request, strlen(request), &out, 2000), CLOSED);
    strbuf_done(&out);
    assert_true(atomic_load(&stack_bytes) >= 512 * 1024);
}

/* ---- who gets a thread, and who has to go --------------------------------------------------- */

static struct httpd *start_bounded(int threads, int queue, int most, int most_of_one)
{
    struct httpd_options options = {.listen = "127.0.0.1:0",
                                    .threads = threads,
                                    .connection_queue = queue,
                                    .keep_alive_ms = LONG_MS,
                                    .request_timeout_ms = LONG_MS,
                                    .max_head_bytes = 16384,
                                    .max_connections = most,
                                    .max_address_connections = most_of_one,
                                    .address_body_percent = 25,
                                    .trusted_proxies = "127.0.0.9, 10.0.0.0/8",
                                    .refusal_body = "{\"full\":true}",
                                    .handler = handle,
                                    .bad_request = bad_request};
    struct error err = ERROR_INIT;
    struct httpd *started = httpd_start(&options, &err);

    if (started == NULL)
        fail_msg("%s", err.message);
    return started;
}

static int dial_from(const struct httpd *to, const char *address)
{
    struct sockaddr_in own = {.sin_family = AF_INET};
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons((uint16_t)httpd_port(to))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    inet_pton(AF_INET, address, &own.sin_addr);
    inet_pton(AF_INET, "127.0.0.1", &there.sin_addr);
    assert_int_equal(bind(fd, (struct sockaddr *)&own, sizeof(own)), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&there, sizeof(there)), 0);
    return fd;
}

/* One GET of `path` on this connection; true: it was answered with `end`. */
static bool answers(int fd, const char *path, const char *end)
{
    char request[256];
    struct strbuf out;
    bool good;

    snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path);
    strbuf_init(&out, 65536);
    good = push(fd, request, strlen(request)) == 0 && collect(fd, &out, end, LONG_MS / 4) >= 0 &&
           strstr(out.data, end) != NULL;
    strbuf_done(&out);
    return good;
}

static bool is_closed(int fd)
{
    struct pollfd item = {.fd = fd, .events = POLLIN};
    char byte;

    return poll(&item, 1, LONG_MS / 4) > 0 && recv(fd, &byte, 1, 0) <= 0;
}

/* Whole requests that hold the threads, wait for one, and are one too many. */
static void test_bounded_requests(void **state)
{
    enum { FEW = 2, QUEUE = 2 };
    static const char wait[] = "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n";
    struct httpd *main_server = server;
    struct httpd *small = start_bounded(FEW, QUEUE, 0, 0);
    int held[FEW + QUEUE], extra;
    struct strbuf out;
    int64_t start_ms;

    (void)state;
    server = small;
    strbuf_init(&out, 65536);
    for (int i = 0; i < FEW + QUEUE; i++) {
        held[i] = dial(server);
        push(held[i], wait, strlen(wait));
        for (int k = 0; k < 1000 && i < FEW && httpd_active(small) <= i; k++)
            clock_sleep_ms(1);
    }
    clock_sleep_ms(20);
    start_ms = clock_mono_ms();
    extra = dial(server);
    push(extra, SMUGGLED, strlen(SMUGGLED));
    assert_int_equal(collect(extra, &out, NULL, LONG_MS), CLOSED);
    assert_non_null(strstr(out.data, "HTTP/1.1 503 "));
    assert_non_null(strstr(out.data, "Retry-After: 2\r\n"));
    assert_non_null(strstr(out.data, "\r\n\r\n{\"full\":true}"));
    assert_true(clock_mono_ms() - start_ms < LONG_MS / 2);
    close(extra);
    for (int i = 0; i < FEW + QUEUE; i++)
        close(held[i]);
    /* and when they are gone there is room again, for as many as before */
    for (int i = 0; i < 50; i++) {
        strbuf_done(&out);
        if (ask("GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 51, &out, 2000) ==
                CLOSED &&
            strstr(out.data, "hello") != NULL)
            break;
        clock_sleep_ms(100);
    }
    assert_non_null(strstr(out.data, "hello"));
    strbuf_done(&out);
    httpd_stop(small);
    server = main_server;
}

/* Silence, half a head, half a short body: none of them holds one of the two threads. */
static void test_no_thread_before_the_request_is_whole(void **state)
{
    static const char *const begun[] = {
        "", "GET /hello HTTP/1.1\r\nHost:",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf"};
    enum { KINDS = sizeof(begun) / sizeof(begun[0]), EACH = 20 };
    struct httpd *small = start_bounded(2, 2, 0x1000, 0);
    int held[KINDS * EACH], kept = dial(small);

    (void)state;
    assert_true(answers(kept, "/hello", "\r\n\r\nhello"));
    for (int i = 0; i < KINDS * EACH; i++) {
        held[i] = dial(small);
        push(held[i], begun[i % KINDS], strlen(begun[i % KINDS]));
    }
    for (int i = 0; i < 20; i++) {
        const int fd = dial(small);

        assert_true(answers(fd, "/hello", "\r\n\r\nhello"));
        assert_true(answers(kept, "/hello", "\r\n\r\nhello"));
        close(fd);
    }
    /* and each goes on where it was */
    push(held[1], " a\r\n\r\n", 6);
    push(held[2], "-done", 5);
    for (int i = 1; i < 3; i++) {
        struct strbuf out;

        strbuf_init(&out, 65536);
        collect(held[i], &out, i == 1 ? "\r\n\r\nhello" : "half-done", LONG_MS / 4);
        assert_non_null(strstr(out.data, i == 1 ? "\r\n\r\nhello" : "half-done"));
        strbuf_done(&out);
    }
    for (int i = 0; i < KINDS * EACH; i++)
        close(held[i]);
    close(kept);
    httpd_stop(small);
}

/* At the limit of its address, then of all, the oldest silent one goes; one that was of use stays,
 * and so does another address. */
static void test_the_oldest_silent_one_makes_room(void **state)
{
    enum { MOST = 8, OF_ONE = 4 };
    struct httpd *small = start_bounded(2, 2, MOST, OF_ONE);
    int other = dial_from(small, "127.0.0.2"), mine[OF_ONE + 1], proxied[MOST];

    (void)state;
    assert_true(answers(other, "/hello", "hello"));
    mine[0] = dial(small);
    assert_true(answers(mine[0], "/hello", "hello"));
    for (int i = 1; i < OF_ONE + 1; i++)
        mine[i] = dial(small);
    assert_true(is_closed(mine[1]));
    assert_true(answers(mine[2], "/hello", "hello"));
    assert_true(answers(mine[0], "/hello", "hello"));

    /* a proxy has no limit of its own: it fills what is left, and then its oldest goes */
    for (int i = 0; i < MOST; i++)
        proxied[i] = dial_from(small, "127.0.0.9");
    assert_true(is_closed(mine[3]));
    assert_true(is_closed(proxied[0]));
    assert_true(answers(proxied[MOST - 1], "/hello", "hello"));
    assert_true(answers(other, "/hello", "hello"));
    assert_true(answers(mine[0], "/hello", "hello"));
    for (int i = 0; i < OF_ONE + 1; i++)
        close(mine[i]);
    for (int i = 0; i < MOST; i++)
        close(proxied[i]);
    close(other);
    httpd_stop(small);
}

/* Bodies too long to come ahead of a thread: one address may keep a quarter of the threads waiting.
 */
static void test_slow_bodies_have_a_share(void **state)
{
    enum { MANY = 32, SHARE = MANY / 4 };
    static const char slow[] = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\nx";
    struct httpd *wide = start_bounded(MANY, 64, 0, 0);
    int held[SHARE], more;
    struct strbuf out;

    (void)state;
    strbuf_init(&out, 65536);
    for (int i = 0; i < SHARE; i++) {
        held[i] = dial(wide);
        push(held[i], slow, strlen(slow));
    }
    for (int k = 0; k < 1000 && httpd_active(wide) < SHARE; k++)
        clock_sleep_ms(1);
    assert_int_equal(httpd_active(wide), SHARE);
    clock_sleep_ms(20);
    more = dial(wide);
    push(more, slow, strlen(slow));
    collect(more, &out, "\r\n\r\nas many", LONG_MS / 4);
    assert_memory_equal(out.data, "HTTP/1.1 503", 12);
    close(more);
    strbuf_reset(&out);
    more = dial_from(wide, "127.0.0.2");
    push(more, slow, strlen(slow));
    for (int k = 0; k < 1000 && httpd_active(wide) <= SHARE; k++)
        clock_sleep_ms(1);
    assert_int_equal(httpd_active(wide), SHARE + 1);
    close(more);
    for (int i = 0; i < SHARE; i++)
        close(held[i]);
    strbuf_done(&out);
    httpd_stop(wide);
}

/* Each piece comes in time, the whole never would. */
static void test_bodies_keep_a_least_rate(void **state)
{
    enum { GRACE_MS = 300, RATE = 2000 };
    const struct httpd_options options = {.listen = "127.0.0.1:0",
                                          .threads = 2,
                                          .connection_queue = 2,
                                          .keep_alive_ms = LONG_MS,
                                          .request_timeout_ms = GRACE_MS,
                                          .max_head_bytes = 16384,
                                          .body_bytes_per_s = RATE,
                                          .handler = handle,
                                          .bad_request = bad_request};
    struct error err = ERROR_INIT;
    struct httpd *impatient = httpd_start(&options, &err);

    (void)state;
    assert_non_null(impatient);
    for (int fast = 0; fast < 2; fast++) {
        static const char head[] =
            "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n";
        const int64_t start_ms = clock_mono_ms();
        char piece[2000] = "";
        int fd = dial(impatient), end = STAYS_OPEN;
        struct strbuf out;

        strbuf_init(&out, 65536);
        push(fd, head, strlen(head));
        while (end == STAYS_OPEN && clock_mono_ms() - start_ms < 6 * GRACE_MS) {
            push(fd, piece, fast ? sizeof(piece) : 10);
            end = collect(fd, &out, NULL, 50);
        }
        if ((end == STAYS_OPEN) != fast || (strstr(out.data, "broken") == NULL) != fast)
            fail_msg("fast %d: end %d, %s", fast, end, out.data);
        strbuf_done(&out);
        close(fd);
    }
    httpd_stop(impatient);
}

static void test_client_behind_proxies(void **state)
{
    static const struct {
        const char *from, *headers, *client;
    } cases[] = {
        {"127.0.0.1", "", "127.0.0.1"},
        {"127.0.0.1", "X-Forwarded-For: 1.2.3.4\r\n", "127.0.0.1"},
        {"127.0.0.9", "", "127.0.0.9"},
        {"127.0.0.9", "X-Forwarded-For: 1.2.3.4\r\n", "1.2.3.4"},
        {"127.0.0.9", "X-Forwarded-For: 6.6.6.6, 1.2.3.4\r\n", "1.2.3.4"},
        {"127.0.0.9", "X-Forwarded-For: 6.6.6.6, 1.2.3.4, 10.1.1.1\r\n", "1.2.3.4"},
        {"127.0.0.9", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 1.2.3.4,10.1.1.1\r\n",
         "1.2.3.4"},
        {"127.0.0.9", "X-Forwarded-For: 10.1.1.1 , 10.2.2.2\r\n", "10.1.1.1"},
        {"127.0.0.9", "X-Forwarded-For: 2001:db8::1\r\n", "2001:db8::1"},
        {"127.0.0.9", "X-Forwarded-For: [2001:db8::1]:443, 10.0.0.1:99\r\n", "2001:db8::1"},
        {"127.0.0.9", "X-Forwarded-For: 1.2.3.4, nonsense, 10.0.0.1\r\n", "10.0.0.1"},
        {"127.0.0.9", "X-Forwarded-For: \r\n", "127.0.0.9"},
        {"127.0.0.9", "X-Forwarded-For: ,\r\n", "127.0.0.9"},
        {"127.0.0.9", "Forwarded: for=6.6.6.6, for=1.2.3.4;proto=https;by=10.0.0.2\r\n", "1.2.3.4"},
        {"127.0.0.9", "Forwarded: proto=http; For=\"[2001:db8::1]:5\"\r\n", "2001:db8::1"},
        {"127.0.0.9", "Forwarded: for=_hidden\r\n", "127.0.0.9"},
        {"127.0.0.9", "Forwarded: for=6.6.6.6\r\nX-Forwarded-For: 1.2.3.4\r\n", "1.2.3.4"},
    };
    struct httpd *proxied = start_bounded(2, 8, 0, 0);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int fd = dial_from(proxied, cases[i].from);
        struct strbuf request, out;

        strbuf_init(&request, 4096);
        strbuf_init(&out, 4096);
        strbuf_printf(&request, "GET /peer HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%s\r\n",
                      cases[i].headers);
        push(fd, request.data, request.length);
        collect(fd, &out, NULL, LONG_MS / 4);
        const char *body = strstr(out.data, "\r\n\r\n");
        if (body == NULL || strcmp(body + 4, cases[i].client) != 0)
            fail_msg("case %zu (%s): %s", i, cases[i].headers, out.data);
        strbuf_done(&out);
        strbuf_done(&request);
        close(fd);
    }
    httpd_stop(proxied);
}

/* Idle connections give their threads to those that wait, long before their own time is up. */
static void test_idle_makes_room(void **state)
{
    enum { FEW = 2, QUEUE = 8 };
    struct httpd *main_server = server;
    struct httpd *small = start_with(FEW, QUEUE, LONG_MS);
    int idle[FEW], late;
    struct strbuf out;
    int64_t start_ms;

    (void)state;
    server = small;
    strbuf_init(&out, 65536);
    for (int i = 0; i < FEW; i++) {
        idle[i] = dial(server);
        push(idle[i], SMUGGLED, strlen(SMUGGLED));
        strbuf_reset(&out);
        collect(idle[i], &out, "hello", 1000);
        assert_non_null(strstr(out.data, "keep-alive"));
    }
    start_ms = clock_mono_ms();
    late = dial(server);
    push(late, SMUGGLED, strlen(SMUGGLED));
    strbuf_reset(&out);
    collect(late, &out, "hello", LONG_MS);
    assert_non_null(strstr(out.data, "hello"));
    assert_true(clock_mono_ms() - start_ms < LONG_MS / 2);
    strbuf_done(&out);
    for (int i = 0; i < FEW; i++)
        close(idle[i]);
    close(late);
    httpd_stop(small);
    server = main_server;
}

static void test_drain(void **state)
{
    static const char nap[] = "GET /nap HTTP/1.1\r\nHost: a\r\n\r\n";
    struct httpd *main_server = server;
    struct httpd *draining = start(8);
    int idle, napping;
    struct strbuf out;

    (void)state;
    server = draining;
    idle = dial(server);
    strbuf_init(&out, 65536);
    push(idle, SMUGGLED, strlen(SMUGGLED));
    collect(idle, &out, "hello", 1000);
    napping = dial(server);
    push(napping, nap, strlen(nap));
    for (int i = 0; i < 1000 && httpd_active(draining) == 0; i++)
        clock_sleep_ms(5);
    assert_int_equal(httpd_active(draining), 1);
    httpd_drain(draining);

    strbuf_reset(&out);
    assert_int_equal(collect(idle, &out, NULL, 10000), CLOSED);
    assert_int_equal(out.length, 0);
    strbuf_reset(&out);
    assert_int_equal(collect(napping, &out, NULL, 10000), CLOSED);
    assert_non_null(strstr(out.data, "Connection: close\r\n"));
    assert_non_null(strstr(out.data, "nap"));
    assert_int_equal(httpd_active(draining), 0);
    strbuf_done(&out);

    assert_int_equal(ask(SMUGGLED, strlen(SMUGGLED), &out, 3000), CLOSED);
    assert_non_null(strstr(out.data, "Connection: close\r\n"));
    strbuf_done(&out);
    close(idle);
    close(napping);
    httpd_stop(draining);
    server = main_server;
}

/* Nobody waits until CivetWeb looks by itself whether it is to end. */
static void test_stop_is_prompt(void **state)
{
    enum { TRIES = 3, PROMPT_MS = 1500 };
    int64_t took_ms = PROMPT_MS;

    (void)state;
    for (int i = 0; i < TRIES && took_ms >= PROMPT_MS; i++) { /* the machine may stand still once */
        struct httpd *idle = start(8);
        int64_t start_ms;

        clock_sleep_ms(100); /* its threads wait by now */
        start_ms = clock_mono_ms();
        httpd_stop(idle);
        took_ms = clock_mono_ms() - start_ms;
    }
    assert_true(took_ms < PROMPT_MS);
}

static void test_start_errors(void **state)
{
    char taken[32];
    static const char *const bad[] = {"", "8000s", "[::1]:0", "127.0.0.1:99999", "nonsense:1"};
    struct error err = ERROR_INIT;
    struct httpd_options options = {
        .threads = 1,
        .connection_queue = 1,
        .keep_alive_ms = 1,
        .request_timeout_ms = 1,
        .max_head_bytes = 16384,
        .handler = handle,
        .bad_request = bad_request,
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        options.listen = bad[i];
        assert_null(httpd_start(&options, &err));
        assert_int_equal(err.code, ERR_CONFIG);
    }
    snprintf(taken, sizeof(taken), "127.0.0.1:%d", httpd_port(server));
    options.listen = taken;
    assert_null(httpd_start(&options, &err));
    assert_int_equal(err.code, ERR_CONFIG);
}

static int start_all(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    server = start(THREADS);
    return 0;
}

static int stop_all(void **state)
{
    int64_t start_ms = clock_mono_ms();

    (void)state;
    httpd_stop(server);
    return clock_mono_ms() - start_ms < 5000 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepted_shapes),
        cmocka_unit_test(test_refused_shapes),
        cmocka_unit_test(test_nul_in_head),
        cmocka_unit_test(test_header_limits),
        cmocka_unit_test(test_keep_alive_and_pipelining),
        cmocka_unit_test(test_large_bodies_and_reuse),
        cmocka_unit_test(test_body_refused_while_it_is_sent),
        cmocka_unit_test(test_unread_body_closes),
        cmocka_unit_test(test_expect_continue),
        cmocka_unit_test(test_trickled_head),
        cmocka_unit_test(test_trickled_body),
        cmocka_unit_test(test_stalled_and_cut_bodies),
        cmocka_unit_test(test_stalled_reader),
        cmocka_unit_test(test_slow_reader_gets_all),
        cmocka_unit_test(test_peer_gone),
        cmocka_unit_test(test_idle_connection_ends),
        cmocka_unit_test(test_300_connections),
        cmocka_unit_test(test_handler_stack),
        cmocka_unit_test(test_bounded_requests),
        cmocka_unit_test(test_no_thread_before_the_request_is_whole),
        cmocka_unit_test(test_the_oldest_silent_one_makes_room),
        cmocka_unit_test(test_slow_bodies_have_a_share),
        cmocka_unit_test(test_bodies_keep_a_least_rate),
        cmocka_unit_test(test_client_behind_proxies),
        cmocka_unit_test(test_idle_makes_room),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_stop_is_prompt),
        cmocka_unit_test(test_start_errors),
    };

    return cmocka_run_group_tests(tests, start_all, stop_all);
}
