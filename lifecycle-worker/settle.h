/*
 * settle - commits the attempts that have ended, then queues what follows from it for Redis.
 *
 * Owns: the batch of one turn: one store_jobs_finish, then acks, replies and wake-ups (outgoing.c),
 * in this order, so that an entry is acknowledged only after its outcome is on disk. Does not own:
 * what the outcome is. Threads: the worker's one. Failure: while PostgreSQL is away finished
 * flights stay until their lease ends.
 */
#ifndef WORKER_SETTLE_H
#define WORKER_SETTLE_H

#include "lifecycle-worker/worker_state.h"

/* Commits every finished flight and releases it. */
void settle_finished(struct worker *worker);

#endif
