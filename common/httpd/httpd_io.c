/*
 * httpd_io - bodies in, responses out.
 *
 * Owns: body reading with a cap and a deadline, 100-continue, one-write responses, streams.
 * Every blocking call arms the connection's deadline first, so a client that trickles or stalls is
 * cut by the watchdog. Threads: one exchange a thread. Failure: a broken body makes the connection
 * end after the answer; a failed write is remembered, later writes do nothing.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/httpd/httpd_internal.h"

enum { READ_PIECE_BYTES = 65536 };

/* ---- body ----------------------------------------------------------------------------------- */

static int write_all(struct http_exchange *exchange, const char *data, size_t bytes)
{
    while (bytes > 0 && !exchange->write_failed) {
        size_t piece = bytes < HTTPD_WRITE_PIECE_BYTES ? bytes : HTTPD_WRITE_PIECE_BYTES;
        int sent;

        httpd_conn_arm(exchange->conn, exchange->httpd->request_timeout_ms, SHUT_RDWR);
        sent = mg_write(exchange->mg, data, piece);
        httpd_conn_disarm(exchange->conn);
        if (sent < 0 || (size_t)sent != piece) {
            exchange->write_failed = true;
            exchange->close = true;
            break;
        }
        data += piece;
        bytes -= piece;
    }
    return exchange->write_failed ? -1 : 0;
}

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

    if (exchange->conn->fd >= 0 && exchange->body_read == 0) {
        (void)setsockopt(exchange->conn->fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
    }
}

/* `ms` left for this piece. */
static long read_piece(struct http_exchange *exchange, void *buf, size_t bytes, int64_t ms)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    int got;

    if (exchange->body_broken) {
        return -1;
    }
    if (exchange->body_done || bytes == 0) {
        return 0;
    }
    if (exchange->expects_continue) {
        exchange->expects_continue = false;
        if (exchange->status == 0 && write_all(exchange, go_on, sizeof(go_on) - 1) != 0) {
            return break_body(exchange);
        }
    }
    if (bytes > READ_PIECE_BYTES) {
        bytes = READ_PIECE_BYTES;
    }
    if (exchange->body_length >= 0 &&
        (int64_t)bytes > exchange->body_length - exchange->body_read) {
        bytes = (size_t)(exchange->body_length - exchange->body_read);
    }

    acknowledge_head(exchange);
    httpd_conn_arm(exchange->conn, ms > 0 ? ms : 1, SHUT_RD);
    got = mg_read(exchange->mg, buf, bytes);
    httpd_conn_disarm(exchange->conn);
    if (got < 0) {
        return break_body(exchange);
    }
    exchange->body_read += got;
    if (exchange->body_length >= 0) {
        /* CivetWeb reports a stalled or closed client as a short read */
        if ((size_t)got < bytes) {
            return break_body(exchange);
        }
        exchange->body_done = exchange->body_read == exchange->body_length;
    } else if (got == 0) {
        if (atomic_load(&exchange->conn->expired)) {
            return break_body(exchange);
        }
        exchange->body_done = true;
    }
    return got;
}

long http_read(struct http_exchange *exchange, void *buf, size_t bytes)
{
    return read_piece(exchange, buf, bytes, exchange->httpd->request_timeout_ms);
}

static int refuse_size(const struct strbuf *out, struct error *err)
{
    return error_set(err, ERR_TOO_LARGE, "the body is larger than %zu bytes", out->max_bytes);
}

int http_read_body(struct http_exchange *exchange, struct strbuf *out, struct error *err)
{
    int64_t end_ms = clock_mono_ms() + exchange->httpd->request_timeout_ms;
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
            if (atomic_load(&exchange->conn->expired) || clock_mono_ms() >= end_ms) {
                error_set(err, ERR_REQUEST_TIMEOUT, "the body did not arrive in %d ms",
                          exchange->httpd->request_timeout_ms);
            } else {
                error_set(err, ERR_INVALID, "the body is incomplete or malformed");
            }
            goto out;
        }
        if (got == 0) {
            break;
        }
        if (strbuf_append(out, piece, (size_t)got) != 0) {
            refuse_size(out, err);
            goto out;
        }
    }
    status = 0;
out:
    free(piece);
    return status;
}

/* ---- responses ------------------------------------------------------------------------------ */

static bool status_has_body(int status)
{
    return status >= 200 && status != 204 && status != 304;
}

static bool is_head(const struct http_exchange *exchange)
{
    return exchange->info->request_method != NULL &&
           strcmp(exchange->info->request_method, "HEAD") == 0;
}

/* Fills exchange->out with status line and headers. length -1 = no Content-Length. */
static void put_head(struct http_exchange *exchange, int status, const char *content_type,
                     const char *headers, int64_t length, bool chunked)
{
    struct strbuf *out = &exchange->out;
    time_t now = (time_t)(clock_wall_ms() / 1000);
    char date[40];
    struct tm parts;

    if (!exchange->body_done || atomic_load(&exchange->httpd->draining) ||
        httpd_is_crowded(exchange->httpd)) {
        exchange->close = true;
    }
    gmtime_r(&now, &parts);
    strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &parts);
    strbuf_reset(out);
    strbuf_printf(out, "HTTP/1.1 %d %s\r\nDate: %s\r\n", status,
                  mg_get_response_code_text(exchange->mg, status), date);
    if (content_type != NULL && content_type[0] != '\0' && status_has_body(status)) {
        strbuf_printf(out, "Content-Type: %s\r\n", content_type);
    }
    if (chunked) {
        strbuf_puts(out, "Transfer-Encoding: chunked\r\n");
    } else if (length >= 0 && status_has_body(status)) {
        strbuf_printf(out, "Content-Length: %lld\r\n", (long long)length);
    }
    strbuf_printf(out, "Connection: %s\r\n", exchange->close ? "close" : "keep-alive");
    strbuf_puts(out, headers != NULL ? headers : "");
    strbuf_puts(out, "\r\n");
    exchange->status = status;
}

void http_respond(struct http_exchange *exchange, int status, const char *content_type,
                  const char *headers, const void *body, size_t bytes)
{
    size_t joined;

    if (exchange->status != 0) {
        return;
    }
    put_head(exchange, status, content_type, headers, (int64_t)bytes, false);
    if (is_head(exchange) || !status_has_body(status)) {
        bytes = 0;
    }
    joined = bytes < HTTPD_WRITE_PIECE_BYTES ? bytes : HTTPD_WRITE_PIECE_BYTES;
    if (joined > 0) {
        strbuf_append(&exchange->out, body, joined);
    }
    if (write_all(exchange, exchange->out.data, exchange->out.length) == 0 && bytes > joined) {
        (void)write_all(exchange, (const char *)body + joined, bytes - joined);
    }
}

int http_stream_begin(struct http_exchange *exchange, int status, const char *content_type,
                      const char *headers, int64_t length)
{
    if (exchange->status != 0) {
        return -1;
    }
    exchange->streaming = true;
    exchange->stream_length = length;
    exchange->stream_chunked = length < 0 && !exchange->http_1_0;
    if (length < 0 && exchange->http_1_0) {
        exchange->close = true;
    }
    put_head(exchange, status, content_type, headers, length, exchange->stream_chunked);
    return write_all(exchange, exchange->out.data, exchange->out.length);
}

int http_stream_write(struct http_exchange *exchange, const void *data, size_t bytes)
{
    const char *next = data;

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
        return write_all(exchange, data, bytes);
    }
    while (bytes > 0) {
        size_t piece = bytes < HTTPD_WRITE_PIECE_BYTES ? bytes : HTTPD_WRITE_PIECE_BYTES;

        strbuf_reset(&exchange->out);
        strbuf_printf(&exchange->out, "%zx\r\n", piece);
        strbuf_append(&exchange->out, next, piece);
        strbuf_puts(&exchange->out, "\r\n");
        if (write_all(exchange, exchange->out.data, exchange->out.length) != 0) {
            return -1;
        }
        next += piece;
        bytes -= piece;
    }
    return 0;
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
        return write_all(exchange, "0\r\n\r\n", 5);
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

    if (exchange->write_failed) {
        return true;
    }
    return item.fd >= 0 && poll(&item, 1, 0) > 0 &&
           (item.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0;
}
