/*
 * failover - when a create goes to another provider than the one of its row, and to which.
 *
 * Owns: the decision. Does not own: calls, the first choice (the gateway's, in the job's `places`).
 * Threads: the worker's one. Failure: none.
 *
 * A create moves only by a commit that names the new place, so that whoever takes the job over
 * looks for its sandbox where it may be. It moves away from a provider
 *   - before anything was sent: the circuit is open, or it cannot begin within
 *     SANDBOX_FAILOVER_PATIENCE_MS (a hold, no place free);
 *   - when the provider certainly made nothing: it is out of reach or failing, has no capacity,
 *     or holds it off for longer than the patience;
 *   - when it is not known what it made: first the create is settled. One that was made is kept;
 *     one that was not moves on. Only when the provider has answered nothing about any create for
 *     SANDBOX_FAILOVER_UNSETTLED_MS does the create move unsettled, and never back.
 *     What it may have left is tagged with it, and killed by the first sweep that finds it.
 */
#ifndef WORKER_FAILOVER_H
#define WORKER_FAILOVER_H

#include "common/domain/retry.h"
#include "lifecycle-worker/flight.h"

/* True when another provider may run this create. */
bool failover_is_possible(const struct flight *flight);

/* The flight's call at this gate has ended like this: does the provider answer what becomes of
 * creates? `looked`: it was asked what one has made, and answered. */
void failover_record(const struct flight *flight, struct gate *gate, enum outcome outcome,
                     bool looked);

/* Each of these either moves the create, which finishes the flight, or returns false. */

/* The gate is shut for blocked_ms. */
bool failover_when_blocked(struct flight *flight, const struct gate *gate, int64_t blocked_ms);
/* The attempt has failed like this; `decision` is what would follow without a move. */
bool failover_when_failed(struct flight *flight, const struct provider_step *step,
                          const struct retry_decision *decision);
/* A lookup has proved that no earlier attempt created a sandbox. */
bool failover_when_settled(struct flight *flight);

#endif
