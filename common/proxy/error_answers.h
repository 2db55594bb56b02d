/*
 * error_answers - the answers of a proxy itself, as E2B's proxy gives them.
 *
 * Owns: statuses, JSON for programs, HTML for browsers, CORS lines. Does not own: when, sockets.
 * Threads: no shared state.
 */
#ifndef PROXY_ERROR_ANSWERS_H
#define PROXY_ERROR_ANSWERS_H

#include "common/base/strbuf.h"
#include "common/proxy/route.h"

enum error_answer {
    ERROR_ANSWER_NOT_FOUND,     /* 502: killed, ended, paused or never there */
    ERROR_ANSWER_PORT_CLOSED,   /* 502: it runs, nothing listens on the port */
    ERROR_ANSWER_TOKEN_MISSING, /* 403: the port needs e2b-traffic-access-token */
    ERROR_ANSWER_TOKEN_WRONG,   /* 403 */
};

#define ERROR_ANSWER_TOKEN_HEADER "e2b-traffic-access-token"

/* Appends a whole response for a request's head. `target` is what it asked for. */
void error_answer_sandbox(struct strbuf *out, const char *head, const struct route_target *target,
                          enum error_answer why);
/* The same in the shape of the API's and envd's errors: {"code","message"}. */
void error_answer_plain(struct strbuf *out, const char *head, int status, const char *reason,
                        const char *message);

/* A browser's question whether a page of another origin may call this: Origin and
 * Access-Control-Request-Method on OPTIONS. */
bool error_answer_is_preflight(const char *head);
void error_answer_preflight(struct strbuf *out, const char *head);
/* Header lines for an answer to a page of another origin; "" when the request names none. */
const char *error_answer_cors_lines(const char *head);

#endif
