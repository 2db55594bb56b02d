/*
 * httpd - the server: CivetWeb over an acceptor that collects requests before it.
 *
 * Owns: start, drain and stop, and the two callbacks through which every request passes. CivetWeb
 * opens the port, runs the threads, parses requests and calls us; what it sees of the network is
 * httpd_virtual.c's. Does not own: connections without a thread (httpd_conn.c), heads before
 * CivetWeb gets them (httpd_head.c), guards (httpd_request.c), bodies and answers (httpd_io.c).
 * Failure: httpd_start reports.
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
#include "common/httpd/httpd_conn.h"
#include "common/httpd/httpd_holder.h"
#include "common/httpd/httpd_internal.h"
#include "common/httpd/httpd_io.h"
#include "common/httpd/httpd_request.h"
#include "common/httpd/httpd_virtual.h"
#include "common/httpd/httpd_worker.h"

enum { HEAD_GROWTH = 2 /* of a head that CivetWeb gets: escapes in the query, a longer Host */ };

/* ---- one request ---------------------------------------------------------------------------- */

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

/* The answer is sent. */
static void finish_request(struct httpd_worker *worker, const struct http_exchange *exchange)
{
    const bool good = !exchange->write_failed;
    const bool keep = good && !exchange->close && exchange->body_done &&
                      (!exchange->streaming || exchange->stream_ended);

    atomic_fetch_sub(&exchange->httpd->active, 1);
    worker_finish(worker, keep,
                  !keep && good && (!exchange->body_done || has_unread(exchange->conn)));
}

static struct http_exchange new_exchange(struct httpd_worker *worker, struct mg_connection *mg)
{
    atomic_fetch_add(&worker->httpd->active, 1);
    return (struct http_exchange){.httpd = worker->httpd,
                                  .conn = worker->conn,
                                  .mg = mg,
                                  .info = mg_get_request_info(mg),
                                  .facts = &worker->facts,
                                  .out = &worker->out};
}

/* Every request passes here, before CivetWeb's own CORS, authentication and file handling, which
 * therefore never run. */
static int on_request(struct mg_connection *mg)
{
    struct httpd_worker *worker = virtual_request_begin();
    struct http_exchange exchange = new_exchange(worker, mg);
    const struct httpd_options *options = &worker->httpd->options;
    struct error err = ERROR_INIT;

    exchange.path = exchange.info->local_uri_raw;
    if (httpd_check_request(&exchange, &err) < 0) {
        answer_bad_request(&exchange, true, &err);
    } else {
        options->handler(options->arg, &exchange);
    }
    if (exchange.status == 0) {
        error_set(&err, ERR_INTERNAL, "the request was not answered");
        answer_bad_request(&exchange, true, &err);
    }
    httpd_body_wait_end(&exchange);
    if (!exchange.body_done) { /* CivetWeb would wait for it */
        mg_disable_connection_keep_alive(mg);
    }
    finish_request(worker, &exchange);
    virtual_request_end(worker, exchange.body_length < 0);
    return exchange.status;
}

/* A request that CivetWeb could not read: most often one whose head we refused before. Its own text
 * may quote the request and is not passed on. */
static int on_bad_request(struct mg_connection *mg, int status, const char *text)
{
    struct httpd_worker *worker = virtual_request_begin();
    struct http_exchange exchange = new_exchange(worker, mg);
    struct error err = worker->refusal;
    bool has_head = false;

    (void)status;
    (void)text;
    if (err.code == ERR_OK) {
        exchange.path = exchange.info->request_uri;
        has_head = exchange.path != NULL && exchange.info->num_headers > 0;
        if (!has_head || httpd_check_request(&exchange, &err) == 0) {
            error_set(&err, ERR_INVALID, "the request is malformed");
        }
    }
    answer_bad_request(&exchange, has_head, &err);
    finish_request(worker, &exchange);
    return 0;
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

static int start_civetweb(struct httpd *httpd, const struct sockaddr_in *address, struct error *err)
{
    struct mg_callbacks callbacks = {.begin_request = on_request, .http_error = on_bad_request};
    char port[INET_ADDRSTRLEN + 8], threads[16], backlog[16], head[24];
    const char *settings[] = {"listening_ports",
                              port,
                              "num_threads",
                              threads,
                              "connection_queue",
                              threads,
                              "listen_backlog",
                              backlog,
                              "max_request_size",
                              head,
                              "enable_keep_alive",
                              "yes",
                              "decode_url",
                              "no",
                              NULL};
    struct mg_server_port bound;

    inet_ntop(AF_INET, &address->sin_addr, port, INET_ADDRSTRLEN);
    snprintf(port + strlen(port), 8, ":%d", ntohs(address->sin_port));
    snprintf(threads, sizeof(threads), "%d", httpd->options.threads);
    snprintf(backlog, sizeof(backlog), "%d", SOMAXCONN);
    snprintf(head, sizeof(head), "%zu", httpd->options.max_head_bytes * HEAD_GROWTH);
    httpd->workers = xcalloc((size_t)httpd->options.threads, sizeof(*httpd->workers));
    if (virtual_start(httpd, &callbacks, settings, err) < 0) {
        return -1;
    }
    if (mg_get_server_ports(httpd->civetweb, 1, &bound) != 1) {
        return error_set(err, ERR_INTERNAL, "CivetWeb has no port");
    }
    httpd->port = bound.port;
    return 0;
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
    httpd->listener = httpd->epoll = httpd->wake_fd = httpd->wanted_fd = httpd->virtual_fd = -1;
    pthread_mutex_init(&httpd->lock, NULL);
    mg_init_library(0); /* no feature: TLS of Debian's build crashes with OpenSSL 3 */
    set_bounds(httpd);
    if ((options->trusted_proxies != NULL &&
         cidr_set_add_list(&httpd->trusted, options->trusted_proxies, err) < 0) ||
        httpd_acceptor_open(httpd, err) < 0 || start_civetweb(httpd, &address, err) < 0 ||
        httpd_acceptor_start(httpd, err) < 0) {
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

static void close_fd(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

void httpd_stop(struct httpd *httpd)
{
    if (httpd == NULL) {
        return;
    }
    atomic_store(&httpd->draining, true);
    pthread_mutex_lock(&httpd->lock);
    atomic_store(&httpd->stopping, true);
    for (int i = 0; i < atomic_load(&httpd->worker_count); i++) {
        pthread_cond_signal(&httpd->workers[i].wake);
        if (httpd->workers[i].conn != NULL) {
            (void)shutdown(httpd->workers[i].conn->fd, SHUT_RDWR);
        }
    }
    pthread_mutex_unlock(&httpd->lock);
    httpd_acceptor_stop(httpd);
    virtual_stop(httpd);
    httpd_connections_end(httpd);
    for (int i = 0; i < atomic_load(&httpd->worker_count); i++) {
        struct httpd_worker *worker = &httpd->workers[i];

        if (worker->conn != NULL) { /* given, and never begun */
            conn_close(httpd, worker, worker->conn);
        }
        pthread_cond_destroy(&worker->wake);
        strbuf_done(&worker->out);
    }
    close_fd(httpd->listener);
    close_fd(httpd->wake_fd);
    close_fd(httpd->wanted_fd);
    close_fd(httpd->virtual_fd);
    close_fd(httpd->epoll);
    mg_exit_library();
    httpd_holders_free(httpd);
    cidr_set_done(&httpd->trusted);
    strbuf_done(&httpd->refusal);
    pthread_mutex_destroy(&httpd->lock);
    free(httpd->workers);
    free(httpd);
}
