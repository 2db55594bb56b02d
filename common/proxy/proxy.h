/*
 * proxy - an HTTP/1.1 reverse proxy that asks its program where each request goes.
 *
 * The program gives callbacks: `resolve` decides over a request's head (relay it, or answer it),
 * `connect` opens a socket to the server, `ended` says that the exchange is over. The proxy relays
 * requests, answers, uploads, server-sent events and WebSockets as streams: memory per connection
 * is constant, and a receiver that stops reading stops the sender.
 * Owns: the listener, TLS of clients, keep-alive, request heads and their time limits, the relay.
 * Does not own: where a request goes, who may send it, the texts of the program's answers
 * (error_answers.h helps with those).
 * Threads: proxy_start() and proxy_stop() from one thread. A few threads carry all connections;
 * `resolve`, `connect` and `unanswered` run on threads of their own, many at once, may wait, and
 * have PROXY_STACK_BYTES of stack.
 * Failure: a fault of one connection ends that connection.
 */
#ifndef PROXY_PROXY_H
#define PROXY_PROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/strbuf.h"

enum {
    PROXY_HOST_BYTES = 272,
    PROXY_KEY_BYTES = 320,
    PROXY_PEER_BYTES = 48,
    PROXY_ANSWER_BYTES = 65536, /* most of an answer that a callback makes */
    PROXY_STACK_BYTES = 256 * 1024,
};

/* A request, for as long as a callback runs. */
struct proxy_request {
    const char *head;            /* the whole head, NUL-terminated; read it with head.h */
    char peer[PROXY_PEER_BYTES]; /* IPv4 address of the client, as text */
    bool tls;                    /* the client came through TLS */
};

/* Where a request goes and how its head changes on the way. Zeroed before `resolve`. */
struct proxy_target {
    /* Exchanges with equal keys may use the same connections to the server, one after the other.
     * "" = each exchange has a connection of its own. Put into it whatever decides what `connect`
     * connects to. */
    char key[PROXY_KEY_BYTES];
    char host[PROXY_HOST_BYTES]; /* Host header for the server; "" = the client's */
    /* Path and query for the server; "" = the client's. */
    struct strbuf path;
    /* Header lines for the server ("Name: value\r\n"). Each replaces the client's of that name. */
    struct strbuf set_headers;
    /* Names of the client's headers that the server must not see, with commas between; NULL = all
     * may pass. The string must outlive the exchange. */
    const char *drop_headers;
    bool cors;     /* let pages of other origins read the answer, unless the server says itself */
    void *context; /* for the program */
};

enum proxy_decision {
    PROXY_RELAY,  /* the target is filled; `ended` will be called for it once */
    PROXY_LATER,  /* only of resolve_quick: it would have to wait; ask `resolve` */
    PROXY_ANSWER, /* `answer` holds a whole response with "Connection: close" */
};

struct proxy_callbacks {
    /* Decides over one request. `target` keeps what it allocates in path and set_headers; the proxy
     * frees both. */
    enum proxy_decision (*resolve)(void *arg, const struct proxy_request *request,
                                   struct proxy_target *target, struct strbuf *answer);
    /* Optional (NULL): asked first. As `resolve`, but on a thread that carries other connections,
     * so it must not wait for anything. */
    enum proxy_decision (*resolve_quick)(void *arg, const struct proxy_request *request,
                                         struct proxy_target *target, struct strbuf *answer);
    /* Returns a connected stream socket to the target's server, which the proxy closes; -1: the
     * answer for the client is in `answer`. */
    int (*connect)(void *arg, const struct proxy_request *request,
                   const struct proxy_target *target, struct strbuf *answer);
    /* The server closed the connection before it answered: fill the answer for the client. */
    void (*unanswered)(void *arg, const struct proxy_request *request,
                       const struct proxy_target *target, struct strbuf *answer);
    /* The exchange (of a WebSocket: the whole of it) is over. Must not wait for anything. NULL =
     * not wanted. */
    void (*ended)(void *arg, struct proxy_target *target);
};

struct proxy_options {
    const char *listen;       /* IPv4 "address:port"; port 0 picks a free one */
    const char *listen_name;  /* the setting that names it, for errors */
    struct tls *tls;          /* of the program (tls.h); NULL: clients that begin TLS are refused */
    int64_t max_connections;  /* clients at once; more are answered 503 */
    int64_t head_timeout_ms;  /* time for a request's head to arrive */
    int64_t idle_timeout_ms;  /* how long a connection may wait for its next request */
    int64_t stall_timeout_ms; /* a client that takes nothing of a waiting answer so long is cut */
    struct proxy_callbacks callbacks;
    void *arg; /* of the callbacks */
};

struct proxy;
/* `options` is copied; the strings in it must outlive the proxy. */
struct proxy *proxy_start(const struct proxy_options *options, struct error *err) MUST_CHECK;
int proxy_port(const struct proxy *proxy);
int proxy_connections(const struct proxy *proxy); /* clients now */
/* Stops listening, ends idle connections, and waits one second for exchanges to end: end what they
 * wait for first. NULL-safe. */
void proxy_stop(struct proxy *proxy);

#endif
