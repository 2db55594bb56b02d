/*
 * httpd_internal - the structures that the files of common/httpd share.
 *
 * Owns: the server, its connections, the exchange. Nothing here is visible outside the module.
 * Calls go down only: httpd, httpd_io, httpd_virtual, httpd_worker and httpd_socket, httpd_conn,
 * httpd_holder, httpd_request, httpd_peer, httpd_head, httpd_libc.
 * Threads: a connection belongs to whom its state says: the acceptor (parked, lingering), the queue
 * (ready) or one worker (busy). State, lists and counts are under httpd->lock. Only the acceptor
 * frees parked connections, so what epoll reported in one turn stays valid during that turn.
 */
#ifndef HTTPD_INTERNAL_H
#define HTTPD_INTERNAL_H

#include <civetweb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "common/base/cidr.h"
#include "common/httpd/httpd.h"
#include "common/httpd/httpd_head.h"

enum {
    HTTPD_HEADERS_MAX = 64, /* fewer than this many are accepted */
    HTTPD_ERROR_BODY_BYTES = 4096,
    HTTPD_RETRY_AFTER_S = 2,
    HTTPD_AHEAD_BYTES = 16384, /* a body up to this arrives before a thread is given */
    HTTPD_BUFFERED_BYTES =
        16 << 20, /* all heads and bodies held for connections without a thread */
    HTTPD_WRITE_PIECE_BYTES = 256 * 1024, /* each has its own deadline */
    HTTPD_JOINED_BYTES = 65536, /* of a body, leave in one packet with what is before it */
};

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

/* What CivetWeb means when it calls recv() on its virtual connection (httpd_virtual.c). */
enum virtual_recv {
    RECV_NOTHING, /* the handler runs: recv() is libc's */
    RECV_HEAD,    /* the next request */
    RECV_REST     /* what the handler left of a body */
};

/* A thread of CivetWeb that serves requests. */
struct httpd_worker {
    struct httpd *httpd;
    pthread_cond_t wake;
    struct httpd_conn *conn;
    struct httpd_worker *next_idle;
    struct strbuf out; /* reused for every head it sends */

    /* of the present request */
    struct head_facts facts;
    struct error refusal; /* why its head is refused; ERR_NONE = it is fine */
    bool unanswered;      /* CivetWeb has its head, we have not been called */
    enum virtual_recv recv;
    const char *rest; /* of the body, as CivetWeb is to see it */
};

struct httpd {
    struct httpd_options options;
    struct cidr_set trusted;
    int port, listener, epoll, wake_fd;
    struct mg_context *civetweb;
    int civetweb_listener;   /* what it listens on, and where it is given virtual connections */
    int virtual_fd;          /* each virtual connection is a copy of it */
    int wanted_fd;           /* eventfd: virtual connections that its workers lack */
    char start_failure[128]; /* what it said when it did not start */
    int max_body_waits, max_holder_body_waits;
    struct strbuf refusal; /* the whole answer to one too many */
    _Atomic int active;
    _Atomic bool draining;
    _Atomic int waiting; /* ready connections without a thread */
    _Atomic int busy;

    pthread_t acceptor;
    bool acceptor_runs;
    struct httpd_worker *workers;
    _Atomic int worker_count;

    pthread_mutex_t lock;
    _Atomic bool stopping;
    struct conn_list parked[CONN_CLASSES], ready, dead;
    int connected, lingering, body_waits;
    size_t buffered_bytes; /* of parked connections */
    struct httpd_worker *idle;
    int wanted; /* virtual connections asked for so far, at most one per thread */
    struct httpd_holder **holders; /* hash table */
    uint64_t hash_seed;
};

struct http_exchange {
    struct httpd *httpd;
    struct httpd_conn *conn;
    struct mg_connection *mg;
    const struct mg_request_info *info;
    const char *path; /* raw, without query */
    const struct head_facts *facts;
    struct strbuf *out;
    char client[INET6_ADDRSTRLEN]; /* "" = not asked for yet */

    int64_t body_length; /* -1 = chunked */
    int64_t body_read;
    int64_t piece_until_ms; /* the piece that is being read must have come by then */
    bool piece_came;
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

#endif
