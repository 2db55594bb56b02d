/*
 * dependencies - whether PostgreSQL and Redis answer, and the log lines when that changes.
 *
 * Owns: store_up, queue_up, queue_refused_ms, the times of the next tries. Does not own: what the
 * worker does without them (worker.c). Threads: the worker's one. Failure: none.
 */
#ifndef WORKER_DEPENDENCIES_H
#define WORKER_DEPENDENCIES_H

#include "lifecycle-worker/worker_state.h"

enum {
    DEPENDENCIES_STORE_RETRY_MS = 250,
    DEPENDENCIES_QUEUE_RETRY_MS = 250,
    DEPENDENCIES_READER_BLOCK_MS = 2000
};

/* A call to PostgreSQL succeeded, or failed with err. */
void dependencies_store_works(struct worker *worker);
void dependencies_store_failed(struct worker *worker, const struct error *err);
/* A call to Redis succeeded, or failed with err. A refusal (ERR_LIMIT: Redis is full, or a key has
 * another type) leaves the queue up: what it may have lost is read from PostgreSQL as well. */
void dependencies_queue_works(struct worker *worker);
void dependencies_queue_failed(struct worker *worker, const struct error *err);
void dependencies_queue_refused(struct worker *worker, const char *why);
/* True until a refusal is so old that another would have come if its reason were still there. */
bool dependencies_queue_is_degraded(struct worker *worker, int64_t now_ms);

#endif
