/*
 * finish - fills in how an attempt of a job ended: the row's new state and the job's.
 *
 * Owns: job.finish of a FLIGHT_JOB. Does not own: why it ended so (end.c, failover.c), the commit
 * (settle.c). Threads: the worker's one. Failure: none.
 */
#ifndef WORKER_FINISH_H
#define WORKER_FINISH_H

#include "lifecycle-worker/flight.h"

/* Empties the finish; it names the job, its lease token, and a row that stays as it is. */
void finish_init(struct flight *flight);
/* Writes when a create last may have reached the provider: each that went out has its own time to
 * appear there, so the last counts. `without_effect`: this attempt's certainly made nothing. */
void finish_create_sent(struct flight *flight, bool without_effect);
/* Moves the row to this status; `reason` may be NULL. */
void finish_status(struct flight *flight, enum sandbox_status to, const char *reason);
/* The attempt has ended: settle.c commits it. `error` may be NULL. */
void finish_with(struct flight *flight, enum job_state state, enum outcome outcome,
                 const char *error);

#endif
