/*
 * router - takes a request to its handler: matching, required headers, token, body, log, metrics.
 *
 * Owns: the route table (routes.def, e2b_routes.def), the order of the checks before a handler, one
 * log line and one count for every answer. Does not own: what a call does (handlers_*.c), the forms
 * of an answer (request.c). Threads: any after router_init(); a request belongs to its thread.
 * Failure: every request is answered.
 */
#ifndef GATEWAY_ROUTER_H
#define GATEWAY_ROUTER_H

#include "gateway/auth/api_key.h"
#include "gateway/http/request.h"

enum { ROUTE_SCOPE_SHIFT = 16 };
enum route_flag {
    OPEN = 1 << 0,       /* no token, no required headers */
    JSON = 1 << 1,       /* the body must be a JSON object */
    MAYBE_JSON = 1 << 2, /* the body may be a JSON object */
    FILE_BODY = 1 << 3,  /* the body may contain a whole file */
    WORK = 1 << 4,       /* refused while draining */
    KEYED = 1 << 5,      /* takes an Idempotency-Key */
    ASYNC = 1 << 6,      /* may answer 202; takes Prefer: respond-async */
    FORM = 1 << 7, /* the handler reads a multipart form, and then claims the Idempotency-Key */
    ONCE = 1 << 8, /* under one key the work never begins twice, even if it failed */
    /* API keys with this scope may call the route; without any of these flags only tokens may */
    READS = SCOPE_READ << ROUTE_SCOPE_SHIFT,
    WRITES = SCOPE_WRITE << ROUTE_SCOPE_SHIFT,
    EXECS = SCOPE_EXEC << ROUTE_SCOPE_SHIFT,
    ADMINS = SCOPE_ADMIN << ROUTE_SCOPE_SHIFT, /* and only admins may call it */
    ANY_KEY = 1 << 24,
    NO_KEY = 1 << 25, /* states that no API key may call it */
    E2B = 1 << 26,    /* of E2B's API: its form of errors, and X-Request-ID is not required */
};

struct route {
    const char *method, *path;
    unsigned flags;
    void (*handler)(struct request *request);
    const char *handler_name;
};

/* Every route of routes.def, then of e2b_routes.def. */
extern const struct route route_table[];
extern const int route_count;

/* Registers the metrics. Call once, before threads start. */
void router_init(void);
/* httpd's answer to a connection beyond the limit. */
extern const char router_refusal_body[];
/* httpd's handler; arg is the struct gateway. */
void router_handle(void *arg, struct http_exchange *http);
/* httpd's answer to a request that is not valid HTTP. */
void router_bad_request(void *arg, const struct http_exchange *exchange, enum error_code code,
                        const char *message, struct strbuf *headers, struct strbuf *body);

enum { ROUTE_IDS = 2 };
/* Matches `path` against `pattern` and copies the ids that stand for its {...}. {id} and
 * {command_id} are UUIDs, {sandboxID} is one in one of the forms that E2B's clients send, {name} is
 * any segment. -1 = no match, 0 = match, 1 = match except for a malformed id; then no id is copied.
 */
int route_match(const char *pattern, const char *path, char ret_ids[ROUTE_IDS][UUID_BYTES]);

#endif
