/*
 * httpd - an HTTP/1.1 server: threads that answer requests, over an acceptor that collects them.
 *
 * Owns: start, drain and stop, the threads, the path of a request through them. Does not own:
 * connections without a thread (httpd_conn.c), heads (httpd_head.c), guards (httpd_request.c),
 * bodies and answers (httpd_io.c).
 * Why not CivetWeb: it gives a thread to a connection before the first byte and takes it back only
 * by closing, and no call of its API hands it a socket or gets one back. Failure: httpd_start
 * reports.
 */
#include "common/httpd/httpd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/httpd/httpd_internal.h"

enum {
    STACK_BYTES = 512 * 1024,
    READ_BYTES = 4096, /* at once, of a connection that has a thread */
    OUT_MAX_BYTES = 65536
};

/* ---- one request ---------------------------------------------------------------------------- */

bool conn_is_ready(const struct httpd *httpd, struct httpd_conn *conn)
{
    size_t skip = 0;

    if (conn->head_bytes == 0) {
        /* empty lines before a request are ignored (RFC 9112 2.2) */
        while (conn->scanned == 0 && conn->in_length - skip >= 2 &&
               memcmp(conn->in + skip, "\r\n", 2) == 0) {
            skip += 2;
        }
        if (skip > 0) {
            conn->in_length -= skip;
            memmove(conn->in, conn->in + skip, conn->in_length);
        }
        if (conn->scanned == 0 && conn->in_length == 1 && conn->in[0] == '\r') {
            return false;
        }
        switch (head_scan(conn->in, conn->in_length, &conn->scanned, &conn->head_bytes)) {
        case HEAD_MALFORMED:
            conn->verdict = VERDICT_MALFORMED;
            return true;
        case HEAD_PARTIAL:
            conn->verdict =
                conn->in_length >= httpd->options.max_head_bytes ? VERDICT_TOO_LARGE : VERDICT_OK;
            return conn->verdict != VERDICT_OK;
        case HEAD_WHOLE:
            break;
        }
        if (conn->head_bytes > httpd->options.max_head_bytes) {
            conn->verdict = VERDICT_TOO_LARGE;
            return true;
        }
        conn->received_ms = clock_mono_ms();
    }
    const int64_t body = head_body_ahead(conn->in, conn->head_bytes);
    conn->chunked = body < 0;
    return body <= 0 || body > HTTPD_AHEAD_BYTES ||
           conn->in_length - conn->head_bytes >= (size_t)body;
}

static int read_request(struct http_exchange *exchange, struct error *err)
{
    struct httpd_conn *conn = exchange->conn;

    switch (conn->verdict) {
    case VERDICT_OK:
        break;
    case VERDICT_MALFORMED:
        return error_set(err, ERR_INVALID,
                         "the head holds a control character or a line that does not end with "
                         "CR LF");
    case VERDICT_TOO_LARGE:
        return error_set(err, ERR_HEADERS_TOO_LARGE, "the head is larger than %zu bytes",
                         exchange->httpd->options.max_head_bytes);
    case VERDICT_TIMEOUT:
        return error_set(err, ERR_REQUEST_TIMEOUT, "the head did not arrive in %d ms",
                         exchange->httpd->options.request_timeout_ms);
    }
    if (conn->chunked) {
        /* chunks are read behind the head, whose text must stay where it is */
        conn_reserve(conn, HTTPD_AHEAD_BYTES);
    }
    conn->in_at = conn->head_bytes;
    return head_parse(conn->in, conn->head_bytes, &exchange->head, err);
}

static void answer_bad_request(struct http_exchange *exchange, bool has_head,
                               const struct error *err)
{
    const struct httpd_options *options = &exchange->httpd->options;
    struct strbuf headers, body;

    strbuf_init(&headers, HTTPD_ERROR_BODY_BYTES);
    strbuf_init(&body, HTTPD_ERROR_BODY_BYTES);
    options->bad_request(options->arg, has_head ? exchange : NULL, err->code, err->message,
                         &headers, &body);
    exchange->close = true;
    http_respond(exchange, error_code_http_status(err->code), "application/json", headers.data,
                 body.data, body.length);
    strbuf_done(&body);
    strbuf_done(&headers);
}

/* What the client sent and nobody will read would reset the connection, answer and all. */
static bool has_unread(const struct httpd_conn *conn)
{
    int bytes = 0;

    return conn->in_length > conn->in_at || ioctl(conn->fd, FIONREAD, &bytes) != 0 || bytes > 0;
}

/* True: the connection may carry another request. */
static bool serve_request(struct httpd_worker *worker, struct httpd_conn *conn, bool *ret_linger)
{
    struct httpd *httpd = worker->httpd;
    struct http_exchange exchange = {.httpd = httpd, .conn = conn, .out = &worker->out};
    struct error err = ERROR_INIT;

    atomic_fetch_add(&httpd->active, 1);
    if (read_request(&exchange, &err) < 0) {
        answer_bad_request(&exchange, false, &err);
    } else if (httpd_check_request(&exchange, &err) < 0) {
        answer_bad_request(&exchange, true, &err);
    } else {
        httpd->options.handler(httpd->options.arg, &exchange);
    }
    if (exchange.status == 0) {
        error_set(&err, ERR_INTERNAL, "the request was not answered");
        answer_bad_request(&exchange, true, &err);
    }
    httpd_body_wait_end(&exchange);
    atomic_fetch_sub(&httpd->active, 1);
    *ret_linger = !exchange.write_failed && (!exchange.body_done || has_unread(conn));
    return !exchange.close && !exchange.write_failed && exchange.body_done &&
           (!exchange.streaming || exchange.stream_ended);
}

/* ---- one connection ------------------------------------------------------------------------- */

/* A thread waits a moment for its connection's next request, while there are enough of them. */
static bool may_wait(const struct httpd *httpd)
{
    return !atomic_load(&httpd->draining) && atomic_load(&httpd->waiting) == 0 &&
           atomic_load(&httpd->busy) <= httpd->options.threads / 2;
}

enum next { NEXT_REQUEST, NEXT_PARK, NEXT_CLOSE };

static enum next wait_for_next(struct httpd *httpd, struct httpd_conn *conn)
{
    ssize_t got;

    if (conn->in_length > 0) { /* sent ahead */
        return conn_is_ready(httpd, conn) ? NEXT_REQUEST : NEXT_PARK;
    }
    if (!may_wait(httpd)) {
        return NEXT_PARK;
    }
    conn_reserve(conn, READ_BYTES);
    got = recv(conn->fd, conn->in, READ_BYTES, 0); /* at most STICKY_MS */
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return NEXT_PARK;
    }
    if (got <= 0) {
        return NEXT_CLOSE;
    }
    conn->in_length = (size_t)got;
    return conn_is_ready(httpd, conn) ? NEXT_REQUEST : NEXT_PARK;
}

void httpd_serve(struct httpd_worker *worker, struct httpd_conn *conn)
{
    struct httpd *httpd = worker->httpd;
    enum next next = NEXT_REQUEST;
    bool linger = false;

    while (next == NEXT_REQUEST) {
        if (serve_request(worker, conn, &linger)) {
            conn_next_request(conn);
            next = wait_for_next(httpd, conn);
            linger = false;
        } else {
            next = NEXT_CLOSE;
        }
    }
    if (next == NEXT_PARK) {
        conn_park(httpd, worker, conn,
                  conn->in_length == 0    ? CONN_IDLE
                  : conn->head_bytes == 0 ? CONN_HEAD
                                          : CONN_BODY);
    } else if (linger) {
        conn_park(httpd, worker, conn, CONN_LINGER);
    } else {
        conn_close(httpd, worker, conn);
    }
}

static void *worker_main(void *arg)
{
    struct httpd_worker *worker = arg;
    struct httpd *httpd = worker->httpd;

    pthread_mutex_lock(&httpd->lock);
    while (!httpd->stopping) {
        struct httpd_conn *conn = TAILQ_FIRST(&httpd->ready);

        if (conn != NULL) {
            TAILQ_REMOVE(&httpd->ready, conn, link);
            atomic_fetch_sub(&httpd->waiting, 1);
            conn->class = CONN_BUSY;
            worker->conn = conn;
        } else {
            worker->next_idle = httpd->idle;
            httpd->idle = worker;
            while (worker->conn == NULL && !httpd->stopping) {
                pthread_cond_wait(&worker->wake, &httpd->lock);
            }
        }
        conn = worker->conn;
        if (conn != NULL) {
            pthread_mutex_unlock(&httpd->lock);
            atomic_fetch_add(&httpd->busy, 1);
            httpd_serve(worker, conn);
            atomic_fetch_sub(&httpd->busy, 1);
            pthread_mutex_lock(&httpd->lock);
        }
    }
    pthread_mutex_unlock(&httpd->lock);
    return NULL;
}

/* ---- start and stop ------------------------------------------------------------------------- */

static int parse_listen(const char *text, struct sockaddr_in *ret, struct error *err)
{
    const char *colon = strrchr(text, ':'), *port = colon != NULL ? colon + 1 : text;
    char address[INET_ADDRSTRLEN] = "0.0.0.0";
    const size_t digits = strspn(port, "0123456789");
    const size_t length = colon != NULL ? (size_t)(colon - text) : 0;

    *ret = (struct sockaddr_in){.sin_family = AF_INET};
    if (length > 0 && length < sizeof(address)) {
        memcpy(address, text, length);
        address[length] = '\0';
    }
    if (digits == 0 || digits > 5 || port[digits] != '\0' || strtol(port, NULL, 10) > 65535 ||
        length >= sizeof(address) || inet_pton(AF_INET, address, &ret->sin_addr) != 1) {
        return error_set(err, ERR_CONFIG, "listen address \"%s\" is not an IPv4 ADDRESS:PORT",
                         text);
    }
    ret->sin_port = htons((uint16_t)strtol(port, NULL, 10));
    return 0;
}

static int check_options(const struct httpd_options *options, struct error *err)
{
    if (options->listen == NULL || options->listen[0] == '\0') {
        return error_set(err, ERR_CONFIG, "listen address is empty");
    }
    if (options->threads < 1 || options->connection_queue < 1 || options->keep_alive_ms < 1 ||
        options->request_timeout_ms < 1 || options->max_head_bytes < 1024 ||
        options->handler == NULL || options->bad_request == NULL) {
        return error_set(err, ERR_CONFIG, "httpd options are incomplete");
    }
    return 0;
}

static int open_listener(struct httpd *httpd, const struct sockaddr_in *address, struct error *err)
{
    struct sockaddr_in bound;
    socklen_t bytes = sizeof(bound);
    const int on = 1;

    httpd->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (httpd->listener < 0 ||
        setsockopt(httpd->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        bind(httpd->listener, (const struct sockaddr *)address, sizeof(*address)) != 0 ||
        listen(httpd->listener, SOMAXCONN) != 0 ||
        getsockname(httpd->listener, (struct sockaddr *)&bound, &bytes) != 0) {
        return error_set_errno(err, ERR_CONFIG, errno, "cannot listen on %s",
                               httpd->options.listen);
    }
    httpd->port = ntohs(bound.sin_port);
    return 0;
}

static int start_workers(struct httpd *httpd, struct error *err)
{
    pthread_attr_t attributes;
    int status = 0;

    httpd->workers = xcalloc((size_t)httpd->options.threads, sizeof(*httpd->workers));
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    for (int i = 0; i < httpd->options.threads && status == 0; i++) {
        struct httpd_worker *worker = &httpd->workers[i];

        worker->httpd = httpd;
        pthread_cond_init(&worker->wake, NULL);
        strbuf_init(&worker->out, OUT_MAX_BYTES);
        httpd->worker_count++;
        if (pthread_create(&worker->thread, &attributes, worker_main, worker) != 0) {
            pthread_cond_destroy(&worker->wake);
            httpd->worker_count--;
            status = error_set(err, ERR_LIMIT, "cannot start thread %d of %d", i + 1,
                               httpd->options.threads);
        }
    }
    pthread_attr_destroy(&attributes);
    return status;
}

static void set_bounds(struct httpd *httpd)
{
    struct httpd_options *options = &httpd->options;
    const int percent = options->address_body_percent;

    if (options->max_connections == 0) {
        options->max_connections = options->threads + options->connection_queue;
    }
    if (percent > 0) {
        const int one = options->threads * percent / 100;

        httpd->max_holder_body_waits = one > 4                    ? one
                                       : options->threads / 2 > 4 ? 4
                                                                  : (options->threads + 1) / 2;
        httpd->max_body_waits = (options->threads + 1) / 2;
    }
}

struct httpd *httpd_start(const struct httpd_options *options, struct error *err)
{
    struct sockaddr_in address;
    struct httpd *httpd;

    if (check_options(options, err) != 0 || parse_listen(options->listen, &address, err) != 0) {
        return NULL;
    }
    httpd = xcalloc(1, sizeof(*httpd));
    httpd->options = *options;
    httpd->listener = httpd->epoll = httpd->wake_fd = -1;
    pthread_mutex_init(&httpd->lock, NULL);
    set_bounds(httpd);
    if ((options->trusted_proxies != NULL &&
         cidr_set_add_list(&httpd->trusted, options->trusted_proxies, err) < 0) ||
        open_listener(httpd, &address, err) < 0 || httpd_acceptor_start(httpd, err) < 0 ||
        start_workers(httpd, err) < 0) {
        httpd_stop(httpd);
        return NULL;
    }
    return httpd;
}

int httpd_port(const struct httpd *httpd)
{
    return httpd->port;
}

void httpd_drain(struct httpd *httpd)
{
    if (!atomic_exchange(&httpd->draining, true)) {
        httpd_acceptor_wake(httpd);
    }
}

int httpd_active(const struct httpd *httpd)
{
    return atomic_load(&httpd->active);
}

void httpd_stop(struct httpd *httpd)
{
    if (httpd == NULL) {
        return;
    }
    atomic_store(&httpd->draining, true);
    pthread_mutex_lock(&httpd->lock);
    httpd->stopping = true;
    for (int i = 0; i < httpd->worker_count; i++) {
        pthread_cond_signal(&httpd->workers[i].wake);
        if (httpd->workers[i].conn != NULL) {
            (void)shutdown(httpd->workers[i].conn->fd, SHUT_RDWR);
        }
    }
    pthread_mutex_unlock(&httpd->lock);
    httpd_acceptor_stop(httpd);
    for (int i = 0; i < httpd->worker_count; i++) {
        pthread_join(httpd->workers[i].thread, NULL);
        pthread_cond_destroy(&httpd->workers[i].wake);
        strbuf_done(&httpd->workers[i].out);
    }
    httpd_connections_end(httpd);
    for (int i = 0; i < httpd->worker_count; i++) {
        if (httpd->workers[i].conn != NULL) { /* given, and never begun */
            conn_close(httpd, &httpd->workers[i], httpd->workers[i].conn);
        }
    }
    if (httpd->listener >= 0) {
        close(httpd->listener);
    }
    if (httpd->wake_fd >= 0) {
        close(httpd->wake_fd);
    }
    if (httpd->epoll >= 0) {
        close(httpd->epoll);
    }
    httpd_holders_free(httpd);
    cidr_set_done(&httpd->trusted);
    strbuf_done(&httpd->refusal);
    pthread_mutex_destroy(&httpd->lock);
    free(httpd->workers);
    free(httpd);
}
