/*
 * httpd_internal - what the files of common/httpd share.
 *
 * Owns: the server, its connections, the exchange. Nothing here is visible outside the module.
 * Calls go down only: httpd, httpd_io, httpd_virtual, httpd_worker and httpd_socket, httpd_conn,
 * httpd_holder, httpd_request, httpd_peer, httpd_head.
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

/* ---- heads (httpd_head.c) ---- */

enum head_scan { HEAD_PARTIAL, HEAD_WHOLE, HEAD_MALFORMED };
/* Looks for the head's end from *at on, where an earlier call stopped (0 at first). HEAD_WHOLE:
 * *ret_bytes of data are the head. HEAD_MALFORMED: holds a bare CR or LF or a control character. */
enum head_scan head_scan(const char *data, size_t length, size_t *at, size_t *ret_bytes);
/* The Content-Length of a whole head, as far as it may be waited for before a thread is given:
 * 0 = no body, or one that a thread must read (after 100-continue, or malformed); -1 = chunked. */
int64_t head_body_ahead(const char *head, size_t bytes);

/* What CivetWeb is not told of a head. */
struct head_facts {
    char method[24]; /* as sent, cut where it is longer than any that means something */
    bool http_1_0;
    bool close;               /* Connection lists it */
    const char *target_fault; /* what is wrong with the target; NULL = nothing */
};
/* Checks a whole head and writes it to `buf` as CivetWeb is to get it: HTTP/1.1, a method that it
 * knows, the target as a path, Host from an absolute target (RFC 9112 3.2.2), no Connection, no
 * blanks around values. Returns its length. */
long head_for_civetweb(const char *head, size_t bytes, char *buf, size_t size,
                       struct head_facts *facts, struct error *err) MUST_CHECK;

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

/* ---- httpd_conn.c ---- */
/* Before anything else runs: what the acceptor and the workers share. */
int httpd_acceptor_open(struct httpd *httpd, struct error *err) MUST_CHECK;
int httpd_acceptor_start(struct httpd *httpd, struct error *err) MUST_CHECK;
/* Joins the acceptor. Workers may still park connections; they lie there. */
void httpd_acceptor_stop(struct httpd *httpd);
/* Ends every connection without a worker, once there are neither acceptor nor workers. */
void httpd_connections_end(struct httpd *httpd);
void httpd_acceptor_wake(struct httpd *httpd);
/* The connection's head is whole, its short body too (or its time is over). */
bool conn_is_ready(const struct httpd *httpd, struct httpd_conn *conn);
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

/* ---- httpd_worker.c ---- */
/* Waits for the next request; NULL: the server stops. */
struct httpd_conn *worker_next_request(struct httpd_worker *worker);
/* Writes the request's head to `buf` for CivetWeb. 0: worker->refusal says why not. */
size_t worker_read_head(struct httpd_worker *worker, char *buf, size_t size);
/* The request is answered: its connection stays with the worker (`keep`), or ends. */
void worker_finish(struct httpd_worker *worker, bool keep, bool linger);

/* ---- httpd_socket.c ---- */
/* Some bytes of what the client sent, by until_ms. 0 its end; -1 broken, late, or too many wait. */
long socket_receive(struct http_exchange *exchange, void *buf, size_t bytes, int64_t until_ms);
/* The same, bytes that are here already first. */
long socket_take(struct http_exchange *exchange, void *buf, size_t bytes, int64_t until_ms);
/* Sends all of it; each HTTPD_WRITE_PIECE_BYTES have request_timeout_ms. */
int socket_send(struct http_exchange *exchange, const void *data, size_t bytes);

/* ---- httpd_virtual.c ---- */
/* Starts CivetWeb with these callbacks and its own; fills civetweb and listener. */
int virtual_start(struct httpd *httpd, struct mg_callbacks *callbacks, const char **settings,
                  struct error *err) MUST_CHECK;
/* Has CivetWeb give one more worker its virtual connection. */
void virtual_want(struct httpd *httpd);
/* Joins CivetWeb's threads; httpd->stopping is set. */
void virtual_stop(struct httpd *httpd);
/* In a callback about a request: the worker that this thread is. Its answer is ours to give. */
struct httpd_worker *virtual_request_begin(void);
/* The answer is given; CivetWeb may look for the rest of the request's body. */
void virtual_request_end(struct httpd_worker *worker, bool chunked);
/* mg_read and mg_write on the exchange's client. */
long virtual_read(struct http_exchange *exchange, void *buf, size_t bytes);
int virtual_write(struct http_exchange *exchange, const void *data, size_t bytes);

/* ---- httpd_request.c ---- */
/* Fills body_length, close, expects_continue. */
int httpd_check_request(struct http_exchange *exchange, struct error *err) MUST_CHECK;

#endif
