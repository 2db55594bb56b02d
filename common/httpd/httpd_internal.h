/*
 * httpd_internal - what the files of common/httpd share.
 *
 * Owns: the server, the connection registry entry, the exchange. Nothing here is visible outside
 * the module. Threads: httpd_conn.deadline_ms, .how and .expired are atomics written by the
 * connection's own thread and read by the watchdog; the list links are under httpd.lock. Everything
 * in struct http_exchange belongs to one handler thread.
 */
#ifndef HTTPD_INTERNAL_H
#define HTTPD_INTERNAL_H

#include <civetweb.h>
#include <pthread.h>
#include <stdatomic.h>

#include "common/httpd/httpd.h"

enum {
    HTTPD_WRITE_PIECE_BYTES = 256 * 1024, /* one mg_write; each has its own deadline */
    HTTPD_ERROR_BODY_BYTES = 4096,
    HTTPD_REFUSED_MAX = 256, /* refused connections whose clients are given time to read */
    HTTPD_RETRY_AFTER_S = 2,
};

struct httpd_conn {
    struct httpd *httpd;
    int fd;                      /* CivetWeb's own descriptor, borrowed; -1 = not found */
    _Atomic int64_t deadline_ms; /* clock_mono; 0 = none */
    _Atomic int how;             /* what the watchdog does then: SHUT_RD or SHUT_RDWR */
    _Atomic bool expired;
    _Atomic bool busy;             /* a handler is running */
    _Atomic int64_t idle_since_ms; /* clock_mono; 0 = no answer yet */
    struct httpd_conn *previous, *next;
};

struct httpd {
    struct mg_context *context;
    void (*handler)(void *arg, struct http_exchange *exchange);
    void (*bad_request)(void *arg, const struct http_exchange *exchange, enum error_code code,
                        const char *message, struct strbuf *headers, struct strbuf *body);
    void *arg;
    int keep_alive_ms, request_timeout_ms;
    int port;
    _Atomic int active;
    _Atomic bool draining;

    int threads, max_connections;
    _Atomic int connected; /* with a thread, or waiting for one */
    _Atomic bool gated;    /* connections are counted */
    struct strbuf refusal; /* the whole answer to one too many */
    struct {
        int fd; /* -1 = free */
        int64_t until_ms;
    } refused[HTTPD_REFUSED_MAX]; /* under lock */

    pthread_t watchdog;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stopping;
    struct httpd_conn *connections;
};

struct http_exchange {
    struct httpd *httpd;
    struct httpd_conn *conn;
    struct mg_connection *mg;
    const struct mg_request_info *info;
    int64_t body_length; /* -1 = chunked */
    int64_t body_read;
    bool body_done;   /* read to its end */
    bool body_broken; /* truncated, malformed or too slow */
    bool expects_continue;
    bool http_1_0;
    bool close; /* this connection ends with this exchange */

    int status; /* sent */
    bool streaming, stream_chunked, stream_ended, write_failed;
    int64_t stream_length, stream_written;
    struct strbuf out; /* head and small pieces, so that they leave in one write */
};

/* ---- httpd.c ---- */
void httpd_conn_arm(struct httpd_conn *conn, int64_t ms, int how);
void httpd_conn_disarm(struct httpd_conn *conn);

/* More connections than threads: somebody waits, so nobody keeps a thread without a request. */
bool httpd_is_crowded(const struct httpd *httpd);

/* ---- httpd_accept.c ---- */
/* Around mg_start, on the thread that calls it; end after mg_stop. */
void httpd_accept_begin(struct httpd *httpd, int max_connections, const char *refusal_body);
void httpd_accept_started(void);
/* Right before mg_stop: nobody is accepted any more. */
void httpd_accept_shut(struct httpd *httpd);
void httpd_accept_end(struct httpd *httpd);
void httpd_connection_closed(struct httpd *httpd);
/* Closes refused connections whose time is up. Caller holds httpd->lock. */
void httpd_refused_sweep(struct httpd *httpd, int64_t now_ms);

/* ---- httpd_request.c ---- */
/* Refuses what CivetWeb lets through; fills body_length, close, http_1_0, expects_continue. */
int httpd_check_request(struct http_exchange *exchange, struct error *err) MUST_CHECK;

/* ---- httpd_stack.c ---- */
/* False when the program was linked without exporting the interposed function. */
bool httpd_stack_is_raised(void);

#endif
