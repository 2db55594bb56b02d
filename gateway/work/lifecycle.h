/*
 * lifecycle - asking for a change of a sandbox and waiting for it: accept, wake a worker, wait.
 *
 * Owns: the path of a job as the gateway sees it, the meaning of a job's end for the caller.
 * Does not own: what the answer looks like (handlers), the job itself (store, worker).
 */
#ifndef GATEWAY_LIFECYCLE_H
#define GATEWAY_LIFECYCLE_H

#include "gateway/http/request.h"

enum lifecycle_end {
    LIFECYCLE_ENDED,   /* the job is done */
    LIFECYCLE_PENDING, /* still running: answer 202 */
    LIFECYCLE_ERROR    /* err says what; details may say more */
};

struct lifecycle_change {
    const char *sandbox_id;
    enum job_op op;
    const char *params_json; /* or NULL */
    bool join;               /* an unfinished job of the same kind will do */
    bool no_wait;
    bool keyed; /* this job is what the request's Idempotency-Key stands for */
};

/* Accepts the job, or joins one, and waits up to SANDBOX_WAIT_SECONDS. *ret_job is filled (job_done
 * it) for LIFECYCLE_ENDED and when a finished job is the error (its state is then terminal). */
enum lifecycle_end lifecycle_run(struct request *request, const struct lifecycle_change *change,
                                 struct job *ret_job, struct error *err);
/* The same for a create, whose sandbox row is new; sandbox->id becomes that of the earlier request
 * where its Idempotency-Key joins one. */
enum lifecycle_end lifecycle_create(struct request *request, struct sandbox *sandbox,
                                    const char *params_json, bool no_wait, struct job *ret_job,
                                    struct error *err);

/* The caller's own sandbox. */
int lifecycle_get(struct request *request, const char *sandbox_id, struct sandbox *ret,
                  struct error *err) MUST_CHECK;
/* The same, running: a paused one is resumed first, one in creation is waited for. ERR_TIMEOUT when
 * that takes too long. */
int lifecycle_get_running(struct request *request, const char *sandbox_id, struct sandbox *ret,
                          struct error *err) MUST_CHECK;
/* Of a sandbox that its provider does not know at the moment: asks once more. ERR_PROVIDER_DOWN
 * while that is so; else *sandbox is read again. Does nothing for any other. */
int lifecycle_confirm(struct request *request, struct sandbox *sandbox,
                      struct error *err) MUST_CHECK;
/* The provider's edge does not know a sandbox that should run: has the row corrected. */
int lifecycle_reconcile(struct request *request, const char *sandbox_id,
                        struct error *err) MUST_CHECK;

/* Bit per enum outcome: a job that ended so is answered 503, and may be asked for again. */
unsigned lifecycle_retryable_outcomes(void);

/* A finished job that did not succeed, as the error of the call. Always -1. */
int lifecycle_job_error(const struct job *job, struct error *err);

#endif
