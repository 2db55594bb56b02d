/*
 * begin - decides a freshly claimed job: finishes it, or begins its provider call.
 *
 * Owns: job -> provider call. Does not own: the call (call.c), its end (end.c). Threads: the
 * worker's one. Failure: none; a job that cannot begin is finished or given back.
 */
#ifndef WORKER_BEGIN_H
#define WORKER_BEGIN_H

#include "lifecycle-worker/flight.h"

void begin_job(struct flight *flight);

#endif
