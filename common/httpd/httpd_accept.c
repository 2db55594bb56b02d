/*
 * httpd_accept - how many connections there may be, decided before CivetWeb sees them.
 *
 * CivetWeb's accepting thread stands still while its queue is full, and whoever connects then hears
 * nothing. It has no hook at that point, so the program defines listen() and accept() itself (the
 * linker exports them, see the Makefile): descriptors that a server of ours listens on are noted,
 * and what is accepted on one beyond its limit is answered with a prepared 503 and closed. Any
 * other descriptor goes through unchanged. Owns: the listening descriptors, the count of
 * connections, refusals, and the refused sockets until their clients have had time to read.
 * Threads: listen() on the starting thread, accept() on CivetWeb's master, httpd_refused_sweep() on
 * the watchdog. Failure: a refusal that cannot be sent is a closed connection.
 */
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/metrics.h"
#include "common/httpd/httpd_internal.h"

enum { LISTENERS_MAX = 8, REFUSED_LINGER_MS = 1000 };

static struct {
    int fd; /* -1 = free */
    struct httpd *httpd;
} listeners[LISTENERS_MAX];
static pthread_mutex_t listeners_lock = PTHREAD_MUTEX_INITIALIZER;

/* the server that is being started by this thread */
static _Thread_local struct httpd *starting;

static struct metric connections_gauge = {.name = "httpd_connections",
                                          .help = "Connections accepted and not yet closed.",
                                          .type = METRIC_GAUGE};
static struct metric refused_total = {.name = "httpd_connections_refused_total",
                                      .help = "Connections answered 503 because of their number.",
                                      .type = METRIC_COUNTER};

static void register_metrics(void)
{
    metrics_register(&connections_gauge);
    metrics_register(&refused_total);
}

static void put_refusal(struct httpd *httpd, const char *body)
{
    strbuf_init(&httpd->refusal, HTTPD_ERROR_BODY_BYTES);
    strbuf_printf(&httpd->refusal,
                  "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
                  "Content-Length: %zu\r\nRetry-After: %d\r\nConnection: close\r\n\r\n%s",
                  strlen(body), HTTPD_RETRY_AFTER_S, body);
}

void httpd_accept_begin(struct httpd *httpd, int max_connections, const char *refusal_body)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, register_metrics);
    httpd->max_connections = max_connections;
    put_refusal(httpd, refusal_body != NULL ? refusal_body : "");
    starting = httpd;
}

void httpd_accept_started(void)
{
    starting = NULL;
}

/* CivetWeb's accepting thread looks whether it is to end every two seconds, and when it is woken.
 */
void httpd_accept_shut(struct httpd *httpd)
{
    pthread_mutex_lock(&listeners_lock);
    for (int i = 0; i < LISTENERS_MAX; i++)
        if (listeners[i].httpd == httpd)
            (void)shutdown(listeners[i].fd, SHUT_RDWR);
    pthread_mutex_unlock(&listeners_lock);
}

void httpd_accept_end(struct httpd *httpd)
{
    pthread_mutex_lock(&listeners_lock);
    for (int i = 0; i < LISTENERS_MAX; i++) {
        if (listeners[i].httpd == httpd) {
            listeners[i].fd = -1;
            listeners[i].httpd = NULL;
        }
    }
    pthread_mutex_unlock(&listeners_lock);
    for (int i = 0; i < HTTPD_REFUSED_MAX; i++) {
        if (httpd->refused[i].fd >= 0) {
            close(httpd->refused[i].fd);
        }
    }
    strbuf_done(&httpd->refusal);
}

void httpd_connection_closed(struct httpd *httpd)
{
    metric_add(&connections_gauge, -1);
    atomic_fetch_sub(&httpd->connected, 1);
}

/* ---- refusing ------------------------------------------------------------------------------- */

/* Closing at once would reset a client that is still sending, and the reset can overtake the
 * answer: the watchdog closes it a moment later. */
static void refuse(struct httpd *httpd, int fd)
{
    int64_t now_ms = clock_mono_ms();

    metric_add(&refused_total, 1);
    (void)send(fd, httpd->refusal.data, httpd->refusal.length, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)shutdown(fd, SHUT_WR);
    pthread_mutex_lock(&httpd->lock);
    for (int i = 0; i < HTTPD_REFUSED_MAX && fd >= 0; i++) {
        if (httpd->refused[i].fd < 0) {
            httpd->refused[i].fd = fd;
            httpd->refused[i].until_ms = now_ms + REFUSED_LINGER_MS;
            fd = -1;
        }
    }
    pthread_mutex_unlock(&httpd->lock);
    if (fd >= 0) {
        close(fd);
    }
}

/* Swallows what has come; true when the client is done, too. */
static bool swallow(int fd)
{
    char scratch[4096];
    ssize_t got;

    do {
        got = recv(fd, scratch, sizeof(scratch), MSG_DONTWAIT);
    } while (got > 0);
    return got == 0 || (errno != EAGAIN && errno != EINTR);
}

void httpd_refused_sweep(struct httpd *httpd, int64_t now_ms)
{
    for (int i = 0; i < HTTPD_REFUSED_MAX; i++) {
        int fd = httpd->refused[i].fd;

        if (fd >= 0 && (swallow(fd) || now_ms >= httpd->refused[i].until_ms)) {
            close(fd);
            httpd->refused[i].fd = -1;
        }
    }
}

/* ---- what CivetWeb calls instead of libc ---------------------------------------------------- */

/* ISO C has no cast from object to function pointer. */
static void look_up(const char *name, void *ret_function, size_t bytes)
{
    void *symbol = dlsym(RTLD_NEXT, name);

    memcpy(ret_function, &symbol, bytes);
}

static struct httpd *server_of(int fd)
{
    struct httpd *found = NULL;

    pthread_mutex_lock(&listeners_lock);
    for (int i = 0; i < LISTENERS_MAX && found == NULL; i++) {
        if (listeners[i].httpd != NULL && listeners[i].fd == fd) {
            found = listeners[i].httpd;
        }
    }
    pthread_mutex_unlock(&listeners_lock);
    return found;
}

static void note_listener(int fd)
{
    pthread_mutex_lock(&listeners_lock);
    for (int i = 0; i < LISTENERS_MAX; i++) {
        if (listeners[i].httpd == NULL) {
            listeners[i].fd = fd;
            listeners[i].httpd = starting;
            atomic_store(&starting->gated, true);
            break;
        }
    }
    pthread_mutex_unlock(&listeners_lock);
}

int listen(int fd, int backlog)
{
    int (*next)(int, int);
    int status;

    look_up("listen", &next, sizeof(next));
    if (next == NULL) {
        errno = ENOSYS;
        return -1;
    }
    status = next(fd, backlog);
    if (status == 0 && starting != NULL) {
        note_listener(fd);
    }
    return status;
}

int accept(int fd, struct sockaddr *address, socklen_t *bytes)
{
    int (*next)(int, struct sockaddr *, socklen_t *);
    struct httpd *httpd = server_of(fd);
    int accepted;

    look_up("accept", &next, sizeof(next));
    if (next == NULL) {
        errno = ENOSYS;
        return -1;
    }
    accepted = next(fd, address, bytes);
    if (accepted < 0 || httpd == NULL) {
        return accepted;
    }
    if (atomic_load(&httpd->connected) >= httpd->max_connections) {
        refuse(httpd, accepted);
        errno = ECONNABORTED;
        return -1;
    }
    atomic_fetch_add(&httpd->connected, 1);
    metric_add(&connections_gauge, 1);
    return accepted;
}
