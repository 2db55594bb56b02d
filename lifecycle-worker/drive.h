/*
 * drive - what apply.c and drive.c know of each other.
 *
 * apply decides that a call is needed and what its end means; drive makes it. Threads: the
 * worker's one. Failure: none.
 */
#ifndef WORKER_DRIVE_H
#define WORKER_DRIVE_H

#include "lifecycle-worker/worker.h"

/* What is stored of a create's sending is at most so long before the truth. */
enum { CREATE_SENT_SLACK_MS = 1000 };

/* ---- drive.c ---- */

/* Enters the gate, which must be open, and makes the call the claimed job asks for. */
void drive_begin(struct flight *flight, struct gate *gate);

/* Enters the gate and takes the first step of flight->call, which is filled in. */
void drive_call(struct flight *flight, struct gate *gate);

/* The call, and what may follow on it (start.h), is over. */
void drive_end(struct flight *flight, const struct provider_step *step);

/* ---- apply.c ---- */

/* Stops all calls to a provider for a time, here and at the other workers. */
void apply_hold(struct worker *worker, const char *provider, int64_t hold_ms, enum outcome outcome);

/* When an earlier attempt last may have sent a create, by the database's clock; 0 = none did. */
int64_t flight_sent_before_ms(const struct flight *flight);
/* Empties flight->finish but for whom it is about. */
void flight_finish_init(struct flight *flight);
/* The attempt has ended like this; settle.c commits it. `error` may be NULL. */
void flight_finish(struct flight *flight, enum job_state state, enum outcome outcome,
                   const char *error);
/* The backend of the sandbox's row, or NULL. */
struct provider *flight_provider(const struct flight *flight);
/* Gives the place in the gate back; no effect when none is held. */
void flight_leave_gate(struct flight *flight, enum gate_told told);
/* The call is through: the provider did what was asked, or says why that has no object. */
void flight_end_done(struct flight *flight, const struct provider_step *step);
/* An attempt that did not succeed: again, or for good. */
void flight_end_outcome(struct flight *flight, const struct provider_step *step);

#endif
