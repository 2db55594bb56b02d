/*
 * httpd - server, connections and their watchdog, over CivetWeb 1.15.
 *
 * Owns: start/stop/drain, the registry of connections, deadlines, the begin_request door through
 * which every request passes. Does not own: guards (httpd_request.c), reading and writing
 * (httpd_io.c).
 * Deadlines: CivetWeb's timeouts are per read, so a client that trickles bytes is never cut. Every
 * connection therefore has one deadline, kept by its own thread; a watchdog thread shuts the socket
 * down when it passes, which makes the blocked read or write return. The socket is not part of
 * CivetWeb's API: it is found once a connection among our descriptors by its two addresses.
 * Failure: httpd_start reports; a connection whose socket is not found has CivetWeb's own timeouts.
 */
#include "common/httpd/httpd.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/httpd/httpd_internal.h"

enum {
    WATCHDOG_TICK_MS = 100,
    IDLE_KEPT_MS = 200, /* an idle connection is not ended before, however many wait */
    LINGER_TOTAL_MS = 5000,
    LINGER_IDLE_MS = 1000,
    LINGER_DRAINING_MS = 500,
};

/* ---- finding the socket --------------------------------------------------------------------- */

static bool socket_matches(int fd, const struct mg_request_info *info)
{
    struct sockaddr_in peer, local;
    socklen_t peer_bytes = sizeof(peer), local_bytes = sizeof(local);
    char text[INET_ADDRSTRLEN];

    if (getpeername(fd, (struct sockaddr *)&peer, &peer_bytes) != 0 || peer.sin_family != AF_INET ||
        ntohs(peer.sin_port) != info->remote_port) {
        return false;
    }
    if (getsockname(fd, (struct sockaddr *)&local, &local_bytes) != 0 ||
        ntohs(local.sin_port) != info->server_port) {
        return false;
    }
    return inet_ntop(AF_INET, &peer.sin_addr, text, sizeof(text)) != NULL &&
           strcmp(text, info->remote_addr) == 0;
}

/* Caller holds httpd->lock. */
static bool socket_is_taken(const struct httpd *httpd, int fd)
{
    for (const struct httpd_conn *conn = httpd->connections; conn != NULL; conn = conn->next) {
        if (conn->fd == fd) {
            return true;
        }
    }
    return false;
}

/* Caller holds httpd->lock, so two connections of one client to two of our addresses never claim
 * the same socket. */
static int socket_find(const struct httpd *httpd, const struct mg_request_info *info)
{
    DIR *directory = opendir("/proc/self/fd");
    int found = -1;

    if (directory == NULL) {
        return -1;
    }
    for (struct dirent *entry = readdir(directory); entry != NULL && found < 0;
         entry = readdir(directory)) {
        char *end;
        long fd = strtol(entry->d_name, &end, 10);

        if (*end == '\0' && end != entry->d_name && socket_matches((int)fd, info) &&
            !socket_is_taken(httpd, (int)fd)) {
            found = (int)fd;
        }
    }
    closedir(directory);
    return found;
}

/* ---- deadlines ------------------------------------------------------------------------------ */

void httpd_conn_arm(struct httpd_conn *conn, int64_t ms, int how)
{
    atomic_store(&conn->how, how);
    atomic_store(&conn->deadline_ms, clock_mono_ms() + ms);
}

void httpd_conn_disarm(struct httpd_conn *conn)
{
    atomic_store(&conn->deadline_ms, 0);
}

bool httpd_is_crowded(const struct httpd *httpd)
{
    return atomic_load(&httpd->connected) > httpd->threads;
}

/* While others wait for a thread, as many idle connections give up theirs. Caller holds
 * httpd->lock.
 */
static void make_room(struct httpd *httpd, int64_t now_ms)
{
    int waiting = atomic_load(&httpd->connected) - httpd->threads;

    for (struct httpd_conn *conn = httpd->connections; conn != NULL && waiting > 0;
         conn = conn->next) {
        int64_t since_ms = atomic_load(&conn->idle_since_ms);

        if (conn->fd < 0 || atomic_load(&conn->busy) || since_ms == 0 ||
            now_ms - since_ms < IDLE_KEPT_MS) {
            continue;
        }
        atomic_store(&conn->idle_since_ms, 0);
        (void)shutdown(conn->fd, SHUT_RD);
        waiting--;
    }
}

static void *watchdog_main(void *arg)
{
    struct httpd *httpd = arg;

    pthread_mutex_lock(&httpd->lock);
    while (!httpd->stopping) {
        struct timespec until;
        int64_t now_ms = clock_mono_ms();

        for (struct httpd_conn *conn = httpd->connections; conn != NULL; conn = conn->next) {
            int64_t deadline_ms = atomic_load(&conn->deadline_ms);

            if (deadline_ms == 0 || deadline_ms > now_ms || conn->fd < 0 ||
                !atomic_compare_exchange_strong(&conn->deadline_ms, &deadline_ms, 0)) {
                continue;
            }
            atomic_store(&conn->expired, true);
            /* fails only when the peer is already gone, which ends the wait as well */
            (void)shutdown(conn->fd, atomic_load(&conn->how));
        }
        make_room(httpd, now_ms);
        httpd_refused_sweep(httpd, now_ms);
        until = clock_cond_until(WATCHDOG_TICK_MS);
        pthread_cond_timedwait(&httpd->wake, &httpd->lock, &until);
    }
    pthread_mutex_unlock(&httpd->lock);
    return NULL;
}

/* ---- callbacks from CivetWeb ---------------------------------------------------------------- */

static struct httpd *httpd_of(const struct mg_connection *mg)
{
    return mg_get_user_data(mg_get_context(mg));
}

static int on_connection_open(const struct mg_connection *mg, void **conn_data)
{
    struct httpd *httpd = httpd_of(mg);
    struct httpd_conn *conn = xcalloc(1, sizeof(*conn));

    conn->httpd = httpd;
    conn->fd = -1;
    pthread_mutex_lock(&httpd->lock);
    conn->next = httpd->connections;
    if (conn->next != NULL) {
        conn->next->previous = conn;
    }
    httpd->connections = conn;
    pthread_mutex_unlock(&httpd->lock);
    *conn_data = conn;
    return 0;
}

/* At the first request: before it CivetWeb gives no addresses. The first head is bounded by its own
 * request_timeout_ms, which it counts from the connection's start. */
static void claim_socket(struct httpd_conn *conn, const struct mg_request_info *info)
{
    pthread_mutex_lock(&conn->httpd->lock);
    conn->fd = socket_find(conn->httpd, info);
    pthread_mutex_unlock(&conn->httpd->lock);
}

static void on_connection_close(const struct mg_connection *mg)
{
    struct httpd_conn *conn = mg_get_user_connection_data(mg);
    struct httpd *httpd = httpd_of(mg);

    httpd_connection_closed(httpd);
    if (conn == NULL) {
        return;
    }
    pthread_mutex_lock(&httpd->lock);
    if (conn->previous != NULL) {
        conn->previous->next = conn->next;
    } else {
        httpd->connections = conn->next;
    }
    if (conn->next != NULL) {
        conn->next->previous = conn->previous;
    }
    pthread_mutex_unlock(&httpd->lock);
    free(conn);
}

/* Closing a socket that still holds unread bytes resets it, and the reset can overtake the answer.
 * So: end our side, then swallow what the client is still sending, for a bounded time. */
static void linger(struct httpd_conn *conn)
{
    static const size_t buf_bytes = 65536;
    int64_t start_ms = clock_mono_ms();
    char *buf;

    if (conn->fd < 0 || shutdown(conn->fd, SHUT_WR) != 0) {
        return;
    }
    buf = xmalloc(buf_bytes);
    while (clock_mono_ms() - start_ms <
           (atomic_load(&conn->httpd->draining) ? LINGER_DRAINING_MS : LINGER_TOTAL_MS)) {
        struct pollfd item = {.fd = conn->fd, .events = POLLIN};
        ssize_t got;

        if (poll(&item, 1, LINGER_IDLE_MS) <= 0) {
            break;
        }
        got = recv(conn->fd, buf, buf_bytes, MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN)) {
            break;
        }
    }
    free(buf);
}

/* A request CivetWeb itself could not read. Its own text may quote the request, so it is not
 * passed on. */
static int on_protocol_error(struct mg_connection *mg, int status, const char *text)
{
    struct httpd *httpd = httpd_of(mg);
    struct httpd_conn *conn = mg_get_user_connection_data(mg);
    struct strbuf headers, body, out;
    enum error_code code = status == 413 || status == 431 ? ERR_HEADERS_TOO_LARGE : ERR_INVALID;

    (void)text;
    strbuf_init(&headers, HTTPD_ERROR_BODY_BYTES);
    strbuf_init(&body, HTTPD_ERROR_BODY_BYTES);
    strbuf_init(&out, 3 * HTTPD_ERROR_BODY_BYTES);
    httpd->bad_request(httpd->arg, NULL, code,
                       code == ERR_INVALID
                           ? "the request is malformed, incomplete or its head is too large"
                           : "the request head is too large",
                       &headers, &body);
    strbuf_printf(&out,
                  "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                  "Connection: close\r\n",
                  error_code_http_status(code),
                  mg_get_response_code_text(mg, error_code_http_status(code)), body.length);
    strbuf_append(&out, headers.data, headers.length);
    strbuf_puts(&out, "\r\n");
    strbuf_append(&out, body.data, body.length);
    mg_disable_connection_keep_alive(mg);
    mg_write(mg, out.data, out.length);
    if (conn != NULL && !atomic_load(&conn->expired)) {
        linger(conn);
    }
    strbuf_done(&out);
    strbuf_done(&body);
    strbuf_done(&headers);
    return 0;
}

/* CivetWeb's lines go nowhere: what matters reaches the program through its own calls, and they
 * quote request data. */
static int on_log(const struct mg_connection *mg, const char *text)
{
    (void)mg;
    (void)text;
    return 1;
}

static void answer_bad_request(struct http_exchange *exchange, const struct error *err)
{
    struct httpd *httpd = exchange->httpd;
    struct strbuf headers, body;

    strbuf_init(&headers, HTTPD_ERROR_BODY_BYTES);
    strbuf_init(&body, HTTPD_ERROR_BODY_BYTES);
    httpd->bad_request(httpd->arg, exchange, err->code, err->message, &headers, &body);
    exchange->close = true;
    http_respond(exchange, error_code_http_status(err->code), "application/json", headers.data,
                 body.data, body.length);
    strbuf_done(&body);
    strbuf_done(&headers);
}

/* The only request entry; runs before CivetWeb's own CORS, authentication and file handling, which
 * therefore never run. */
static int on_request(struct mg_connection *mg)
{
    struct httpd *httpd = httpd_of(mg);
    struct httpd_conn *conn = mg_get_user_connection_data(mg);
    struct http_exchange exchange = {
        .httpd = httpd, .conn = conn, .mg = mg, .info = mg_get_request_info(mg)};
    struct error err = ERROR_INIT;

    atomic_store(&conn->busy, true);
    atomic_store(&conn->idle_since_ms, 0);
    httpd_conn_disarm(conn);
    if (conn->fd < 0) {
        claim_socket(conn, exchange.info);
    }
    atomic_fetch_add(&httpd->active, 1);
    strbuf_init(&exchange.out, 2 * HTTPD_WRITE_PIECE_BYTES);

    if (httpd_check_request(&exchange, &err) != 0) {
        answer_bad_request(&exchange, &err);
    } else {
        httpd->handler(httpd->arg, &exchange);
    }

    if (exchange.status == 0) {
        error_set(&err, ERR_INTERNAL, "the request was not answered");
        answer_bad_request(&exchange, &err);
    }
    if (exchange.streaming && !exchange.stream_ended) {
        exchange.close = true;
    }
    if (!exchange.body_done) {
        exchange.close = true;
    }
    if (exchange.close || exchange.write_failed) {
        mg_disable_connection_keep_alive(mg);
    }
    strbuf_done(&exchange.out);
    atomic_fetch_sub(&httpd->active, 1);
    if (!exchange.body_done && !exchange.write_failed && !atomic_load(&conn->expired)) {
        linger(conn);
    }
    httpd_conn_arm(conn, (int64_t)httpd->keep_alive_ms + httpd->request_timeout_ms, SHUT_RDWR);
    atomic_store(&conn->idle_since_ms, clock_mono_ms());
    atomic_store(&conn->busy, false);
    return exchange.status;
}

/* ---- start and stop ------------------------------------------------------------------------- */

static int check_options(const struct httpd_options *options, struct error *err)
{
    if (options->listen == NULL || options->listen[0] == '\0') {
        return error_set(err, ERR_CONFIG, "listen address is empty");
    }
    if (strpbrk(options->listen, ",sr+[") != NULL) {
        return error_set(err, ERR_CONFIG, "listen address \"%s\" is not an IPv4 ADDRESS:PORT",
                         options->listen);
    }
    if (options->threads < 1 || options->connection_queue < 1 || options->keep_alive_ms < 1 ||
        options->request_timeout_ms < 1 || options->max_head_bytes < 1024 ||
        options->handler == NULL || options->bad_request == NULL) {
        return error_set(err, ERR_CONFIG, "httpd options are incomplete");
    }
    if (!httpd_stack_is_raised()) {
        return error_set(err, ERR_CONFIG,
                         "linked without -Wl,--export-dynamic-symbol=pthread_attr_setstacksize");
    }
    return 0;
}

static void init_locks(struct httpd *httpd)
{
    pthread_mutex_init(&httpd->lock, NULL);
    clock_cond_init(&httpd->wake);
}

static struct mg_context *start_civetweb(struct httpd *httpd, const struct httpd_options *options)
{
    static const struct mg_callbacks callbacks = {
        .begin_request = on_request,
        .log_message = on_log,
        .log_access = on_log,
        .connection_close = on_connection_close,
        .http_error = on_protocol_error,
        .init_connection = on_connection_open,
    };
    char threads[16], queue[16], keep_alive[16], timeout[16], head[16];
    const char *settings[] = {
        "listening_ports",
        options->listen,
        "num_threads",
        threads,
        "connection_queue",
        queue,
        "listen_backlog",
        queue,
        "enable_keep_alive",
        "yes",
        "keep_alive_timeout_ms",
        keep_alive,
        "request_timeout_ms",
        timeout,
        "max_request_size",
        head,
        "tcp_nodelay",
        "1",
        "decode_url",
        "no",
        /* empty: else CivetWeb answers OPTIONS preflights itself, with a wildcard */
        "access_control_allow_origin",
        "",
        "access_control_allow_methods",
        "",
        "access_control_allow_headers",
        "",
        "enable_directory_listing",
        "no",
        NULL,
    };
    struct sigaction child;
    struct mg_context *context;

    snprintf(threads, sizeof(threads), "%d", options->threads);
    snprintf(queue, sizeof(queue), "%d", options->connection_queue);
    snprintf(keep_alive, sizeof(keep_alive), "%d", options->keep_alive_ms);
    snprintf(timeout, sizeof(timeout), "%d", options->request_timeout_ms);
    snprintf(head, sizeof(head), "%zu", options->max_head_bytes);
    /* its manual says it may ignore SIGCHLD, which would take waitpid() from the program */
    sigaction(SIGCHLD, NULL, &child);
    httpd_accept_begin(httpd, options->threads + options->connection_queue, options->refusal_body);
    context = mg_start(&callbacks, httpd, settings);
    httpd_accept_started();
    sigaction(SIGCHLD, &child, NULL);
    return context;
}

struct httpd *httpd_start(const struct httpd_options *options, struct error *err)
{
    struct mg_server_port ports[2];
    struct httpd *httpd;

    if (check_options(options, err) != 0) {
        return NULL;
    }
    /* no feature bits: TLS of this build crashes with OpenSSL 3, the rest is unused */
    mg_init_library(0);
    httpd = xcalloc(1, sizeof(*httpd));
    httpd->handler = options->handler;
    httpd->bad_request = options->bad_request;
    httpd->arg = options->arg;
    httpd->keep_alive_ms = options->keep_alive_ms;
    httpd->request_timeout_ms = options->request_timeout_ms;
    httpd->threads = options->threads;
    /* before the watchdog, which closes what is here */
    for (int i = 0; i < HTTPD_REFUSED_MAX; i++) {
        httpd->refused[i].fd = -1;
    }
    init_locks(httpd);
    if (pthread_create(&httpd->watchdog, NULL, watchdog_main, httpd) != 0) {
        error_set(err, ERR_LIMIT, "cannot start a thread");
        goto no_thread;
    }
    errno = 0;
    httpd->context = start_civetweb(httpd, options);
    if (httpd->context == NULL || mg_get_server_ports(httpd->context, 2, ports) < 1) {
        error_set_errno(err, ERR_CONFIG, errno, "cannot listen on %s", options->listen);
        httpd_stop(httpd);
        return NULL;
    }
    if (!atomic_load(&httpd->gated)) {
        error_set(err, ERR_CONFIG, "linked without -Wl,--export-dynamic-symbol=accept and =listen");
        httpd_stop(httpd);
        return NULL;
    }
    httpd->port = ports[0].port;
    return httpd;

no_thread:
    pthread_cond_destroy(&httpd->wake);
    pthread_mutex_destroy(&httpd->lock);
    free(httpd);
    mg_exit_library();
    return NULL;
}

int httpd_port(const struct httpd *httpd)
{
    return httpd->port;
}

/* Ends connections that are between two requests. */
static void close_idle(struct httpd *httpd, int how)
{
    pthread_mutex_lock(&httpd->lock);
    for (struct httpd_conn *conn = httpd->connections; conn != NULL; conn = conn->next) {
        if (conn->fd >= 0 && !atomic_load(&conn->busy)) {
            (void)shutdown(conn->fd, how);
        }
    }
    pthread_mutex_unlock(&httpd->lock);
}

void httpd_drain(struct httpd *httpd)
{
    if (!atomic_exchange(&httpd->draining, true)) {
        close_idle(httpd, SHUT_RD);
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
    close_idle(httpd, SHUT_RDWR);
    if (httpd->context != NULL) {
        httpd_accept_shut(httpd);
        mg_stop(httpd->context);
    }
    httpd_accept_end(httpd);
    pthread_mutex_lock(&httpd->lock);
    httpd->stopping = true;
    pthread_cond_signal(&httpd->wake);
    pthread_mutex_unlock(&httpd->lock);
    pthread_join(httpd->watchdog, NULL);
    pthread_cond_destroy(&httpd->wake);
    pthread_mutex_destroy(&httpd->lock);
    free(httpd);
    mg_exit_library();
}
