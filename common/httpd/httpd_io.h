/* httpd_io - reads request bodies and writes responses. */
#ifndef HTTPD_HTTPD_IO_H
#define HTTPD_HTTPD_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/strbuf.h"

struct http_exchange;

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
