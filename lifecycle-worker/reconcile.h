/*
 * reconcile - one sweep of a provider: the list of what it has, against our rows.
 *
 * The list is compared page by page as it comes, then our rows batch by batch, one batch a turn,
 * and only then something is done: a list that breaks off changes nothing.
 *
 * Owns: the sweep's flight, when a finding is sure enough, the bounds of what one sweep may do.
 * Does not own: what is a finding (compare.c), how a row is corrected (a reconcile job of its own,
 * in the order of its sandbox's jobs), when to sweep (the reaper). Threads: the worker's one.
 * Failure: a list that is not whole, a database that does not answer or a lease that has run out
 * end the sweep with nothing done; the next one begins from the beginning.
 */
#ifndef WORKER_RECONCILE_H
#define WORKER_RECONCILE_H

#include "lifecycle-worker/flight.h"

/* True when the entry asks for a sweep: it is begun or passed over, and acknowledged. */
bool reconcile_take(struct worker *worker, const struct queue_entry *entry);
/* Takes the sweeps that PostgreSQL knows of, when Redis may not tell of them. */
void reconcile_poll(struct worker *worker);
/* Compares the next batch of our rows, after the list; behind the last, acts, and ends the sweep
 * and the flight. */
void reconcile_rows(struct flight *flight);
/* The worker stops in the middle of this sweep. */
void reconcile_abandon(struct flight *flight);
/* A job that lost its lease may still have reached the provider after a newer job did, and undone
 * it. Queries the sandbox now instead of waiting for two sweeps that see the difference. */
void reconcile_late_call(const struct flight *flight);

#endif
