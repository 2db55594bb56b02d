/*
 * heartbeat - what a worker reports about itself, in Redis and in PostgreSQL.
 *
 * Owns: the JSON in Redis, which the gateway turns into /metrics; the heartbeat in PostgreSQL, by
 * which a crash is told from a late lease. Counters count from the worker's start and only grow.
 * Does not own: sending the JSON (worker.c). Threads: the worker's one. Failure: PostgreSQL away is
 * noted. Nothing secret is in it.
 */
#ifndef WORKER_HEARTBEAT_H
#define WORKER_HEARTBEAT_H

#include "lifecycle-worker/worker_state.h"

/* The figures of this worker as JSON; the caller frees. */
char *heartbeat_json(const struct worker *worker);
/* Writes the heartbeat in PostgreSQL when it is due. Nothing is claimed before the first, nor after
 * an absence of PostgreSQL before the next: it tells which leases ran out by a crash. */
void heartbeat_store(struct worker *worker, int64_t now_ms);

#endif
