/*
 * request_state - the part of a request that its handler does not see.
 *
 * Read and written by the router, the answers (request.c), gateway/work and gateway/data. Handlers
 * do not include it (tests/lint.sh checks): they use the functions of request.h.
 * Threads: a request belongs to its thread.
 */
#ifndef GATEWAY_REQUEST_STATE_H
#define GATEWAY_REQUEST_STATE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/domain/types.h"
#include "gateway/work/budget.h"
#include "gateway/work/idempotency.h"
#include "gateway/work/user_share.h"

struct route;

struct request_state {
    const struct route *route;           /* NULL: none matches */
    char traceparent[TRACEPARENT_BYTES]; /* "" = not sent, or not in the W3C's form */
    struct idempotency idempotency;
    struct budget_share buffers;
    struct user_share *user;        /* the caller's share; NULL before the caller is known */
    bool user_working;              /* counted in the caller's share */
    bool over_share;                /* not counted: it may begin work, but not wait for it */
    bool working;                   /* counted in gateway.working */
    bool e2b;                       /* of E2B's API: errors have its form */
    int status;                     /* the answer's status; 0 = not answered yet */
    size_t sent_bytes;              /* of the answer's body */
    char audit_target[LABEL_BYTES]; /* see request_set_audit_target() */
    char refusal_headers[256];      /* header lines of a refusal by the router */
    const char *error_type;         /* the answer's error, for the log; NULL = none */
    /* Called before an answer is sent. False: another answer was sent in its place. */
    bool (*before_answer)(struct request *request, int status, const struct strbuf *body);
};

#endif
