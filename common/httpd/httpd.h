/*
 * httpd - HTTP/1.1 by CivetWeb, which spends nothing on a connection before its request is there.
 *
 * Owns: listening, threads, strict reading of heads, refusing what could smuggle (double or odd
 * Content-Length, CL+TE, missing Host, %00), bodies with a deadline, a least rate and a cap,
 * responses in one write, streaming responses, the number of connections in all and by address,
 * drain. Does not own: routes, auth, JSON. Threads: `handler` runs on one of `threads` threads
 * (stack 512 KiB: no big arrays), one request a thread. Failure: a request that breaks the protocol
 * is answered here (JSON of bad_request) and the connection is closed; the handler never sees it.
 */
#ifndef HTTPD_HTTPD_H
#define HTTPD_HTTPD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/strbuf.h"

struct httpd;
struct http_exchange; /* one request and its response */

struct httpd_options {
    const char *listen;     /* "0.0.0.0:8000" or "8000"; port 0 picks a free one */
    int threads;            /* = most requests served at once */
    int connection_queue;   /* whole requests that wait for a thread; one more is answered 503 */
    int keep_alive_ms;      /* idle connection */
    int request_timeout_ms; /* head and body each must arrive within this */
    size_t max_head_bytes;  /* 16384 */
    /* Connections held at once; at the limit the oldest without a request to answer is closed.
     * 0 = threads + connection_queue */
    int max_connections;
    int max_address_connections; /* the same for one address that is no proxy; 0 = no limit */
    int address_body_percent;    /* share of the threads that may wait for bodies of one address,
                                  * and of one owner; half of all for everybody. 0 = no limit */
    int64_t body_bytes_per_s;    /* least rate of a body, after request_timeout_ms; 0 = none */
    const char *trusted_proxies; /* networks whose X-Forwarded-For or Forwarded is believed */
    const char *refusal_body;    /* JSON of that 503; NULL = none */
    void (*handler)(void *arg, struct http_exchange *exchange);
    /* Answers a malformed request that the handler never sees: fill body (JSON), and headers with
     * whole lines. The exchange is for reading its headers; NULL when there are none to read. */
    void (*bad_request)(void *arg, const struct http_exchange *exchange, enum error_code code,
                        const char *message, struct strbuf *headers, struct strbuf *body);
    void *arg;
};

struct httpd *httpd_start(const struct httpd_options *options, struct error *err) MUST_CHECK;
int httpd_port(const struct httpd *httpd);
/* Ends idle connections; every later answer carries Connection: close. */
void httpd_drain(struct httpd *httpd);
int httpd_active(const struct httpd *httpd); /* handlers still running */
/* Joins all threads; answers not written yet are lost, so drain first. NULL-safe. */
void httpd_stop(struct httpd *httpd);

/* ---- request ---- */
const char *http_method(const struct http_exchange *exchange);
const char *
http_path(const struct http_exchange *exchange); /* raw, not percent-decoded, no query */
const char *http_query(const struct http_exchange *exchange); /* raw, "" when none */
/* Case-insensitive; NULL when absent. First of several (Host, Authorization, Content-*,
 * X-Request-ID twice is refused before the handler). */
const char *http_header(const struct http_exchange *exchange, const char *name);
/* i-th header for iteration; false past the end. */
bool http_header_at(const struct http_exchange *exchange, int index, const char **ret_name,
                    const char **ret_value);
/* The client's address as text: the peer's, or what a trusted proxy says of it. */
const char *http_peer(struct http_exchange *exchange);
int64_t http_body_length(const struct http_exchange *exchange); /* -1 = chunked, 0 = none */
/* Decoded value of a query parameter into out; 1 found, 0 absent, -1 malformed or too long. */
int http_query_param(const struct http_exchange *exchange, const char *name, char *out,
                     size_t size);
/* Same, but the value may be any bytes (but NUL): a path, say. */
int http_query_bytes(const struct http_exchange *exchange, const char *name, char *out,
                     size_t size);
/* The same two over any x-www-form-urlencoded text. */
int http_form_param(const char *form, const char *name, char *out, size_t size);
int http_form_bytes(const char *form, const char *name, char *out, size_t size);
/* Whole body, at most `max`. ERR_TOO_LARGE (names the limit), ERR_REQUEST_TIMEOUT, ERR_INVALID
 * (short). Answers Expect: 100-continue. The buffer belongs to the caller. */
int http_read_body(struct http_exchange *exchange, struct strbuf *out /* inited with max */,
                   struct error *err) MUST_CHECK;
/* The same; `charge` is told before a piece is kept how much of the body there is then, and may
 * refuse by returning -1 with err filled. */
int http_read_body_charged(struct http_exchange *exchange, struct strbuf *out,
                           int (*charge)(void *arg, size_t length, struct error *err), void *arg,
                           struct error *err) MUST_CHECK;
/* From here on the body counts for this owner, too (address_body_percent). Borrowed until the
 * answer. */
void http_body_owner(struct http_exchange *exchange, const char *owner);
/* Why http_read() returned -1. */
void http_read_error(const struct http_exchange *exchange, struct error *err);
/* Next piece of the body, which must arrive within request_timeout_ms: bytes (at most 64 KiB a
 * call), 0 = end, -1 = broken or too slow. */
long http_read(struct http_exchange *exchange, void *buf, size_t bytes);

/* ---- response ---- */
/* `headers`: "Name: value\r\n" lines or "". One write; HEAD gets no body. Closes the connection if
 * the request body was not read to its end. Returns bytes of body. */
void http_respond(struct http_exchange *exchange, int status, const char *content_type,
                  const char *headers, const void *body, size_t bytes);
/* Streaming: begin, any writes (-1 = client gone or too slow), end. length -1 = chunked. */
int http_stream_begin(struct http_exchange *exchange, int status, const char *content_type,
                      const char *headers, int64_t length);
int http_stream_write(struct http_exchange *exchange, const void *data, size_t bytes);
int http_stream_end(struct http_exchange *exchange);
/* Status sent so far (0 = none). */
int http_status_sent(const struct http_exchange *exchange);
/* True when the peer has closed its side (checked without blocking): lets a long wait end early. */
bool http_peer_gone(struct http_exchange *exchange);

#endif
