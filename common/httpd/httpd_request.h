/* httpd_request - reads method, path, query, headers and form parameters of a request. */
#ifndef HTTPD_HTTPD_REQUEST_H
#define HTTPD_HTTPD_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

struct http_exchange;

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
/* Refuses a request whose length, path or host is in doubt. httpd.c calls it before the handler.
 * Fills body_length, close, expects_continue. */
int httpd_check_request(struct http_exchange *exchange, struct error *err) MUST_CHECK;

#endif
