/*
 * door - Streamable HTTP: /mcp (and /) and /health.
 *
 * Owns: who may come in (Origin, token), headers, sessions in headers, one message or a batch, the
 * choice between a JSON answer and an event stream. Does not own: methods (mcp.h).
 * Threads: httpd's, one request each. Failure: an HTTP status with a JSON-RPC error as body.
 *
 * An answer is JSON. A call that takes longer than a second becomes an event stream, when the
 * client takes one: with progress, if it asked for that, and with comments that keep proxies from
 * giving up. When a client leaves, what it ran runs on.
 */
#ifndef TOOL_SERVER_DOOR_H
#define TOOL_SERVER_DOOR_H

#include "common/httpd/httpd.h"
#include "deploy/template/tool-server/config.h"
#include "deploy/template/tool-server/session.h"

struct door {
    const struct tool_config *config;
    struct sessions *sessions;
};

/* httpd's handler; arg is the door. */
void door_serve(void *arg, struct http_exchange *exchange);
void door_bad_request(void *arg, const struct http_exchange *exchange, enum error_code code,
                      const char *message, struct strbuf *headers, struct strbuf *body);

/* Whether pages of this Origin may call: those of localhost itself, and those listed. */
bool door_origin_allowed(const char *list /* or NULL */, const char *origin);

#endif
