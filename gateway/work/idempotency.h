/*
 * idempotency - Idempotency-Key: a repeated request gets the first one's answer.
 *
 * Owns: reading the header, claiming the key in PostgreSQL, replaying or joining, storing the
 * answer. Does not own: acceptance, which binds the key to its job in one transaction (store.h), or
 * waiting (lifecycle.c).
 *
 * A final answer is stored before it is sent. The first stored answer is the answer for every
 * request that waits for the same key. An answer that says "try again" is not final: the same
 * request with the same key runs again. A key whose request had no effect (a refused body, a
 * database that is down) is released, but never on a ONCE route whose work has begun. Threads: a
 * request belongs to its thread. Failure: if an answer cannot be stored, the client gets 503
 * instead and may repeat its request; the job, if there is one, has the answer then. On a ONCE
 * route the answer is sent anyway, because a repetition would not get it.
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
    char body_hash[SHA256_HEX_BYTES];  /* hash of a body too large to print again; else "" */
    char whole_hash[SHA256_HEX_BYTES]; /* hash of a streamed body, after it was read */
    bool replayed;                     /* the answer is an earlier request's */
    bool bound;                        /* the key is bound to its job */
    bool ended;                        /* that job has ended */
    bool started; /* work without a job has begun, and may have had an effect */
    char job_id[UUID_BYTES],
        sandbox_id[UUID_BYTES]; /* of the earlier request that this one joins; else "" */
    bool kept;                  /* an answer is stored */
};

/* Reads the header, on every route. ERR_HEADER_INVALID: it is malformed, or the route takes none.
 */
int idempotency_read(struct request *request, struct error *err) MUST_CHECK;
/* Called before the handler. 0 = run the handler (it may join a job), 1 = answered, -1 with err. */
int idempotency_begin(struct request *request, struct error *err) MUST_CHECK;
/* The same in the handler of a FORM route. `head`: the fields known before the body arrives. 1 =
 * the key has an answer; read the body, then call idempotency_replay(). */
int idempotency_begin_form(struct request *request, const char *head, struct error *err) MUST_CHECK;
/* The whole body was read. `file_hash`: SHA-256 of its file. */
void idempotency_form_read(struct request *request, const char *head, const char *file_hash);
/* Called after idempotency_form_read(). 0 = answered. */
int idempotency_replay(struct request *request, struct error *err) MUST_CHECK;
/* True when the request waits for an earlier request's job and must not start its own. */
bool idempotency_joins(const struct request *request);
/* The work of a ONCE route failed after it had begun: turns err into an error that does not say
 * "try again". */
void idempotency_spend(const struct request *request, struct error *err);
/* Called before an answer is sent; stores it if it is final. False: another answer was stored
 * first, and has been sent in its place. */
bool idempotency_keep(struct request *request, int status, const struct strbuf *body);
/* Called after the handler: releases a key whose request had no effect. */
void idempotency_end(struct request *request);

#endif
