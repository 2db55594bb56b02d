/*
 * httpd_virtual - the connections that CivetWeb sees, and the socket calls that it makes on them.
 *
 * CivetWeb gives a thread to a connection before its first byte and takes it back only by closing
 * the connection, and no call of its API hands it a socket or gets one back. So it does not see the
 * clients. It sees one virtual connection per worker, with a client that never leaves and sends
 * one request after the other. A worker gets its connection when a request first finds no idle one.
 * Each of them is the request of some real connection, and gets there when its head is whole
 * (httpd_conn.c). That takes five functions of libc, which httpd_libc.c replaces on the threads of
 * CivetWeb:
 *   listen  in set_ports_option: its descriptor is noted. Before its threads start, init_context
 *           moves the listener to the acceptor and leaves an eventfd at that descriptor, so that
 *           poll() in master_thread_run waits for workers that lack a connection, not for clients;
 *   accept  in accept_new_connection: makes a virtual connection, a copy of a socket whose peer is
 *           closed, which is always readable;
 *   recv    in pull_inner: in read_message it waits for a request and returns its head; in mg_read
 *           it reads the body of the client whose turn it is; after the handler, what is left;
 *   send    in push_inner, for mg_write: sends to that client;
 *   pthread_attr_setstacksize  in mg_start_thread_with_id: Debian's build asks for 102,400 bytes,
 *           78 KB of which are left in a handler; libjwt, libpq and curl need more.
 * On any other thread, and while a handler runs, they are libc's.
 *
 * A virtual connection ends when CivetWeb could not read a request or its whole body; the worker
 * gets another one. Descriptors never change hands: the virtual ones are CivetWeb's alone, the real
 * ones ours alone. Threads: all state is of one thread, but for httpd and its eventfd. Failure:
 * virtual_start reports.
 */
#include "common/httpd/httpd_virtual.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/httpd/httpd_conn.h"
#include "common/httpd/httpd_internal.h"
#include "common/httpd/httpd_libc.h"
#include "common/httpd/httpd_socket.h"
#include "common/httpd/httpd_worker.h"

enum {
    STACK_BYTES = 512 * 1024,
    OUT_MAX_BYTES = 65536 + HTTPD_JOINED_BYTES,
    EXHAUSTED_PAUSE_MS = 10,
    THREADS_START_MS = 10000,
};

static _Thread_local struct httpd *starting;        /* mg_start runs here */
static _Thread_local struct httpd *accepting;       /* this is its accepting thread */
static _Thread_local struct httpd_worker *serving;  /* this is its worker */
static _Thread_local struct http_exchange *calling; /* mg_read or mg_write runs here */

/* ---- what CivetWeb calls instead ------------------------------------------------------------ */

static void note_listener(int fd)
{
    starting->civetweb_listener = fd;
}

/* Replaces accept(). -1: a descriptor is lacking, or no worker needs one. */
static int accept_virtual(void)
{
    struct httpd *httpd = accepting;
    uint64_t one;
    int fd;

    if (atomic_load(&httpd->stopping) || read(httpd->wanted_fd, &one, sizeof(one)) < 0) {
        errno = EAGAIN;
        return -1;
    }
    fd = fcntl(httpd->virtual_fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) {
        httpd_want_virtual(httpd); /* and try again */
        clock_sleep_ms(EXHAUSTED_PAUSE_MS);
    }
    return fd;
}

/* CivetWeb reads a refused head, too, and finds it malformed: its http_error tells the client. */
static size_t next_head(struct httpd_worker *worker, char *buf, size_t size)
{
    size_t bytes;

    if (worker_next_request(worker) == NULL) {
        return 0;
    }
    bytes = worker_read_head(worker, buf, size);
    worker->unanswered = true;
    if (bytes == 0) {
        buf[0] = '\0';
        bytes = 1;
    }
    return bytes;
}

static size_t rest_of_body(struct httpd_worker *worker, char *buf, size_t size)
{
    const size_t bytes = strnlen(worker->rest, size);

    memcpy(buf, worker->rest, bytes);
    worker->rest += bytes;
    return bytes;
}

/* One piece ends mg_read, which would wait until the whole buffer is full. */
static ssize_t piece_of_body(struct http_exchange *exchange, void *buf, size_t bytes)
{
    ssize_t got = -1;

    if (!exchange->piece_came) {
        got = socket_take(exchange, buf, bytes, exchange->piece_until_ms);
        exchange->piece_came = got > 0;
    }
    return got;
}

static bool recv_virtual(void *buf, size_t bytes, ssize_t *ret_got)
{
    struct http_exchange *exchange = calling;
    const enum virtual_recv meant = serving->recv;

    if (exchange == NULL && meant == RECV_NOTHING) {
        return false;
    }
    /* the functions called here call recv() on their own descriptors */
    if (exchange != NULL) {
        calling = NULL;
        serving->recv = RECV_NOTHING;
        *ret_got = piece_of_body(exchange, buf, bytes);
        calling = exchange;
    } else {
        serving->recv = RECV_NOTHING;
        *ret_got = (ssize_t)(meant == RECV_HEAD ? next_head(serving, buf, bytes)
                                                : rest_of_body(serving, buf, bytes));
    }
    serving->recv = meant;
    return true;
}

static bool send_virtual(const void *data, size_t bytes, ssize_t *ret_sent)
{
    struct http_exchange *exchange = calling;

    if (exchange == NULL) {
        return false;
    }
    calling = NULL;
    *ret_sent = (ssize_t)bytes;
    if (socket_send(exchange, data, bytes) < 0) {
        *ret_sent = -1;
        errno = EPIPE; /* at EAGAIN CivetWeb would try again */
    }
    calling = exchange;
    return true;
}

static const struct httpd_libc_calls starting_calls = {.listening = note_listener,
                                                       .stack_bytes = STACK_BYTES};
static const struct httpd_libc_calls accepting_calls = {.accept = accept_virtual};
static const struct httpd_libc_calls worker_calls = {.recv = recv_virtual, .send = send_virtual};

/* ---- what CivetWeb tells -------------------------------------------------------------------- */

static void on_context(const struct mg_context *civetweb)
{
    struct httpd *httpd = mg_get_user_data(civetweb);

    httpd->listener = fcntl(httpd->civetweb_listener, F_DUPFD_CLOEXEC, 0);
    if (httpd->listener >= 0 && (fcntl(httpd->listener, F_SETFL, O_NONBLOCK) != 0 ||
                                 dup3(httpd->wanted_fd, httpd->civetweb_listener, O_CLOEXEC) < 0)) {
        close(httpd->listener);
        httpd->listener = -1;
    }
}

static void *on_thread(const struct mg_context *civetweb, int type)
{
    struct httpd *httpd = mg_get_user_data(civetweb);

    if (type == 0) {
        accepting = httpd;
        httpd_libc_replace(&accepting_calls);
        return NULL;
    }
    pthread_mutex_lock(&httpd->lock);
    serving = &httpd->workers[atomic_load(&httpd->worker_count)];
    serving->httpd = httpd;
    pthread_cond_init(&serving->wake, NULL);
    strbuf_init(&serving->out, OUT_MAX_BYTES);
    atomic_fetch_add(&httpd->worker_count, 1);
    pthread_mutex_unlock(&httpd->lock);
    httpd_libc_replace(&worker_calls);
    return NULL;
}

static int on_connection(const struct mg_connection *mg, void **ret_data)
{
    (void)mg;
    *ret_data = NULL;
    serving->recv = RECV_HEAD;
    return 0;
}

static void on_request_end(const struct mg_connection *mg, int status)
{
    (void)mg;
    (void)status;
    serving->recv = RECV_HEAD;
}

static void on_connection_end(const struct mg_connection *mg)
{
    (void)mg;
    serving->recv = RECV_NOTHING;
    if (serving->unanswered) { /* it had no memory, or stops */
        serving->unanswered = false;
        worker_finish(serving, false, false);
    }
    if (!atomic_load(&serving->httpd->stopping)) {
        httpd_want_virtual(serving->httpd);
    }
}

/* Only what it says while it starts is news; the rest quotes requests. */
static int on_log(const struct mg_connection *mg, const char *text)
{
    (void)mg;
    if (starting != NULL) {
        snprintf(starting->start_failure, sizeof(starting->start_failure), "%s", text);
    }
    return 1;
}

/* ---- for the server ------------------------------------------------------------------------- */

static bool threads_run(const struct httpd *httpd)
{
    for (int ms = 0; ms < THREADS_START_MS; ms++) {
        if (atomic_load(&httpd->worker_count) == httpd->options.threads) {
            return true;
        }
        clock_sleep_ms(1);
    }
    return false;
}

int virtual_start(struct httpd *httpd, struct mg_callbacks *callbacks, const char **settings,
                  struct error *err)
{
    struct sigaction child;
    int pair[2];

    if (!httpd_libc_is_exported()) {
        return error_set(err, ERR_CONFIG,
                         "linked without the -Wl,--export-dynamic-symbol that "
                         "libcivetweb needs (Makefile)");
    }
    httpd->wanted_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
    if (httpd->wanted_fd < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        return error_set_errno(err, ERR_LIMIT, errno, "socketpair");
    }
    close(pair[1]);
    httpd->virtual_fd = pair[0];
    callbacks->init_context = on_context;
    callbacks->init_thread = on_thread;
    callbacks->init_connection = on_connection;
    callbacks->end_request = on_request_end;
    callbacks->connection_close = on_connection_end;
    callbacks->log_message = on_log;
    sigaction(SIGCHLD, NULL, &child); /* its manual says it may ignore it */
    starting = httpd;
    httpd_libc_replace(&starting_calls);
    httpd->civetweb = mg_start(callbacks, httpd, settings);
    httpd_libc_replace(NULL);
    starting = NULL;
    sigaction(SIGCHLD, &child, NULL);
    if (httpd->civetweb == NULL || httpd->listener < 0) {
        return error_set(err, ERR_CONFIG, "cannot listen on %s: %s", httpd->options.listen,
                         httpd->start_failure);
    }
    if (!threads_run(httpd)) {
        return error_set(err, ERR_LIMIT, "cannot start %d threads", httpd->options.threads);
    }
    return 0;
}

void virtual_stop(struct httpd *httpd)
{
    if (httpd->civetweb != NULL) {
        httpd_want_virtual(httpd); /* its accepting thread would look every two seconds */
        mg_stop(httpd->civetweb);
    }
}

struct httpd_worker *virtual_request_begin(void)
{
    serving->recv = RECV_NOTHING;
    serving->unanswered = false;
    return serving;
}

void virtual_request_end(struct httpd_worker *worker, bool chunked)
{
    worker->recv = RECV_REST;
    worker->rest = chunked ? "0\r\n\r\n" : "";
}

long virtual_read(struct http_exchange *exchange, void *buf, size_t bytes)
{
    int got;

    exchange->piece_came = false;
    calling = exchange;
    got = mg_read(exchange->mg, buf, bytes);
    calling = NULL;
    return got;
}

int virtual_write(struct http_exchange *exchange, const void *data, size_t bytes)
{
    int sent;

    if (exchange->write_failed || bytes == 0) {
        return exchange->write_failed ? -1 : 0;
    }
    calling = exchange;
    sent = mg_write(exchange->mg, data, bytes);
    calling = NULL;
    if (sent < 0 || (size_t)sent != bytes) {
        exchange->write_failed = true;
        exchange->close = true;
        return -1;
    }
    return 0;
}
