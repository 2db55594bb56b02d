/*
 * httpd_socket - the client's socket, while a request of it has a thread.
 *
 * Owns: deadlines, the least rate of a body, the places among those that wait for one. Nothing
 * blocks but poll() with a deadline. Threads: one exchange a thread. Failure: -1; a failed write is
 * remembered, later ones do nothing.
 */
#include "common/httpd/httpd_socket.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "common/base/clock.h"
#include "common/httpd/httpd_holder.h"
#include "common/httpd/httpd_internal.h"

/* 1 ready, 0 time is over, -1 broken. */
static int wait_fd(int fd, short events, int64_t until_ms)
{
    for (;;) {
        struct pollfd item = {.fd = fd, .events = events};
        const int64_t left_ms = until_ms - clock_mono_ms();
        int count;

        if (left_ms <= 0) {
            return 0;
        }
        count = poll(&item, 1, left_ms < INT32_MAX ? (int)left_ms : INT32_MAX);
        if (count > 0) {
            return 1;
        }
        if (count < 0 && errno != EINTR) {
            return -1;
        }
    }
}

int socket_send(struct http_exchange *exchange, const void *data, size_t bytes)
{
    const int fd = exchange->conn->fd;
    const char *at = data;
    int64_t until_ms = 0; /* known once it is needed */
    size_t sent_in_piece = 0;

    while (bytes > 0 && !exchange->write_failed) {
        const ssize_t sent = send(fd, at, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (sent < 0 && errno == EAGAIN) {
            until_ms = until_ms == 0 ? clock_mono_ms() + exchange->httpd->options.request_timeout_ms
                                     : until_ms;
            if (wait_fd(fd, POLLOUT, until_ms) > 0) {
                continue;
            }
        } else if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent < 0) {
            exchange->write_failed = true;
            exchange->close = true;
            break;
        }
        sent_in_piece += (size_t)sent;
        if (sent_in_piece >= HTTPD_WRITE_PIECE_BYTES) {
            sent_in_piece = 0;
            until_ms = 0;
        }
        at += sent;
        bytes -= (size_t)sent;
    }
    return exchange->write_failed ? -1 : 0;
}

/*
 * A client without TCP_NODELAY that sends head and body apart holds the body back until the head is
 * acknowledged, which the kernel of a connection in use delays by 40 ms (tcp(7), TCP_QUICKACK).
 */
static void acknowledge_head(const struct http_exchange *exchange)
{
    const int on = 1;

    if (exchange->body_read == 0) {
        (void)setsockopt(exchange->conn->fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
    }
}

/* True while the body comes at the least rate, or has not been waited for long. */
static bool keeps_pace(const struct http_exchange *exchange)
{
    const struct httpd_options *options = &exchange->httpd->options;

    return options->body_bytes_per_s == 0 ||
           exchange->body_waited_ms <= options->request_timeout_ms ||
           exchange->body_read * 1000 >= exchange->body_waited_ms * options->body_bytes_per_s;
}

long socket_receive(struct http_exchange *exchange, void *buf, size_t bytes, int64_t until_ms)
{
    const int fd = exchange->conn->fd;

    for (;;) {
        const ssize_t got = recv(fd, buf, bytes, MSG_DONTWAIT);
        int64_t start_ms;
        int ready;

        if (got >= 0) {
            return got;
        }
        if (errno == EINTR) {
            continue;
        }
        if (errno != EAGAIN) {
            return -1;
        }
        if (exchange->conn->body_late) {
            exchange->timed_out = true;
            return -1;
        }
        if (!httpd_body_wait_begin(exchange)) {
            exchange->refused_wait = true;
            return -1;
        }
        acknowledge_head(exchange);
        start_ms = clock_mono_ms();
        ready = wait_fd(fd, POLLIN, until_ms);
        exchange->body_waited_ms += clock_mono_ms() - start_ms;
        if (ready <= 0 || !keeps_pace(exchange)) {
            exchange->timed_out = ready == 0 || ready == 1;
            return -1;
        }
    }
}

long socket_take(struct http_exchange *exchange, void *buf, size_t bytes, int64_t until_ms)
{
    struct httpd_conn *conn = exchange->conn;
    const size_t ahead = conn->in_length - conn->in_at;

    if (ahead == 0) {
        return socket_receive(exchange, buf, bytes, until_ms);
    }
    bytes = bytes < ahead ? bytes : ahead;
    memcpy(buf, conn->in + conn->in_at, bytes);
    conn->in_at += bytes;
    return (long)bytes;
}
