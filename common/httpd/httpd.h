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
#include "common/httpd/httpd_io.h"
#include "common/httpd/httpd_peer.h"
#include "common/httpd/httpd_request.h"

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

#endif
