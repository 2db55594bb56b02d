/*
 * terminal_url - URLs under which a browser opens the terminal of a command.
 *
 * ws(s)://terminal.{SANDBOX_DOMAIN}/{command_id}/{end}/{mac}: the mac is ours, over command and
 * end, so every gateway makes and checks the same one and keeps none. Owns: their form, who may
 * pass. Does not own: the session (terminal.h). Threads: any. Failure: the store's errors.
 */
#ifndef GATEWAY_TERMINAL_URL_H
#define GATEWAY_TERMINAL_URL_H

#include "gateway/gateway.h"

struct terminal_url {
    char command_id[UUID_BYTES];
    int64_t after; /* offset of the first byte of output wanted */
};

/* Appends the URL, good until expires_at_ms. ERR_NOT_IMPLEMENTED: GATEWAY_SANDBOX_LISTEN is off. */
int terminal_url_put(const struct gateway *gateway, const char *command_id, int64_t expires_at_ms,
                     struct strbuf *out, struct error *err) MUST_CHECK;
/* Is the request for a terminal, by its host? */
bool terminal_url_is(const char *head);
/* ERR_FORBIDDEN: it is none of ours, or has ended. ERR_INVALID: its parameters. */
int terminal_url_check(const struct gateway *gateway, const char *head, struct terminal_url *ret,
                       struct error *err) MUST_CHECK;

#endif
