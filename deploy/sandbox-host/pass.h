/*
 * pass - passes one HTTP exchange between a client's socket and one inside.
 *
 * Owns: copying in both directions through buffers of a fixed size, the rewriting of both heads,
 * where the exchange ends, upgrades (WebSocket), clients that leave or stop reading. Does not own:
 * the sockets, routing, answers of our own. Threads: runs on its caller's thread until the end of
 * the exchange. Failure: is the result; nothing here logs.
 */
#ifndef SANDBOX_HOST_PASS_H
#define SANDBOX_HOST_PASS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/strbuf.h"

/* `ahead` must be able to hold this much. */
enum { PASS_AHEAD_BYTES = 128 * 1024 };

struct pass_spec {
    int client, inside;
    const char *head; /* of the request, NUL-terminated */
    const char *host; /* what the inside is told as Host, NULL = what the client said */
    /* In: what the client sent behind the head. Out: what belongs to its next request. */
    struct strbuf *ahead;
    bool keep_alive;        /* the client's connection may go on after this */
    const char *cors_lines; /* for the response's head unless it has its own; "" = none */
    int64_t stall_ms;       /* a client that takes nothing of a waiting answer for so long is cut */
};

enum pass_result {
    PASS_NEXT,       /* answered; the client may send another request */
    PASS_CLOSE,      /* answered; end the connection gently */
    PASS_ABORT,      /* one side left, or the answer broke off: end it at once */
    PASS_REFUSED,    /* nothing was sent: the request's framing is ambiguous */
    PASS_UNANSWERED, /* nothing was sent to the client: the inside went away without a word */
};

enum pass_result pass_exchange(const struct pass_spec *spec);

#endif
