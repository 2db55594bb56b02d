/*
 * httpd_conn - connections without a thread, and how many there may be.
 *
 * One thread, the acceptor, owns by epoll every connection that has no whole request: silent ones,
 * half-read heads, short bodies on their way, idle ones between two requests, and answered ones
 * whose client is still sending. A connection gets a thread when its head (and a body of at most
 * HTTPD_AHEAD_BYTES) has arrived. When an address or the server holds as many as it may, the oldest
 * connection that has nothing to answer makes room. Owns: the listener, the lists, the bounds, the
 * refusals. Threads: see httpd_internal.h. Failure: a refusal that cannot be sent is a closed
 * connection.
 */
#include "common/httpd/httpd_conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/metrics.h"
#include "common/httpd/httpd_head.h"
#include "common/httpd/httpd_holder.h"
#include "common/httpd/httpd_internal.h"

enum {
    EVENTS = 256,
    ACCEPTS_PER_TURN = 64,
    TICK_MS = 100,
    IN_STEP_BYTES = 512,
    IN_KEPT_BYTES = 4096, /* an idle connection with a thread keeps no larger buffer */
    LINGERING_MAX = 256,  /* more are closed at once */
    LINGER_IDLE_MS = 1000,
    LINGER_TOTAL_MS = 5000,
    LINGER_DRAINING_MS = 500,
    EXHAUSTED_PAUSE_MS = 10,
    STICKY_MS = 50, /* how long a thread waits for the next request of its connection */
};

static struct metric connections_gauge = {.name = "httpd_connections",
                                          .help = "Connections accepted and not yet closed.",
                                          .type = METRIC_GAUGE};
static struct metric refused_total = {.name = "httpd_connections_refused_total",
                                      .help = "Connections answered 503 because of their number.",
                                      .type = METRIC_COUNTER};
static struct metric shed_total = {
    .name = "httpd_connections_shed_total",
    .help = "Connections without a whole request that were closed to make room.",
    .type = METRIC_COUNTER};

/* ---- buffers ---- */

void conn_reserve(struct httpd_conn *conn, size_t bytes)
{
    const size_t wanted = conn->in_length + bytes;

    if (wanted > conn->in_capacity) {
        conn->in_capacity = (wanted + IN_STEP_BYTES - 1) / IN_STEP_BYTES * IN_STEP_BYTES;
        conn->in = xrealloc(conn->in, conn->in_capacity);
    }
}

static void drop_buffer(struct httpd_conn *conn)
{
    free(conn->in);
    conn->in = NULL;
    conn->in_length = conn->in_capacity = conn->in_at = conn->scanned = 0;
}

void conn_next_request(struct httpd_conn *conn)
{
    const size_t left = conn->in_length - conn->in_at;

    if (left > 0) {
        memmove(conn->in, conn->in + conn->in_at, left);
    } else if (conn->in_capacity > IN_KEPT_BYTES) {
        drop_buffer(conn);
    }
    conn->in_length = left;
    conn->in_at = conn->scanned = conn->head_bytes = 0;
    conn->verdict = VERDICT_OK;
    conn->body_late = false;
}

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

/* ---- lists; the caller holds the lock ---- */

static void uncount(struct httpd *httpd, struct httpd_conn *conn)
{
    if (conn->counted) {
        conn->counted = false;
        conn->holder->connections--;
        httpd->connected--;
    }
}

static void list_in(struct httpd *httpd, struct httpd_conn *conn, enum conn_class class)
{
    conn->class = class;
    conn->since_ms = clock_mono_ms();
    if (class == CONN_READY) {
        TAILQ_INSERT_TAIL(&httpd->ready, conn, link);
        atomic_fetch_add(&httpd->waiting, 1);
    } else if (class < CONN_CLASSES) {
        TAILQ_INSERT_TAIL(&httpd->parked[class], conn, link);
        TAILQ_INSERT_TAIL(&conn->holder->parked[class], conn, holder_link);
        httpd->buffered_bytes += conn->in_capacity;
        httpd->lingering += class == CONN_LINGER;
    }
}

static void list_out(struct httpd *httpd, struct httpd_conn *conn)
{
    const enum conn_class class = conn->class;

    if (class == CONN_READY) {
        TAILQ_REMOVE(&httpd->ready, conn, link);
        atomic_fetch_sub(&httpd->waiting, 1);
    } else if (class < CONN_CLASSES) {
        TAILQ_REMOVE(&httpd->parked[class], conn, link);
        TAILQ_REMOVE(&conn->holder->parked[class], conn, holder_link);
        httpd->buffered_bytes -= conn->in_capacity;
        httpd->lingering -= class == CONN_LINGER;
    }
    conn->class = CONN_BUSY;
}

/* Of a connection in no list. */
static void end_conn(struct httpd *httpd, struct httpd_conn *conn)
{
    uncount(httpd, conn);
    holder_give(httpd, conn->holder);
    metric_add(&connections_gauge, -1);
    close(conn->fd);
    drop_buffer(conn);
    free(conn);
}

/* On the acceptor: closed now, freed when no event of this turn can name it any more. */
static void bury(struct httpd *httpd, struct httpd_conn *conn)
{
    list_out(httpd, conn);
    (void)epoll_ctl(httpd->epoll, EPOLL_CTL_DEL, conn->fd, NULL);
    TAILQ_INSERT_TAIL(&httpd->dead, conn, link);
    uncount(httpd, conn);
}

static void bury_dead(struct httpd *httpd)
{
    struct httpd_conn *conn;

    while ((conn = TAILQ_FIRST(&httpd->dead)) != NULL) {
        TAILQ_REMOVE(&httpd->dead, conn, link);
        end_conn(httpd, conn);
    }
}

/* Wakes the acceptor once the connection has something to read. */
static void watch(struct httpd *httpd, struct httpd_conn *conn, int operation)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLONESHOT, .data.ptr = conn};

    if (epoll_ctl(httpd->epoll, operation, conn->fd, &event) != 0 && errno == ENOENT) {
        (void)epoll_ctl(httpd->epoll, EPOLL_CTL_ADD, conn->fd, &event);
    }
}

/* The answer has been sent, or none is due; what the client is still sending is swallowed, since
 * closing at once would reset it, and the reset can overtake the answer. */
static void linger(struct httpd *httpd, struct httpd_conn *conn)
{
    drop_buffer(conn);
    (void)shutdown(conn->fd, SHUT_WR);
    uncount(httpd, conn);
    conn->linger_end_ms =
        clock_mono_ms() + (atomic_load(&httpd->draining) ? LINGER_DRAINING_MS : LINGER_TOTAL_MS);
    list_in(httpd, conn, CONN_LINGER);
}

/* ---- making room; the caller holds the lock ---- */

/* The oldest of these that has no request to answer. */
static struct httpd_conn *oldest(const struct conn_list parked[CONN_CLASSES])
{
    static const enum conn_class order[] = {CONN_HEAD, CONN_BODY, CONN_IDLE};

    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        if (!TAILQ_EMPTY(&parked[order[i]])) {
            return TAILQ_FIRST(&parked[order[i]]);
        }
    }
    return NULL;
}

static bool shed(struct httpd *httpd, struct httpd_conn *conn)
{
    if (conn == NULL) {
        return false;
    }
    metric_add(&shed_total, 1);
    bury(httpd, conn);
    return true;
}

static bool is_trusted(const struct httpd *httpd, uint32_t address)
{
    const struct cidr one = {.address = address, .bits = 32};

    for (size_t i = 0; i < httpd->trusted.count; i++) {
        if (cidr_contains(httpd->trusted.list[i], one)) {
            return true;
        }
    }
    return false;
}

/* Whether there is, or could be made, a place for one more of this holder. */
static bool make_room(struct httpd *httpd, const struct httpd_holder *holder)
{
    const int per_address = httpd->options.max_address_connections;

    if (per_address > 0 && holder->connections >= per_address &&
        !is_trusted(httpd, (uint32_t)holder->key) && !shed(httpd, oldest(holder->parked))) {
        return false;
    }
    return httpd->connected < httpd->options.max_connections || shed(httpd, oldest(httpd->parked));
}

/* Heads and short bodies take no more memory together than they may: the oldest go. */
static void bound_buffers(struct httpd *httpd)
{
    static const enum conn_class order[] = {CONN_BODY, CONN_HEAD};

    for (size_t i = 0; i < 2; i++) {
        struct httpd_conn *next;

        for (struct httpd_conn *conn = TAILQ_FIRST(&httpd->parked[order[i]]);
             conn != NULL && httpd->buffered_bytes > HTTPD_BUFFERED_BYTES; conn = next) {
            next = TAILQ_NEXT(conn, link);
            if (conn->in_capacity > 0) {
                shed(httpd, conn);
            }
        }
    }
}

/* ---- on the acceptor ---- */

/* Answers with the prepared 503. Caller holds the lock; the connection is in no list. */
static void refuse(struct httpd *httpd, struct httpd_conn *conn)
{
    metric_add(&refused_total, 1);
    (void)send(conn->fd, httpd->refusal.data, httpd->refusal.length, MSG_DONTWAIT | MSG_NOSIGNAL);
    linger(httpd, conn);
    if (httpd->lingering > LINGERING_MAX) {
        bury(httpd, conn);
    } else {
        watch(httpd, conn, EPOLL_CTL_MOD);
    }
}

void httpd_want_virtual(struct httpd *httpd)
{
    const uint64_t one = 1;

    (void)!write(httpd->wanted_fd, &one, sizeof(one)); /* never full */
}

/* True when a request would get a thread at once. Caller holds the lock. */
static bool has_thread(const struct httpd *httpd)
{
    return httpd->idle != NULL || httpd->wanted < httpd->options.threads;
}

/* Gives it a thread, or a place in the queue. Caller holds the lock; it is in no list. */
static void dispatch(struct httpd *httpd, struct httpd_conn *conn)
{
    struct httpd_worker *worker = httpd->idle;

    if (worker != NULL) {
        httpd->idle = worker->next_idle;
        conn->class = CONN_BUSY;
        worker->conn = conn;
        pthread_cond_signal(&worker->wake);
    } else if (httpd->wanted < httpd->options.threads) {
        httpd->wanted++;
        list_in(httpd, conn, CONN_READY);
        httpd_want_virtual(httpd);
    } else if (atomic_load(&httpd->waiting) < httpd->options.connection_queue) {
        list_in(httpd, conn, CONN_READY);
    } else {
        refuse(httpd, conn);
    }
}

/* What came belongs to nobody. Caller holds the lock. */
static void swallow(struct httpd *httpd, struct httpd_conn *conn, char *scratch, size_t bytes)
{
    ssize_t got;

    do {
        got = recv(conn->fd, scratch, bytes, MSG_DONTWAIT);
    } while (got == (ssize_t)bytes);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
        bury(httpd, conn);
        return;
    }
    list_out(httpd, conn);
    list_in(httpd, conn, CONN_LINGER);
    watch(httpd, conn, EPOLL_CTL_MOD);
}

/* A client without TCP_NODELAY that sends head and body apart keeps the body until the head is
 * acknowledged, which the kernel puts off for 40 ms when no answer goes out. */
static void acknowledge(const struct httpd_conn *conn)
{
    const int on = 1;

    (void)setsockopt(conn->fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
}

/* Reads what has come for a request and sees how far it is. Caller holds the lock. */
static void gather(struct httpd *httpd, struct httpd_conn *conn, char *scratch, size_t bytes)
{
    const enum conn_class before = conn->class;
    const ssize_t got = recv(conn->fd, scratch, bytes, MSG_DONTWAIT);

    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        watch(httpd, conn, EPOLL_CTL_MOD);
        return;
    }
    if (got <= 0) {
        if (got == 0 && before == CONN_BODY) {
            list_out(httpd, conn);
            dispatch(httpd, conn); /* half a body is the handler's to refuse */
        } else {
            bury(httpd, conn);
        }
        return;
    }
    httpd->buffered_bytes -= conn->in_capacity;
    conn_reserve(conn, (size_t)got);
    httpd->buffered_bytes += conn->in_capacity;
    memcpy(conn->in + conn->in_length, scratch, (size_t)got);
    conn->in_length += (size_t)got;
    if (conn_is_ready(httpd, conn)) {
        list_out(httpd, conn);
        dispatch(httpd, conn);
        return;
    }
    acknowledge(conn);
    const enum conn_class after = conn->head_bytes > 0 ? CONN_BODY : CONN_HEAD;
    /* within a class it keeps its place: its time runs since the first byte */
    if (after != before) {
        list_out(httpd, conn);
        list_in(httpd, conn, after);
    }
    watch(httpd, conn, EPOLL_CTL_MOD);
    bound_buffers(httpd);
}

/* Caller holds the lock. */
static void on_readable(struct httpd *httpd, struct httpd_conn *conn, char *scratch, size_t bytes)
{
    switch (conn->class) {
    case CONN_LINGER:
        swallow(httpd, conn, scratch, bytes);
        break;
    case CONN_HEAD:
    case CONN_BODY:
    case CONN_IDLE:
        gather(httpd, conn, scratch, bytes);
        break;
    case CONN_CLASSES:
    case CONN_BUSY:
        break; /* made room in this very turn */
    }
}

/* From the acceptor, without an event of its own that would have ended the watch: a later one would
 * name a connection that its worker may have freed. */
static void take_back(struct httpd *httpd, struct httpd_conn *conn)
{
    list_out(httpd, conn);
    (void)epoll_ctl(httpd->epoll, EPOLL_CTL_DEL, conn->fd, NULL);
}

/* Caller holds the lock. */
static void expire(struct httpd *httpd, int64_t now_ms)
{
    const struct httpd_options *options = &httpd->options;
    struct httpd_conn *conn, *next;

    for (conn = TAILQ_FIRST(&httpd->parked[CONN_LINGER]); conn != NULL; conn = next) {
        next = TAILQ_NEXT(conn, link);
        if (now_ms - conn->since_ms >= LINGER_IDLE_MS || now_ms >= conn->linger_end_ms ||
            httpd->lingering > LINGERING_MAX) {
            bury(httpd, conn);
        }
    }
    while ((conn = TAILQ_FIRST(&httpd->parked[CONN_IDLE])) != NULL &&
           (atomic_load(&httpd->draining) || now_ms - conn->since_ms >= options->keep_alive_ms)) {
        bury(httpd, conn);
    }
    while ((conn = TAILQ_FIRST(&httpd->parked[CONN_BODY])) != NULL &&
           now_ms - conn->since_ms >= options->request_timeout_ms) {
        take_back(httpd, conn);
        conn->body_late = true;
        dispatch(httpd, conn);
    }
    while ((conn = TAILQ_FIRST(&httpd->parked[CONN_HEAD])) != NULL &&
           now_ms - conn->since_ms >= options->request_timeout_ms) {
        /* told only if that costs nobody anything */
        if (conn->in_length > 0 && has_thread(httpd)) {
            take_back(httpd, conn);
            conn->verdict = VERDICT_TIMEOUT;
            dispatch(httpd, conn);
        } else {
            bury(httpd, conn);
        }
    }
}

struct httpd_conn *conn_new(struct httpd *httpd, int fd, const struct sockaddr_in *address)
{
    const struct timeval sticky = {.tv_usec = STICKY_MS * 1000};
    const int on = 1;
    struct httpd_conn *conn = xcalloc(1, sizeof(*conn));

    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &sticky, sizeof(sticky));
    conn->fd = fd;
    conn->address = ntohl(address->sin_addr.s_addr);
    conn->class = CONN_BUSY;
    inet_ntop(AF_INET, &address->sin_addr, conn->peer, sizeof(conn->peer));
    conn->holder = holder_take(httpd, conn->address);
    metric_add(&connections_gauge, 1);
    return conn;
}

/* Caller holds the lock. */
static void admit(struct httpd *httpd, int fd, const struct sockaddr_in *address)
{
    struct httpd_conn *conn = conn_new(httpd, fd, address);

    if (!make_room(httpd, conn->holder)) {
        watch(httpd, conn, EPOLL_CTL_ADD);
        refuse(httpd, conn);
        return;
    }
    conn->counted = true;
    conn->holder->connections++;
    httpd->connected++;
    list_in(httpd, conn, CONN_HEAD);
    watch(httpd, conn, EPOLL_CTL_ADD);
}

static void accept_some(struct httpd *httpd)
{
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        struct sockaddr_in address = {.sin_family = AF_INET};
        socklen_t bytes = sizeof(address);
        const int fd = accept4(httpd->listener, (struct sockaddr *)&address, &bytes, SOCK_CLOEXEC);

        if (fd >= 0) {
            pthread_mutex_lock(&httpd->lock);
            admit(httpd, fd, &address);
            pthread_mutex_unlock(&httpd->lock);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            pthread_mutex_lock(&httpd->lock);
            const bool made = shed(httpd, oldest(httpd->parked));
            pthread_mutex_unlock(&httpd->lock);
            if (!made) {
                clock_sleep_ms(EXHAUSTED_PAUSE_MS); /* the listener stays readable */
            }
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return;
        }
    }
}

static void *acceptor_main(void *arg)
{
    struct httpd *httpd = arg;
    const size_t bytes = httpd->options.max_head_bytes + HTTPD_AHEAD_BYTES;
    struct epoll_event *events = xcalloc(EVENTS, sizeof(*events));
    char *scratch = xmalloc(bytes);
    int64_t ticked_ms = 0;
    bool stopping = false;

    while (!stopping) {
        const int count = epoll_wait(httpd->epoll, events, EVENTS, TICK_MS);
        const int64_t now_ms = clock_mono_ms();
        bool accepting = false;

        pthread_mutex_lock(&httpd->lock);
        for (int i = 0; i < count; i++) {
            uint64_t count_read;

            if (events[i].data.ptr == &httpd->listener) {
                accepting = true;
            } else if (events[i].data.ptr == &httpd->wake_fd) {
                (void)!read(httpd->wake_fd, &count_read, sizeof(count_read));
                ticked_ms = 0;
            } else {
                on_readable(httpd, events[i].data.ptr, scratch, bytes);
            }
        }
        if (now_ms - ticked_ms >= TICK_MS) {
            ticked_ms = now_ms;
            expire(httpd, now_ms);
        }
        bury_dead(httpd);
        stopping = atomic_load(&httpd->stopping);
        pthread_mutex_unlock(&httpd->lock);
        if (accepting && !stopping) {
            accept_some(httpd);
            pthread_mutex_lock(&httpd->lock);
            bury_dead(httpd);
            pthread_mutex_unlock(&httpd->lock);
        }
    }
    free(scratch);
    free(events);
    return NULL;
}

/* ---- for the workers ---- */

void conn_park(struct httpd *httpd, struct httpd_worker *worker, struct httpd_conn *conn,
               enum conn_class class)
{
    if (class == CONN_IDLE) {
        drop_buffer(conn);
    } else if (class != CONN_LINGER) {
        acknowledge(conn);
    }
    pthread_mutex_lock(&httpd->lock);
    worker->conn = NULL;
    if (class == CONN_LINGER) {
        linger(httpd, conn);
    } else {
        list_in(httpd, conn, class);
    }
    watch(httpd, conn, EPOLL_CTL_MOD);
    pthread_mutex_unlock(&httpd->lock);
}

void conn_close(struct httpd *httpd, struct httpd_worker *worker, struct httpd_conn *conn)
{
    pthread_mutex_lock(&httpd->lock);
    worker->conn = NULL;
    end_conn(httpd, conn);
    pthread_mutex_unlock(&httpd->lock);
}

/* ---- start and stop ---- */

void httpd_acceptor_wake(struct httpd *httpd)
{
    const uint64_t one = 1;

    (void)!write(httpd->wake_fd, &one, sizeof(one)); /* full is awake, too */
}

static void put_refusal(struct httpd *httpd)
{
    const char *body = httpd->options.refusal_body != NULL ? httpd->options.refusal_body : "";

    strbuf_init(&httpd->refusal, HTTPD_ERROR_BODY_BYTES);
    strbuf_printf(&httpd->refusal,
                  "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
                  "Content-Length: %zu\r\nRetry-After: %d\r\nConnection: close\r\n\r\n%s",
                  strlen(body), HTTPD_RETRY_AFTER_S, body);
}

static void register_metrics(void)
{
    metrics_register(&connections_gauge);
    metrics_register(&refused_total);
    metrics_register(&shed_total);
}

int httpd_acceptor_open(struct httpd *httpd, struct error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &httpd->wake_fd};

    pthread_once(&once, register_metrics);
    put_refusal(httpd);
    for (int c = 0; c < CONN_CLASSES; c++) {
        TAILQ_INIT(&httpd->parked[c]);
    }
    TAILQ_INIT(&httpd->ready);
    TAILQ_INIT(&httpd->dead);
    if (httpd_holders_init(httpd, err) < 0) {
        return -1;
    }
    httpd->epoll = epoll_create1(EPOLL_CLOEXEC);
    httpd->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (httpd->epoll < 0 || httpd->wake_fd < 0 ||
        epoll_ctl(httpd->epoll, EPOLL_CTL_ADD, httpd->wake_fd, &event) != 0) {
        return error_set_errno(err, ERR_LIMIT, errno, "epoll");
    }
    return 0;
}

int httpd_acceptor_start(struct httpd *httpd, struct error *err)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &httpd->listener};

    if (epoll_ctl(httpd->epoll, EPOLL_CTL_ADD, httpd->listener, &event) != 0) {
        return error_set_errno(err, ERR_LIMIT, errno, "epoll");
    }
    if (pthread_create(&httpd->acceptor, NULL, acceptor_main, httpd) != 0) {
        return error_set(err, ERR_LIMIT, "cannot start a thread");
    }
    httpd->acceptor_runs = true;
    return 0;
}

void httpd_acceptor_stop(struct httpd *httpd)
{
    if (httpd->acceptor_runs) {
        httpd_acceptor_wake(httpd);
        pthread_join(httpd->acceptor, NULL);
    }
}

void httpd_connections_end(struct httpd *httpd)
{
    struct httpd_conn *conn;

    if (!httpd->acceptor_runs) {
        return; /* there never was one */
    }
    pthread_mutex_lock(&httpd->lock);
    for (int c = 0; c < CONN_CLASSES; c++) {
        while ((conn = TAILQ_FIRST(&httpd->parked[c])) != NULL) {
            bury(httpd, conn);
        }
    }
    while ((conn = TAILQ_FIRST(&httpd->ready)) != NULL) {
        bury(httpd, conn);
    }
    bury_dead(httpd);
    pthread_mutex_unlock(&httpd->lock);
}
