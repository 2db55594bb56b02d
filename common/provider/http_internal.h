/*
 * http_internal - one request/response exchange on one easy handle, shared by both drivers.
 *
 * Owns: the options every request of ours gets, the body bound, header capture, the verdict
 * "certainly not sent" against "ambiguous". Does not own: handles, connections, waiting.
 * Threads: an exchange belongs to its driver's thread. Failure: it is in the response.
 */
#ifndef PROVIDER_HTTP_INTERNAL_H
#define PROVIDER_HTTP_INTERNAL_H

#include <curl/curl.h>

#include "common/provider/http.h"

struct http_exchange {
    CURL *easy; /* owned; reset before each request, which keeps its TLS sessions */
    struct curl_slist *headers;
    struct strbuf body;
    size_t max_response_bytes;
    struct http_response response;
    char curl_error[CURL_ERROR_SIZE];
    bool is_https;
    bool too_large;
    const struct egress_guard *guard; /* NULL = any address */
    bool refused;                     /* by the guard */
    int64_t retry_at_ms;              /* Retry-After as a date on the server's clock; 0 = none */
    /* streaming only */
    const struct http_stream *stream;
    bool head_told;            /* on_head was called */
    bool stopped;              /* a function of the caller ended it */
    bool stalled;              /* no progress for idle_ms */
    int64_t sent;              /* request body bytes produced so far */
    curl_off_t moved;          /* bytes both ways at the last progress call */
    int64_t moved_ms, tick_ms; /* when `moved` last changed */
    int64_t started_ms;
    /* set by http_client_watch(); NULL = none, or it has returned true */
    bool (*is_over)(void *arg);
    void *is_over_arg;
    bool over; /* is_over() has returned true */
};

/* Sets URL, protocols, TLS checks and TCP options: the same for every connection of this program.
 */
void http_connection_options(CURL *easy, const char *url);
void http_exchange_init(struct http_exchange *exchange);
void http_exchange_done(struct http_exchange *exchange);
/* Sets every option for this request; what curl needs later is copied (stream is borrowed). -1: the
 * request cannot be sent at all and response says HTTP_NOT_SENT. */
int http_exchange_prepare(struct http_exchange *exchange, const struct http_request *request,
                          const struct http_stream *stream) MUST_CHECK;
/* Fills exchange->response; its body lives until the next prepare or done. */
void http_exchange_complete(struct http_exchange *exchange, CURLcode code);

#endif
