/*
 * relay - carries one HTTP exchange between a client's socket and one to a server.
 *
 * A state machine that never waits: relay_run() moves what can be moved now. The caller watches
 * both sockets, edge-triggered, and says what they are ready for.
 * Owns: copying in both directions through buffers of a fixed size, the rewriting of both heads,
 * where the exchange ends, upgrades (WebSocket), clients that leave or stop reading. Does not own:
 * the sockets, waiting, routing, answers of our own. Threads: one at a time. Failure: is the
 * result; nothing here logs.
 */
#ifndef PROXY_RELAY_H
#define PROXY_RELAY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/strbuf.h"
#include "common/proxy/head.h"

/* `ahead` must be able to hold this much. */
enum { RELAY_AHEAD_BYTES = 128 * 1024, RELAY_BUFFERS = 8 };

/* Buffers for the next read; those of one thread. Zeroed is empty. */
struct relay_buffers {
    char *spare[RELAY_BUFFERS];
    int count;
};
void relay_buffers_done(struct relay_buffers *buffers);

struct relay_spec {
    int client, server;
    const char *head;      /* of the request, NUL-terminated; must outlive the relay */
    struct head_edit edit; /* for the request; connection and upgrade are the relay's */
    /* In: what the client sent behind the head. Out: what belongs to its next request. */
    struct strbuf *ahead;
    bool keep_alive;        /* the client's connection may carry another request */
    bool keep_server;       /* ask the server to keep its connection open */
    const char *cors_lines; /* for the response's head unless it has its own; "" = none */
    int64_t stall_ms;       /* a client that takes nothing of a waiting answer so long is cut */
    struct relay_buffers *buffers;
};

/* What a socket is ready for. Bits stay set until the relay finds that they no longer hold. */
struct relay_ready {
    bool in, out;
    bool ended;  /* the other side sends nothing more */
    bool broken; /* the socket takes nothing more either */
};

enum relay_result {
    RELAY_WAITS,      /* call again when a socket is ready, or at relay_deadline_ms() */
    RELAY_MORE,       /* call again: others should have their turn first */
    RELAY_NEXT,       /* answered; the client may send another request */
    RELAY_CLOSE,      /* answered; end the connection gently */
    RELAY_ABORT,      /* one side left, or the answer broke off: end it at once */
    RELAY_UNANSWERED, /* nothing was sent to the client: the server closed without an answer */
};

struct relay;
/* NULL: the request's framing is ambiguous. */
struct relay *relay_new(const struct relay_spec *spec);
enum relay_result relay_run(struct relay *relay, struct relay_ready *client,
                            struct relay_ready *server);
/* When relay_run() is to be called though no socket is ready, on clock_mono_ms(); INT64_MAX =
 * never.
 */
int64_t relay_deadline_ms(const struct relay *relay);
/* After a result: whether the server's connection may carry another exchange. */
bool relay_keeps_server(const struct relay *relay);
/* After RELAY_UNANSWERED: whether the request can be sent again over another connection. */
bool relay_may_repeat(const struct relay *relay);
void relay_free(struct relay *relay); /* NULL-safe */

#endif
