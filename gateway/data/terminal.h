/*
 * terminal - WebSockets on the terminals of commands.
 *
 * Binary messages are bytes of the terminal, both ways. Text messages are JSON: the client's
 * `resize`, ours `ready`, `omitted`, `paused`, `taken_over`, `moved`, `revoked`, `error`, `exit`
 * (deploy/operations/commands.md). A session that ends does not touch its command. The session that
 * was opened last has the terminal: the row says which (store_commands.h), so it may be at any
 * gateway.
 * Owns: the sessions, two threads each. Does not own: who may open one (terminal_url.h), the
 * listener (sandbox_proxy.h). Threads: any. Failure: is told to the client, and ends its session.
 */
#ifndef GATEWAY_TERMINAL_H
#define GATEWAY_TERMINAL_H

#include "gateway/gateway.h"

struct terminals;
struct terminals *terminals_new(struct gateway *gateway);
/* Ends all sessions and waits for them; no other is opened from here on. */
void terminals_stop(struct terminals *terminals);
void terminals_free(struct terminals *terminals);

struct terminal_open {
    char command_id[UUID_BYTES], sandbox_id[UUID_BYTES];
    char owner[OWNER_BYTES]; /* of the sandbox */
    int64_t after;           /* offset of the first byte of output wanted */
};
/* Returns a socket that takes the client's request head next, and answers it. ERR_OVERLOADED,
 * ERR_QUOTA: there are as many sessions as there may be. */
int terminals_open(struct terminals *terminals, const struct terminal_open *open,
                   struct error *err) MUST_CHECK;

#endif
