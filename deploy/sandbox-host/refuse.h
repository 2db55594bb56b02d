/*
 * refuse - the proxy's own answers, as E2B's gives them.
 *
 * Owns: statuses, JSON for programs, HTML for browsers, CORS lines. Does not own: when, sockets.
 * Threads: no shared state.
 */
#ifndef SANDBOX_HOST_REFUSE_H
#define SANDBOX_HOST_REFUSE_H

#include "common/base/strbuf.h"
#include "deploy/sandbox-host/route.h"

enum refusal {
    REFUSE_NOT_FOUND,     /* 502: killed, ended, paused or never there */
    REFUSE_PORT_CLOSED,   /* 502: it runs, nothing listens on the port */
    REFUSE_TOKEN_MISSING, /* 403: the port needs e2b-traffic-access-token */
    REFUSE_TOKEN_WRONG,   /* 403 */
};

#define REFUSE_TOKEN_HEADER "e2b-traffic-access-token"

/* Appends a whole response for a request's head. `target` is what it asked for. */
void refuse_sandbox(struct strbuf *out, const char *head, const struct route_target *target,
                    enum refusal why);
/* The same in the shape of the API's and envd's errors: {"code","message"}. */
void refuse_plain(struct strbuf *out, const char *head, int status, const char *reason,
                  const char *message);

/* A browser's question whether a page of another origin may call this: Origin and
 * Access-Control-Request-Method on OPTIONS. */
bool refuse_is_preflight(const char *head);
void refuse_answer_preflight(struct strbuf *out, const char *head);
/* Header lines for an answer to a page of another origin; "" when the request names none. */
const char *refuse_cors_lines(const char *head);

#endif
