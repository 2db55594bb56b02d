/*
 * gates - the gate of each provider that this worker calls, and the holds that all workers share.
 *
 * Owns: finding a provider's gate, setting and reading holds in Redis. Does not own: what a gate
 * decides (gate.c). Threads: the worker's one. Failure: Redis away is noted; a worker that cannot
 * read a hold learns it from the provider.
 */
#ifndef WORKER_GATES_H
#define WORKER_GATES_H

#include "lifecycle-worker/worker_state.h"

void gates_init(struct worker *worker);
/* The gate of this provider; NULL = it is not configured on this worker. */
struct gate *gates_find(struct worker *worker, const char *provider);
/* The provider's label for operators; its id when this worker does not call it. */
const char *gates_label(struct worker *worker, const char *provider);
/* Stops all calls to a provider for hold_ms, in this worker and in the others. */
void gates_hold(struct worker *worker, const char *provider, int64_t hold_ms, enum outcome outcome);
/* Reads the shared holds, if those read last are older than max_age_ms. */
void gates_read_holds(struct worker *worker, int64_t now_ms, int64_t max_age_ms);

#endif
