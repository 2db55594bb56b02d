/*
 * httpd - the only door to CivetWeb: a plain-HTTP server whose traps are fenced here.
 *
 * Owns: listening, threads, request parsing guards (smuggling shapes, header count, double or odd
 * Content-Length, CL+TE, missing Host, %00), body reading with a deadline and a cap, responses in
 * one write, streaming responses, closing a connection whose body was not read, the number of
 * connections (idle ones make room for those that wait for a thread), drain. Does not own: routes,
 * auth, JSON. Threads: `handler` runs on CivetWeb's threads (stack 512 KiB: no big arrays), one
 * request a thread. Failure: a request that breaks the protocol is answered here (JSON of
 * on_bad_request) and the connection is closed; the handler never sees it.
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
    const char *listen;       /* "0.0.0.0:8000"; port 0 picks a free one */
    int threads;              /* = most connections served at once */
    int connection_queue;     /* accepted, waiting for a thread; one more is answered 503 */
    int keep_alive_ms;        /* idle connection */
    int request_timeout_ms;   /* head and body each must arrive within this */
    size_t max_head_bytes;    /* 16384 */
    const char *refusal_body; /* JSON of that 503; NULL = none */
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
const char *http_peer(const struct http_exchange *exchange);    /* textual address */
int64_t http_body_length(const struct http_exchange *exchange); /* -1 = chunked, 0 = none */
/* Decoded value of a query parameter into out; 1 found, 0 absent, -1 malformed or too long. */
int http_query_param(const struct http_exchange *exchange, const char *name, char *out,
                     size_t size);
/* Same over any x-www-form-urlencoded text. */
int http_form_param(const char *form, const char *name, char *out, size_t size);
/* Whole body, at most `max`. ERR_TOO_LARGE (names the limit), ERR_REQUEST_TIMEOUT, ERR_INVALID
 * (short). Answers Expect: 100-continue. The buffer belongs to the caller. */
int http_read_body(struct http_exchange *exchange, struct strbuf *out /* inited with max */,
                   struct error *err) MUST_CHECK;
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
/* True when the peer has closed its side (checked without blocking): lets a long wait end early.
 * False also when CivetWeb's socket could not be found (see httpd.c). */
bool http_peer_gone(struct http_exchange *exchange);

#endif
