/*
 * httpd_io - bodies in, responses out.
 *
 * Owns: body reading with a cap, a deadline and a least rate, chunks, 100-continue, one-write
 * responses, streams. Nothing blocks but poll() with a deadline. Threads: one exchange a thread.
 * Failure: a broken body makes the connection end after the answer; a failed write is remembered,
 * later writes do nothing.
 */
#include <ctype.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/httpd/httpd_internal.h"

enum {
    READ_PIECE_BYTES = 65536,
    CHUNK_LINE_BYTES = 1024, /* a size with its extensions */
    TRAILER_BYTES = 8192,
    CHUNK_DIGITS = 15, /* stay below INT64_MAX */
};

/* ---- the socket ----------------------------------------------------------------------------- */

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

/* Sends all of it; each HTTPD_WRITE_PIECE_BYTES have request_timeout_ms. Uses up `parts`. */
static int send_parts(struct http_exchange *exchange, struct iovec *parts, size_t count)
{
    const int64_t timeout_ms = exchange->httpd->options.request_timeout_ms;
    int64_t until_ms = 0; /* known once it is needed */
    size_t sent_in_piece = 0;

    while (count > 0 && !exchange->write_failed) {
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
        ssize_t sent = sendmsg(exchange->conn->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (sent < 0 && errno == EAGAIN) {
            until_ms = until_ms == 0 ? clock_mono_ms() + timeout_ms : until_ms;
            if (wait_fd(exchange->conn->fd, POLLOUT, until_ms) > 0) {
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
        while (count > 0 && (size_t)sent >= parts->iov_len) {
            sent -= (ssize_t)parts->iov_len;
            parts++;
            count--;
        }
        if (count > 0) {
            parts->iov_base = (char *)parts->iov_base + sent;
            parts->iov_len -= (size_t)sent;
        }
    }
    return exchange->write_failed ? -1 : 0;
}

static int send_bytes(struct http_exchange *exchange, const void *data, size_t bytes)
{
    struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = bytes};

    return bytes > 0 ? send_parts(exchange, &part, 1) : 0;
}

/* ---- body ----------------------------------------------------------------------------------- */

static long break_body(struct http_exchange *exchange)
{
    exchange->body_broken = true;
    exchange->close = true;
    return -1;
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

/* At least one byte from the socket; 0 its end; -1 broken, late, or too many wait. */
static long receive(struct http_exchange *exchange, void *buf, size_t bytes, int64_t until_ms)
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

/* Bytes that came with the head, else from the socket. */
static long take(struct http_exchange *exchange, void *buf, size_t bytes, int64_t until_ms)
{
    struct httpd_conn *conn = exchange->conn;
    const size_t ahead = conn->in_length - conn->in_at;

    if (ahead == 0) {
        return receive(exchange, buf, bytes, until_ms);
    }
    bytes = bytes < ahead ? bytes : ahead;
    memcpy(buf, conn->in + conn->in_at, bytes);
    conn->in_at += bytes;
    return (long)bytes;
}

/* One byte of a chunk's frame. Reads ahead into the place behind the head. */
static int take_byte(struct http_exchange *exchange, int64_t until_ms)
{
    struct httpd_conn *conn = exchange->conn;

    if (conn->in_at == conn->in_length) {
        long got;

        conn->in_at = conn->in_length = conn->head_bytes;
        got = receive(exchange, conn->in + conn->in_at, conn->in_capacity - conn->in_at, until_ms);
        if (got <= 0) {
            return -1;
        }
        conn->in_length += (size_t)got;
    }
    return (unsigned char)conn->in[conn->in_at++];
}

/* A line's end: CR LF. */
static bool take_line_end(struct http_exchange *exchange, int first, int64_t until_ms)
{
    return first == '\r' && take_byte(exchange, until_ms) == '\n';
}

/* "size[;extensions]" and its line end; extensions mean nothing here (RFC 9112 7.1.1). */
static bool read_chunk_size(struct http_exchange *exchange, int64_t until_ms)
{
    int64_t size = 0;
    int digits = 0, c = take_byte(exchange, until_ms);

    for (; isxdigit(c); c = take_byte(exchange, until_ms)) {
        if (++digits > CHUNK_DIGITS) {
            return false;
        }
        size = size * 16 + (isdigit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    if (digits == 0 || (c != '\r' && c != ';' && c != ' ' && c != '\t')) {
        return false;
    }
    for (int i = 0; c != '\r'; i++, c = take_byte(exchange, until_ms)) {
        if (i >= CHUNK_LINE_BYTES || (c < ' ' && c != '\t') || c == 0x7f) {
            return false;
        }
    }
    if (!take_line_end(exchange, c, until_ms)) {
        return false;
    }
    exchange->chunk_left = size;
    exchange->chunk_state = size > 0 ? CHUNK_DATA : CHUNK_TRAILER;
    return true;
}

/* Trailer fields up to the empty line; they are not looked at. */
static bool skip_trailers(struct http_exchange *exchange, int64_t until_ms)
{
    int in_line = 0;

    for (int i = 0; i < TRAILER_BYTES; i++) {
        const int c = take_byte(exchange, until_ms);

        if (c == '\r') {
            if (!take_line_end(exchange, c, until_ms)) {
                return false;
            }
            if (in_line == 0) {
                exchange->body_done = true;
                return true;
            }
            in_line = 0;
        } else if ((c < ' ' && c != '\t') || c == 0x7f) {
            return false;
        } else {
            in_line++;
        }
    }
    return false;
}

/* Bytes of the present chunk, 0 = the body's end, -1 = broken. */
static long read_chunked(struct http_exchange *exchange, void *buf, size_t bytes, int64_t until_ms)
{
    long got;

    if (exchange->chunk_state == CHUNK_DATA_END) {
        if (!take_line_end(exchange, take_byte(exchange, until_ms), until_ms)) {
            return -1;
        }
        exchange->chunk_state = CHUNK_SIZE;
    }
    if (exchange->chunk_state == CHUNK_SIZE && !read_chunk_size(exchange, until_ms)) {
        return -1;
    }
    if (exchange->chunk_state == CHUNK_TRAILER) {
        return skip_trailers(exchange, until_ms) ? 0 : -1;
    }
    if ((int64_t)bytes > exchange->chunk_left) {
        bytes = (size_t)exchange->chunk_left;
    }
    got = take(exchange, buf, bytes, until_ms);
    if (got <= 0) {
        return -1;
    }
    exchange->chunk_left -= got;
    if (exchange->chunk_left == 0) {
        exchange->chunk_state = CHUNK_DATA_END;
    }
    return got;
}

/* `ms` left for this piece. */
static long read_piece(struct http_exchange *exchange, void *buf, size_t bytes, int64_t ms)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    const int64_t until_ms = clock_mono_ms() + ms;
    long got;

    if (exchange->body_broken) {
        return -1;
    }
    if (exchange->body_done || bytes == 0) {
        return 0;
    }
    if (exchange->expects_continue) {
        exchange->expects_continue = false;
        if (exchange->status == 0 && send_bytes(exchange, go_on, sizeof(go_on) - 1) != 0) {
            return break_body(exchange);
        }
    }
    bytes = bytes < READ_PIECE_BYTES ? bytes : READ_PIECE_BYTES;
    if (exchange->body_length < 0) {
        got = read_chunked(exchange, buf, bytes, until_ms);
        if (got < 0) {
            return break_body(exchange);
        }
    } else {
        const int64_t left = exchange->body_length - exchange->body_read;

        got = take(exchange, buf, (int64_t)bytes < left ? bytes : (size_t)left, until_ms);
        if (got <= 0) {
            return break_body(exchange);
        }
        exchange->body_done = got == left;
    }
    exchange->body_read += got;
    if (exchange->body_done) {
        httpd_body_wait_end(exchange);
    }
    return got;
}

long http_read(struct http_exchange *exchange, void *buf, size_t bytes)
{
    return read_piece(exchange, buf, bytes, exchange->httpd->options.request_timeout_ms);
}

void http_body_owner(struct http_exchange *exchange, const char *owner)
{
    exchange->owner = owner;
}

void http_read_error(const struct http_exchange *exchange, struct error *err)
{
    if (exchange->refused_wait) {
        error_set(err, ERR_OVERLOADED,
                  "as many bodies as may be waited for at once are still being sent");
    } else if (exchange->timed_out) {
        error_set(err, ERR_REQUEST_TIMEOUT, "the body did not arrive in %d ms",
                  exchange->httpd->options.request_timeout_ms);
    } else {
        error_set(err, ERR_INVALID, "the body is incomplete or malformed");
    }
}

static int refuse_size(const struct strbuf *out, struct error *err)
{
    return error_set(err, ERR_TOO_LARGE, "the body is larger than %zu bytes", out->max_bytes);
}

int http_read_body_charged(struct http_exchange *exchange, struct strbuf *out,
                           int (*charge)(void *arg, size_t length, struct error *err), void *arg,
                           struct error *err)
{
    /* what came ahead of the thread was waited for already */
    const int64_t end_ms =
        exchange->conn->received_ms + exchange->httpd->options.request_timeout_ms;
    size_t piece_bytes = READ_PIECE_BYTES;
    char *piece = NULL;
    int status = -1;

    if (exchange->body_length > 0 && (uint64_t)exchange->body_length > out->max_bytes) {
        return refuse_size(out, err);
    }
    if (exchange->body_length >= 0 && (uint64_t)exchange->body_length < piece_bytes) {
        piece_bytes = (size_t)exchange->body_length + 1;
    }
    piece = xmalloc(piece_bytes);
    for (;;) {
        long got = read_piece(exchange, piece, piece_bytes, end_ms - clock_mono_ms());

        if (got < 0) {
            http_read_error(exchange, err);
            goto out;
        }
        if (got == 0) {
            break;
        }
        if (out->length + (size_t)got > out->max_bytes) {
            refuse_size(out, err);
            goto out;
        }
        if (charge != NULL && charge(arg, out->length + (size_t)got, err) < 0) {
            goto out;
        }
        strbuf_append(out, piece, (size_t)got);
    }
    status = 0;
out:
    free(piece);
    return status;
}

int http_read_body(struct http_exchange *exchange, struct strbuf *out, struct error *err)
{
    return http_read_body_charged(exchange, out, NULL, NULL, err);
}

/* ---- responses ------------------------------------------------------------------------------ */

static const char *reason_of(int status)
{
    static const struct {
        int status;
        const char *text;
    } reasons[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {416, "Range Not Satisfiable"},
        {422, "Unprocessable Content"},
        {426, "Upgrade Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {507, "Insufficient Storage"},
    };

    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (reasons[i].status == status) {
            return reasons[i].text;
        }
    }
    return "Status";
}

static bool status_has_body(int status)
{
    return status >= 200 && status != 204 && status != 304;
}

static bool is_head(const struct http_exchange *exchange)
{
    return exchange->head.method != NULL && strcmp(exchange->head.method, "HEAD") == 0;
}

/* "Date: ..." of this second. */
static const char *date_now(void)
{
    static _Thread_local char date[40];
    static _Thread_local time_t written;
    const time_t now = (time_t)(clock_wall_ms() / 1000);

    if (now != written) {
        struct tm parts;

        gmtime_r(&now, &parts);
        strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &parts);
        written = now;
    }
    return date;
}

/* Fills exchange->out with status line and headers. length -1 = no Content-Length. */
static void put_head(struct http_exchange *exchange, int status, const char *content_type,
                     const char *headers, int64_t length, bool chunked)
{
    struct strbuf *out = exchange->out;

    if (!exchange->body_done || atomic_load(&exchange->httpd->draining)) {
        exchange->close = true;
    }
    strbuf_reset(out);
    strbuf_printf(out, "HTTP/1.1 %d %s\r\nDate: %s\r\n", status, reason_of(status), date_now());
    if (content_type != NULL && content_type[0] != '\0' && status_has_body(status)) {
        strbuf_printf(out, "Content-Type: %s\r\n", content_type);
    }
    if (chunked) {
        strbuf_puts(out, "Transfer-Encoding: chunked\r\n");
    } else if (length >= 0 && status_has_body(status)) {
        strbuf_printf(out, "Content-Length: %lld\r\n", (long long)length);
    }
    strbuf_puts(out, exchange->close ? "Connection: close\r\n" : "Connection: keep-alive\r\n");
    strbuf_puts(out, headers != NULL ? headers : "");
    strbuf_puts(out, "\r\n");
    exchange->status = status;
}

void http_respond(struct http_exchange *exchange, int status, const char *content_type,
                  const char *headers, const void *body, size_t bytes)
{
    struct iovec parts[2];

    if (exchange->status != 0) {
        return;
    }
    put_head(exchange, status, content_type, headers, (int64_t)bytes, false);
    parts[0] = (struct iovec){.iov_base = exchange->out->data, .iov_len = exchange->out->length};
    parts[1] = (struct iovec){.iov_base = (void *)(uintptr_t)body, .iov_len = bytes};
    (void)send_parts(exchange, parts,
                     bytes > 0 && !is_head(exchange) && status_has_body(status) ? 2 : 1);
}

int http_stream_begin(struct http_exchange *exchange, int status, const char *content_type,
                      const char *headers, int64_t length)
{
    if (exchange->status != 0) {
        return -1;
    }
    exchange->streaming = true;
    exchange->stream_length = length;
    exchange->stream_chunked = length < 0 && !exchange->head.http_1_0;
    if (length < 0 && exchange->head.http_1_0) {
        exchange->close = true;
    }
    put_head(exchange, status, content_type, headers, length, exchange->stream_chunked);
    return send_bytes(exchange, exchange->out->data, exchange->out->length);
}

int http_stream_write(struct http_exchange *exchange, const void *data, size_t bytes)
{
    struct iovec parts[3];

    if (!exchange->streaming || exchange->stream_ended || exchange->write_failed) {
        return -1;
    }
    if (exchange->stream_length >= 0 &&
        (uint64_t)bytes > (uint64_t)(exchange->stream_length - exchange->stream_written)) {
        exchange->close = true;
        return -1;
    }
    exchange->stream_written += (int64_t)bytes;
    if (is_head(exchange) || bytes == 0) {
        return 0;
    }
    if (!exchange->stream_chunked) {
        return send_bytes(exchange, data, bytes);
    }
    strbuf_reset(exchange->out);
    strbuf_printf(exchange->out, "%zx\r\n", bytes);
    parts[0] = (struct iovec){.iov_base = exchange->out->data, .iov_len = exchange->out->length};
    parts[1] = (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = bytes};
    parts[2] = (struct iovec){.iov_base = "\r\n", .iov_len = 2};
    return send_parts(exchange, parts, 3);
}

int http_stream_end(struct http_exchange *exchange)
{
    if (!exchange->streaming || exchange->stream_ended || exchange->write_failed) {
        return -1;
    }
    if (exchange->stream_length >= 0 && exchange->stream_written != exchange->stream_length) {
        exchange->close = true;
        return -1;
    }
    exchange->stream_ended = true;
    if (exchange->stream_chunked && !is_head(exchange)) {
        return send_bytes(exchange, "0\r\n\r\n", 5);
    }
    return 0;
}

int http_status_sent(const struct http_exchange *exchange)
{
    return exchange->status;
}

bool http_peer_gone(struct http_exchange *exchange)
{
    struct pollfd item = {.fd = exchange->conn->fd, .events = POLLRDHUP};

    return exchange->write_failed ||
           (poll(&item, 1, 0) > 0 &&
            (item.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0);
}
