/*
 * httpd_fixture - a server with handlers that tests ask for, and a client that sends what a careful
 * one never does.
 *
 * One server per program run on a free loopback port, with short timeouts. Failure: cmocka.
 */
#ifndef TESTS_INTEGRATION_HTTPD_FIXTURE_H
#define TESTS_INTEGRATION_HTTPD_FIXTURE_H

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

/* Whatever follows the first request must never be read as a second one. */
#define SMUGGLED "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

static struct httpd *server;
static _Atomic int handled;
static _Atomic int saw_gone;
static _Atomic int stream_failed;
static _Atomic long stack_bytes;

/* ---- the server under test ------------------------------------------------------------------ */

static inline void bad_request(void *arg, const struct http_exchange *exchange,
                               enum error_code code, const char *message, struct strbuf *headers,
                               struct strbuf *body)
{
    (void)arg;
    strbuf_printf(headers, "X-Exchange: %s\r\n", exchange != NULL ? "yes" : "no");
    strbuf_printf(body, "{\"bad\":\"%s\",\"message\":\"%s\"}", error_code_name(code), message);
}

static inline void echo(struct http_exchange *exchange)
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

static inline void count_upload(struct http_exchange *exchange)
{
    char buf[4096], text[64];
    long got, total = 0;

    while ((got = http_read(exchange, buf, sizeof(buf))) > 0)
        total += got;
    snprintf(text, sizeof(text), "%s %ld", got < 0 ? "broken" : "whole", total);
    http_respond(exchange, 200, "text/plain", "", text, strlen(text));
}

static inline void stream(struct http_exchange *exchange, int64_t length)
{
    assert_int_equal(http_stream_begin(exchange, 200, "text/plain", "", length), 0);
    for (int i = 0; i < 3; i++)
        http_stream_write(exchange, "abc", 3);
    http_stream_end(exchange);
}

static inline void endless(struct http_exchange *exchange)
{
    char *piece = xcalloc(1, 1 << 20);

    if (http_stream_begin(exchange, 200, "text/plain", "", -1) == 0)
        while (http_stream_write(exchange, piece, 1 << 20) == 0)
            continue;
    atomic_store(&stream_failed, 1);
    free(piece);
}

static inline void measure_stack(void)
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

static inline void show_params(struct http_exchange *exchange)
{
    char value[16] = "", text[96];
    int found = http_query_param(exchange, "a b", value, sizeof(value));

    snprintf(text, sizeof(text), "%d[%s] %s", found, found == 1 ? value : "", http_path(exchange));
    http_respond(exchange, 200, "text/plain", "", text, strlen(text));
}

static inline void handle(void *arg, struct http_exchange *exchange)
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

static inline struct httpd *start_with(int threads, int queue, int ms)
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

static inline struct httpd *start(int threads)
{
    return start_with(threads, 400, TIMEOUT_MS);
}

/* ---- the client ----------------------------------------------------------------------------- */

static inline int dial(const struct httpd *to)
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

static inline int push(int fd, const char *data, size_t bytes)
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
static inline int collect(int fd, struct strbuf *out, const char *until, int64_t ms)
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
static inline int ask(const char *request, size_t bytes, struct strbuf *out, int64_t ms)
{
    int fd = dial(server), end;

    strbuf_init(out, 64 << 20);
    push(fd, request, bytes);
    end = collect(fd, out, NULL, ms);
    close(fd);
    return end;
}

static inline int count_of(const char *text, const char *part)
{
    int n = 0;

    for (const char *p = strstr(text, part); p != NULL; p = strstr(p + 1, part))
        n++;
    return n;
}

static inline void put_headers(struct strbuf *request, int headers, int value_bytes)
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

/* ---- one server for the whole program ---------------------------------------------------------
 */

static inline int start_all(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    server = start(THREADS);
    return 0;
}

static inline int stop_all(void **state)
{
    int64_t start_ms = clock_mono_ms();

    (void)state;
    httpd_stop(server);
    return clock_mono_ms() - start_ms < 5000 ? 0 : -1;
}

#endif
