/*
 * end - what the end of a job's attempt means for its row.
 *
 * Owns: outcome of a call -> lifecycle_next + retry_decide -> the finish. Does not own: the call
 * (call.c), the commit (settle.c). Threads: the worker's one. Failure: none; every way a call can
 * end becomes a finish.
 */
#ifndef WORKER_END_H
#define WORKER_END_H

#include "lifecycle-worker/flight.h"

/* The flight_end_fn of a job. */
void end_of_call(struct flight *flight, const struct provider_step *step, struct gate *gate);
/* Releases the job without spending an attempt; a worker retries it after delay_ms. */
void end_released(struct flight *flight, int64_t delay_ms);
/* The job has failed, or is dead; so does the row, if the lifecycle says so. */
void end_failed(struct flight *flight, enum job_state state, enum outcome outcome,
                const char *error);
/* The job is done: the row takes the status that the lifecycle gives it. */
void end_done(struct flight *flight);
/* The attempt could not begin, or its call failed: retries the job, or ends it. */
void end_unsuccessful(struct flight *flight, const struct provider_step *step);
/* The deadline that a timeout job asks for; limit_ms 0 = nothing at the provider limits it now
 * (paused). */
void end_set_timeout(struct flight *flight, int64_t limit_ms);

#endif
