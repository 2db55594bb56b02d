/*
 * httpd_io - bodies in, responses out.
 *
 * Owns: body reading with a cap and a deadline, chunks, 100-continue, one-write
 * responses, streams. Deadlines of the socket are httpd_socket.c's. Threads: one exchange a thread.
 * Failure: a broken body makes the connection end after the answer; a failed write is remembered,
 * later writes do nothing.
 */
#include "common/httpd/httpd_io.h"

#include <ctype.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/httpd/httpd_holder.h"
#include "common/httpd/httpd_internal.h"
#include "common/httpd/httpd_socket.h"
#include "common/httpd/httpd_virtual.h"

enum {
    READ_PIECE_BYTES = 65536,
    CHUNK_LINE_BYTES = 1024, /* a size with its extensions */
    TRAILER_BYTES = 8192,
    CHUNK_DIGITS = 15, /* stay below INT64_MAX */
};

/* ---- body ----------------------------------------------------------------------------------- */

static long break_body(struct http_exchange *exchange)
{
    exchange->body_broken = true;
    exchange->close = true;
    return -1;
}

/*
 * Chunks are read here, not by mg_read: it waits until the whole of the caller's buffer is full,
 * refuses extensions and trailer fields, and takes sizes beyond 64 bits modulo 2^64.
 */

/* One byte of a chunk's frame. Reads ahead into the place behind the head. */
static int take_byte(struct http_exchange *exchange, int64_t until_ms)
{
    struct httpd_conn *conn = exchange->conn;

    if (conn->in_at == conn->in_length) {
        long got;

        conn->in_at = conn->in_length = conn->head_bytes;
        got = socket_receive(exchange, conn->in + conn->in_at, conn->in_capacity - conn->in_at,
                             until_ms);
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
    got = socket_take(exchange, buf, bytes, until_ms);
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
        if (exchange->status == 0 && virtual_write(exchange, go_on, sizeof(go_on) - 1) != 0) {
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

        exchange->piece_until_ms = until_ms;
        got = virtual_read(exchange, buf, (int64_t)bytes < left ? bytes : (size_t)left);
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

static bool status_has_body(int status)
{
    return status >= 200 && status != 204 && status != 304;
}

static bool is_head(const struct http_exchange *exchange)
{
    return strcmp(exchange->facts->method, "HEAD") == 0;
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
    strbuf_printf(out, "HTTP/1.1 %d %s\r\nDate: %s\r\n", status,
                  mg_get_response_code_text(exchange->mg, status), date_now());
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
    const size_t joined = bytes < HTTPD_JOINED_BYTES ? bytes : HTTPD_JOINED_BYTES;

    if (exchange->status != 0) {
        return;
    }
    put_head(exchange, status, content_type, headers, (int64_t)bytes, false);
    if (is_head(exchange) || !status_has_body(status)) {
        bytes = 0;
    } else if (bytes > 0) {
        strbuf_append(exchange->out, body, joined);
    }
    if (virtual_write(exchange, exchange->out->data, exchange->out->length) == 0 &&
        bytes > joined) {
        (void)virtual_write(exchange, (const char *)body + joined, bytes - joined);
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
    exchange->stream_chunked = length < 0 && !exchange->facts->http_1_0;
    if (length < 0 && exchange->facts->http_1_0) {
        exchange->close = true;
    }
    put_head(exchange, status, content_type, headers, length, exchange->stream_chunked);
    return virtual_write(exchange, exchange->out->data, exchange->out->length);
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
        return virtual_write(exchange, data, bytes);
    }
    while (bytes > 0) {
        const size_t piece = bytes < HTTPD_JOINED_BYTES ? bytes : HTTPD_JOINED_BYTES;

        strbuf_reset(exchange->out);
        strbuf_printf(exchange->out, "%zx\r\n", piece);
        strbuf_append(exchange->out, next, piece);
        strbuf_puts(exchange->out, "\r\n");
        if (virtual_write(exchange, exchange->out->data, exchange->out->length) != 0) {
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
        return virtual_write(exchange, "0\r\n\r\n", 5);
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
