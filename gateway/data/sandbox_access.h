/*
 * sandbox_access - who may reach into a sandbox by its host names, and with what.
 *
 * Owns: which sandbox and port a request names; the check of our tokens, and of signed file URLs.
 * Does not own: the tokens (sandbox_token.h), the relay (sandbox_proxy.h). Threads: any.
 * Failure: a refusal is a whole answer.
 */
#ifndef GATEWAY_SANDBOX_ACCESS_H
#define GATEWAY_SANDBOX_ACCESS_H

#include "common/proxy/route.h"
#include "gateway/gateway.h"

struct sandbox_access {
    struct route_target route;   /* as the request names it */
    char sandbox_id[UUID_BYTES]; /* ours */
    struct sandbox sandbox;      /* its row, without metadata */
    bool is_envd;                /* the agent's port */
    bool is_probe;               /* asks only whether it runs: resumes nothing */
    struct strbuf path;          /* path and query for the server; empty = the request's own */
};

/* Init access->path before, and free it after. False: `answer` is a refusal. */
bool sandbox_access_check(struct gateway *gateway, const char *head, struct sandbox_access *access,
                          struct strbuf *answer);

#endif
