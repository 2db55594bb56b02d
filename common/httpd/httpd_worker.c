/*
 * httpd_worker - what a thread of CivetWeb works at: one request after the other, of any client.
 *
 * Owns: which connection a worker serves, how long it waits for that connection's next request,
 * the head that CivetWeb gets. Threads: a worker's fields are its own, but for conn, which the
 * acceptor sets under httpd->lock while the worker is idle. Failure: a head that is refused is
 * told in worker->refusal.
 */
#include "common/httpd/httpd_worker.h"

#include <errno.h>
#include <sys/socket.h>

#include "common/base/clock.h"
#include "common/httpd/httpd_conn.h"
#include "common/httpd/httpd_head.h"
#include "common/httpd/httpd_internal.h"

enum { READ_BYTES = 4096 /* at once, of a connection that has a thread */ };

/* ---- the next request ----------------------------------------------------------------------- */

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

/* Waits until there is a connection with a request. */
static struct httpd_conn *take(struct httpd_worker *worker)
{
    struct httpd *httpd = worker->httpd;
    struct httpd_conn *conn;

    pthread_mutex_lock(&httpd->lock);
    conn = TAILQ_FIRST(&httpd->ready);
    if (conn != NULL) {
        TAILQ_REMOVE(&httpd->ready, conn, link);
        atomic_fetch_sub(&httpd->waiting, 1);
        conn->class = CONN_BUSY;
        worker->conn = conn;
    } else {
        worker->next_idle = httpd->idle;
        httpd->idle = worker;
        while (worker->conn == NULL && !atomic_load(&httpd->stopping)) {
            pthread_cond_wait(&worker->wake, &httpd->lock);
        }
        conn = worker->conn;
    }
    pthread_mutex_unlock(&httpd->lock);
    if (conn != NULL) {
        atomic_fetch_add(&httpd->busy, 1);
    }
    return conn;
}

struct httpd_conn *worker_next_request(struct httpd_worker *worker)
{
    struct httpd *httpd = worker->httpd;
    struct httpd_conn *conn = worker->conn;

    if (conn != NULL) { /* kept */
        switch (wait_for_next(httpd, conn)) {
        case NEXT_REQUEST:
            return conn;
        case NEXT_PARK:
            atomic_fetch_sub(&httpd->busy, 1);
            conn_park(httpd, worker, conn,
                      conn->in_length == 0    ? CONN_IDLE
                      : conn->head_bytes == 0 ? CONN_HEAD
                                              : CONN_BODY);
            break;
        case NEXT_CLOSE:
            worker_finish(worker, false, false);
            break;
        }
    }
    return atomic_load(&httpd->stopping) ? NULL : take(worker);
}

/* ---- its head, and its end ------------------------------------------------------------------ */

static int check_verdict(const struct httpd *httpd, enum conn_verdict verdict, struct error *err)
{
    switch (verdict) {
    case VERDICT_OK:
        break;
    case VERDICT_MALFORMED:
        return error_set(err, ERR_INVALID,
                         "the head holds a control character or a line that does not end with "
                         "CR LF");
    case VERDICT_TOO_LARGE:
        return error_set(err, ERR_HEADERS_TOO_LARGE, "the head is larger than %zu bytes",
                         httpd->options.max_head_bytes);
    case VERDICT_TIMEOUT:
        return error_set(err, ERR_REQUEST_TIMEOUT, "the head did not arrive in %d ms",
                         httpd->options.request_timeout_ms);
    }
    return 0;
}

size_t worker_read_head(struct httpd_worker *worker, char *buf, size_t size)
{
    struct httpd_conn *conn = worker->conn;
    long bytes;

    worker->refusal = (struct error)ERROR_INIT;
    worker->facts = (struct head_facts){.method = ""};
    if (check_verdict(worker->httpd, conn->verdict, &worker->refusal) < 0) {
        return 0;
    }
    conn->in_at = conn->head_bytes;
    if (conn->chunked) {
        conn_reserve(conn, HTTPD_AHEAD_BYTES); /* chunks are read behind the head */
    }
    bytes =
        head_for_civetweb(conn->in, conn->head_bytes, buf, size, &worker->facts, &worker->refusal);
    return bytes > 0 ? (size_t)bytes : 0;
}

void worker_finish(struct httpd_worker *worker, bool keep, bool linger)
{
    struct httpd *httpd = worker->httpd;
    struct httpd_conn *conn = worker->conn;

    if (keep) {
        conn_next_request(conn);
        return;
    }
    atomic_fetch_sub(&httpd->busy, 1);
    if (linger) {
        conn_park(httpd, worker, conn, CONN_LINGER);
    } else {
        conn_close(httpd, worker, conn);
    }
}
