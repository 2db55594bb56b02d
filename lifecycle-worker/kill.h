/*
 * kill - ends a sandbox at the provider that no row wants.
 *
 * Owns: the flight of a kill: its call, its repetitions, the event of an orphan's end. Does not
 * own: what is to be killed (reconcile.c for orphans, settle.c for copies that this worker's own
 * late creates made). Threads: the worker's one. Failure: after the last try the sandbox is logged
 * as left; the next sweep finds it.
 */
#ifndef WORKER_KILL_H
#define WORKER_KILL_H

#include "lifecycle-worker/flight.h"

/* Begins, or begins again, the kill of a FLIGHT_KILL; waits while the provider's gate is shut. */
void kill_begin(struct flight *flight);

#endif
