/*
 * relay - carries one HTTP exchange between a client's socket and one to a server.
 *
 * Owns: copying in both directions through buffers of a fixed size, the rewriting of both heads,
 * where the exchange ends, upgrades (WebSocket), clients that leave or stop reading. Does not own:
 * the sockets, routing, answers of our own. Threads: runs on its caller's thread until the end of
 * the exchange. Failure: is the result; nothing here logs.
 */
#ifndef PROXY_RELAY_H
#define PROXY_RELAY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/strbuf.h"
#include "common/proxy/head.h"

/* `ahead` must be able to hold this much. */
enum { RELAY_AHEAD_BYTES = 128 * 1024 };

struct relay_spec {
    int client, server;
    const char *head;      /* of the request, NUL-terminated */
    struct head_edit edit; /* for the request; connection and upgrade are the relay's */
    /* In: what the client sent behind the head. Out: what belongs to its next request. */
    struct strbuf *ahead;
    bool keep_alive;        /* the client's connection may carry another request */
    const char *cors_lines; /* for the response's head unless it has its own; "" = none */
    int64_t stall_ms;       /* a client that takes nothing of a waiting answer so long is cut */
};

enum relay_result {
    RELAY_NEXT,       /* answered; the client may send another request */
    RELAY_CLOSE,      /* answered; end the connection gently */
    RELAY_ABORT,      /* one side left, or the answer broke off: end it at once */
    RELAY_REFUSED,    /* nothing was sent: the request's framing is ambiguous */
    RELAY_UNANSWERED, /* nothing was sent to the client: the server closed without an answer */
};

enum relay_result relay_exchange(const struct relay_spec *spec);

#endif
