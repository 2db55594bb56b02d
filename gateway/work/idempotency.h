/*
 * idempotency - Idempotency-Key: the same request sent again gets the first one's answer.
 *
 * Owns: reading the header, claiming the key in PostgreSQL, replaying or joining, keeping the
 * answer. Does not own: acceptance, which binds the key to its job in one transaction (store.h), or
 * waiting (lifecycle.c). A final answer is kept before it is sent, and whoever keeps it first
 * speaks for all who wait for the same request. An answer that says "try again" is not final: the
 * same request under the same key then runs again. A key that came to nothing (a refused body, a
 * database that is down) is given back, but never one of a ONCE route whose work has begun.
 * Threads: a request belongs to its thread. Failure: an answer that cannot be kept is not given,
 * but a 503: the key makes it safe to ask again, and the job, if there is one, has the answer then.
 * On a ONCE route, where asking again would bring nothing, it is given.
 */
#ifndef GATEWAY_IDEMPOTENCY_H
#define GATEWAY_IDEMPOTENCY_H

#include <stdbool.h>

#include "common/base/encode.h"
#include "common/base/error.h"
#include "common/base/id.h"
#include "common/base/strbuf.h"

#define IDEMPOTENCY_KEY_BYTES 256 /* 255 characters + NUL */

struct request;

struct idempotency {
    char key[IDEMPOTENCY_KEY_BYTES];   /* "" = none */
    char claim[UUID_BYTES];            /* "" = nothing to keep */
    char body_hash[SHA256_HEX_BYTES];  /* of a body too large to print; else "" */
    char whole_hash[SHA256_HEX_BYTES]; /* of a streamed body, once it was read */
    bool replayed;                     /* the answer is not this request's own */
    bool bound;                        /* the key has its job */
    bool ended;                        /* that job has ended */
    bool started;                      /* work without a job may have had its effect */
    char job_id[UUID_BYTES], sandbox_id[UUID_BYTES]; /* of the request joined; else "" */
    bool kept;                                       /* an answer is in the store */
};

/* The header, on every route: ERR_HEADER_INVALID when it is malformed or the route takes none. */
int idempotency_read(struct request *request, struct error *err) MUST_CHECK;
/* Before the handler. 0 = go on (maybe joining a job), 1 = answered already, -1 with err. */
int idempotency_begin(struct request *request, struct error *err) MUST_CHECK;
/* The same in the handler of a FORM route: `head` is what is known before the body has come. 1 =
 * the key has an answer, and whose it is shows when the body was read: idempotency_replay(). */
int idempotency_begin_form(struct request *request, const char *head, struct error *err) MUST_CHECK;
/* The whole body was read; file_hash is of its file. */
void idempotency_form_read(struct request *request, const char *head, const char *file_hash);
/* After idempotency_form_read(): 0 = answered. */
int idempotency_replay(struct request *request, struct error *err) MUST_CHECK;
/* True when the request waits for the job of an earlier one and must not start its own. */
bool idempotency_joins(const struct request *request);
/* A ONCE route's work failed after it had begun: err becomes one that does not say "try again". */
void idempotency_spend(const struct request *request, struct error *err);
/* Before an answer is sent: keeps it when it is final. False when another one was kept before it,
 * which has then been sent instead. */
bool idempotency_keep(struct request *request, int status, const struct strbuf *body);
/* After the handler: gives a key back that came to nothing. */
void idempotency_end(struct request *request);

#endif
