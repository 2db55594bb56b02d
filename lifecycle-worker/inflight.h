/*
 * inflight - the fixed table of flights of this worker.
 *
 * Owns: the slots. A full table is the worker's back-pressure: it stops reading. Does not own: what
 * happens to a flight. Threads: the worker's one.
 */
#ifndef WORKER_INFLIGHT_H
#define WORKER_INFLIGHT_H

#include "lifecycle-worker/flight.h"

struct inflight {
    struct flight *flights;
    int capacity;
    int used;
};

void inflight_init(struct inflight *table, int capacity);
void inflight_done(struct inflight *table);
int inflight_room(const struct inflight *table);
/* A zeroed free slot; only while there is room. */
struct flight *inflight_take(struct inflight *table, struct worker *worker, enum flight_kind kind);
/* Frees what hangs on it; NULL-safe. Its gate must have been left. */
void inflight_release(struct inflight *table, struct flight *flight);
/* The flight that works on this job, or NULL. */
struct flight *inflight_find(const struct inflight *table, const char *job_id);
/* Flights in a phase. */
int inflight_count(const struct inflight *table, enum flight_phase phase);
/* Flights of a kind, in any phase. */
int inflight_count_kind(const struct inflight *table, enum flight_kind kind);
/* Is a kill of this sandbox of the provider's in flight? */
bool inflight_has_kill(const struct inflight *table, const char *provider_sandbox_id);

#endif
