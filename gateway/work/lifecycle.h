/*
 * lifecycle - runs a lifecycle job for a request: accepts it, wakes a worker, waits for its end.
 *
 * Owns: the path of a job in the gateway, the meaning of a job's end for the caller. Does not own:
 * the form of the answer (handlers), the job itself (store, worker).
 */
#ifndef GATEWAY_LIFECYCLE_H
#define GATEWAY_LIFECYCLE_H

#include "gateway/http/request.h"

enum lifecycle_end {
    LIFECYCLE_ENDED,   /* the job is done */
    LIFECYCLE_PENDING, /* still running: answer 202 */
    LIFECYCLE_ERROR    /* see err */
};

struct lifecycle_change {
    const char *sandbox_id;
    enum job_op op;
    const char *params_json; /* or NULL */
    bool join;               /* join an unfinished job of the same kind, if there is one */
    bool no_wait;
    bool keyed; /* bind the request's Idempotency-Key to this job */
};

/* Accepts the job, or joins one, and waits up to SANDBOX_WAIT_SECONDS. *ret_job is filled (free it
 * with job_done) for LIFECYCLE_ENDED, and for LIFECYCLE_ERROR when a finished job is the reason;
 * its state is then terminal. */
enum lifecycle_end lifecycle_run(struct request *request, const struct lifecycle_change *change,
                                 struct job *ret_job, struct error *err);
/* The same for a create, which inserts the sandbox's row. If the Idempotency-Key joins an earlier
 * create, sandbox->id becomes that sandbox's. */
enum lifecycle_end lifecycle_create(struct request *request, struct sandbox *sandbox,
                                    const char *params_json, bool no_wait, struct job *ret_job,
                                    struct error *err);

/* Reads the sandbox, if the caller owns it or is an admin. */
int lifecycle_get(struct request *request, const char *sandbox_id, struct sandbox *ret,
                  struct error *err) MUST_CHECK;
/* The same, and makes it run: resumes a paused sandbox, waits for one in creation. ERR_TIMEOUT
 * after SANDBOX_WAIT_SECONDS. */
int lifecycle_get_running(struct request *request, const char *sandbox_id, struct sandbox *ret,
                          struct error *err) MUST_CHECK;
/* For a sandbox that is missing at its provider: runs a reconcile job. ERR_PROVIDER_DOWN while it
 * stays missing; else reads *sandbox again. Does nothing for any other sandbox. */
int lifecycle_confirm(struct request *request, struct sandbox *sandbox,
                      struct error *err) MUST_CHECK;
/* Runs a reconcile job: the provider's proxy does not know a sandbox that should run. */
int lifecycle_reconcile(struct request *request, const char *sandbox_id,
                        struct error *err) MUST_CHECK;

#endif
