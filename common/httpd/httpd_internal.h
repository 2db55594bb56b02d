/*
 * httpd_internal - what the files of common/httpd share.
 *
 * Owns: the server, its connections, the exchange. Nothing here is visible outside the module.
 * Threads: a connection belongs to whom its state says: the acceptor (parked, lingering), the queue
 * (ready) or one worker (busy). State, lists and counts are under httpd->lock. Only the acceptor
 * frees parked connections, so what epoll reported in one turn stays valid during that turn.
 */
#ifndef HTTPD_INTERNAL_H
#define HTTPD_INTERNAL_H

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "common/base/cidr.h"
#include "common/httpd/httpd.h"

enum {
    HTTPD_HEADERS_MAX = 64, /* fewer than this many are accepted */
    HTTPD_ERROR_BODY_BYTES = 4096,
    HTTPD_RETRY_AFTER_S = 2,
    HTTPD_AHEAD_BYTES = 16384, /* a body up to this arrives before a thread is given */
    HTTPD_BUFFERED_BYTES =
        16 << 20, /* all heads and bodies held for connections without a thread */
    HTTPD_WRITE_PIECE_BYTES = 256 * 1024, /* each has its own deadline */
};

/* ---- heads (httpd_head.c) ---- */

struct http_head {
    const char *method, *path, *query; /* query: "" when none */
    bool http_1_0;
    int count;
    struct {
        const char *name, *value;
    } headers[HTTPD_HEADERS_MAX];
};

enum head_scan { HEAD_PARTIAL, HEAD_WHOLE, HEAD_MALFORMED };
/* Looks for the head's end from *at on, where an earlier call stopped (0 at first). HEAD_WHOLE:
 * *ret_bytes of data are the head. HEAD_MALFORMED: holds a bare CR or LF or a control character. */
enum head_scan head_scan(const char *data, size_t length, size_t *at, size_t *ret_bytes);
/* The Content-Length of a whole head, as far as it may be waited for before a thread is given:
 * 0 = no body, or one that a thread must read (after 100-continue, or malformed); -1 = chunked. */
int64_t head_body_ahead(const char *head, size_t bytes);
/* Splits a whole head in place. Strict (RFC 9112): what two parsers may read differently is
 * refused. Absolute targets lose their authority, which then replaces Host (3.2.2). */
int head_parse(char *head, size_t bytes, struct http_head *ret, struct error *err) MUST_CHECK;

/* ---- connections ---- */

enum conn_class {
    CONN_LINGER, /* answered; what is still sent is read and dropped */
    CONN_HEAD,   /* its head is not whole; nothing of it may have come */
    CONN_BODY,   /* its head is whole, a short body is not */
    CONN_IDLE,   /* between two requests */
    CONN_CLASSES,
    CONN_READY = CONN_CLASSES, /* waits for a thread */
    CONN_BUSY                  /* has one */
};
/* What was wrong with what came; the worker answers. */
enum conn_verdict { VERDICT_OK, VERDICT_MALFORMED, VERDICT_TOO_LARGE, VERDICT_TIMEOUT };

TAILQ_HEAD(conn_list, httpd_conn);

/* What one address or one owner holds. */
struct httpd_holder {
    uint64_t key;
    int references; /* connections and waiting bodies */
    int connections, waiting_bodies;
    struct conn_list parked[CONN_CLASSES];
    struct httpd_holder *next; /* in its bucket */
};

struct httpd_conn {
    int fd;
    enum conn_class class;
    enum conn_verdict verdict;
    bool counted;     /* in httpd->connected and its holder's connections */
    bool chunked;     /* its head says so */
    bool body_late;   /* its body had its time before it got a thread */
    uint32_t address; /* host byte order */
    char peer[INET_ADDRSTRLEN];
    struct httpd_holder *holder;
    int64_t since_ms;    /* in its class */
    int64_t received_ms; /* when its head was whole */
    int64_t linger_end_ms;
    char *in; /* read and not used yet: in_at..in_length */
    size_t in_length, in_capacity, in_at;
    size_t scanned, head_bytes; /* head_bytes 0 = not whole */
    TAILQ_ENTRY(httpd_conn) link, holder_link;
};

struct httpd_worker {
    struct httpd *httpd;
    pthread_t thread;
    pthread_cond_t wake;
    struct httpd_conn *conn;
    struct httpd_worker *next_idle;
    struct strbuf out; /* reused for every head it sends */
};

struct httpd {
    struct httpd_options options;
    struct cidr_set trusted;
    int port, listener, epoll, wake_fd;
    int max_body_waits, max_holder_body_waits;
    struct strbuf refusal; /* the whole answer to one too many */
    _Atomic int active;
    _Atomic bool draining;
    _Atomic int waiting; /* ready connections without a thread */
    _Atomic int busy;

    pthread_t acceptor;
    bool acceptor_runs;
    struct httpd_worker *workers;
    int worker_count;

    pthread_mutex_t lock;
    bool stopping;
    struct conn_list parked[CONN_CLASSES], ready, dead;
    int connected, lingering, body_waits;
    size_t buffered_bytes; /* of parked connections */
    struct httpd_worker *idle;
    struct httpd_holder **holders; /* hash table */
    uint64_t hash_seed;
};

struct http_exchange {
    struct httpd *httpd;
    struct httpd_conn *conn;
    struct http_head head;
    struct strbuf *out;
    char client[INET6_ADDRSTRLEN]; /* "" = not asked for yet */

    int64_t body_length; /* -1 = chunked */
    int64_t body_read;
    bool body_done;   /* read to its end */
    bool body_broken; /* truncated, malformed or too slow */
    bool timed_out;
    bool refused_wait; /* too many bodies are waited for */
    bool expects_continue;
    bool close; /* this connection ends with this exchange */
    int64_t body_waited_ms;
    const char *owner;
    struct httpd_holder *wait_holders[2]; /* counted in, NULL = not */
    enum { CHUNK_SIZE, CHUNK_DATA, CHUNK_DATA_END, CHUNK_TRAILER } chunk_state;
    int64_t chunk_left;

    int status; /* sent */
    bool streaming, stream_chunked, stream_ended, write_failed;
    int64_t stream_length, stream_written;
};

/* ---- httpd.c ---- */
/* Answers all requests that are ready on it, then parks or closes it. */
void httpd_serve(struct httpd_worker *worker, struct httpd_conn *conn);
/* The connection's head is whole, its short body too (or its time is over). */
bool conn_is_ready(const struct httpd *httpd, struct httpd_conn *conn);

/* ---- httpd_conn.c ---- */
int httpd_acceptor_start(struct httpd *httpd, struct error *err) MUST_CHECK;
/* Joins the acceptor. Workers may still park connections; they lie there. */
void httpd_acceptor_stop(struct httpd *httpd);
/* Ends every connection without a worker, once there are neither acceptor nor workers. */
void httpd_connections_end(struct httpd *httpd);
void httpd_acceptor_wake(struct httpd *httpd);
struct httpd_conn *conn_new(struct httpd *httpd, int fd, const struct sockaddr_in *address);
/* Gives a busy connection back to the acceptor. */
void conn_park(struct httpd *httpd, struct httpd_worker *worker, struct httpd_conn *conn,
               enum conn_class class);
/* Ends a busy connection. */
void conn_close(struct httpd *httpd, struct httpd_worker *worker, struct httpd_conn *conn);
/* Makes room for `bytes` behind in_length. */
void conn_reserve(struct httpd_conn *conn, size_t bytes);
/* Drops the request that was served; what was read of the next one stays. */
void conn_next_request(struct httpd_conn *conn);

/* ---- httpd_holder.c ---- */
int httpd_holders_init(struct httpd *httpd, struct error *err) MUST_CHECK;
void httpd_holders_free(struct httpd *httpd);
/* One more reference to the holder of this key. Both: the caller holds the lock. */
struct httpd_holder *holder_take(struct httpd *httpd, uint64_t key);
void holder_give(struct httpd *httpd, struct httpd_holder *holder);
/* Takes a place among the bodies that threads wait for; false: there is none. */
bool httpd_body_wait_begin(struct http_exchange *exchange);
void httpd_body_wait_end(struct http_exchange *exchange);

/* ---- httpd_request.c ---- */
/* Fills body_length, close, expects_continue. */
int httpd_check_request(struct http_exchange *exchange, struct error *err) MUST_CHECK;

#endif
