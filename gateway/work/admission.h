/*
 * admission - refuses new jobs while the backlog is too deep or too old.
 *
 * Owns: the last known depth and age of the backlog, and the jobs that this gateway has accepted
 * since. Does not own: reading the backlog, which upkeep.c does once a second. So a call is
 * admitted without a round trip. Threads: any; the figures are atomic. Failure: ERR_OVERLOADED.
 */
#ifndef GATEWAY_ADMISSION_H
#define GATEWAY_ADMISSION_H

#include <stdint.h>

#include "common/base/error.h"
#include "common/domain/types.h"
#include "gateway/config.h"

struct admission {
    _Atomic int64_t depth;     /* unfinished jobs at the last reading */
    _Atomic int64_t oldest_ms; /* age of the oldest queued one then */
    _Atomic int64_t accepted;  /* jobs accepted here since that reading began */
};

/*
 * May a job of this kind be accepted? At ADMISSION_DEPTH or ADMISSION_AGE_MS creates are refused,
 * at ADMISSION_MAX every kind but deletes, of which a sandbox has at most one, and reconciles.
 */
int admission_check(struct admission *admission, const struct gateway_config *config,
                    enum job_op op, struct error *err) MUST_CHECK;
/* Counts a job that was accepted, until the next reading contains it. */
void admission_accepted(struct admission *admission);
/* Jobs accepted so far. Take it before the backlog is read, and give it to admission_update(). */
int64_t admission_mark(struct admission *admission);
/* Stores a reading of the backlog. Jobs accepted before `mark` are contained in it. */
void admission_update(struct admission *admission, int64_t mark, int64_t depth, int64_t oldest_ms);

#endif
