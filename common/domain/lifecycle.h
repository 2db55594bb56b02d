/*
 * lifecycle - the state machine of a sandbox: one table, next[state][event] -> state + effect.
 *
 * Pure. Nobody else decides what a status may become; the store applies what this table says,
 * by compare-and-set.
 *
 * Events: START_<op> when a worker claims a job, DONE_<op> / FAILED_<op> when it ends for good,
 * SEEN_* when the provider was asked and answered something else than the row says.
 */
#ifndef DOMAIN_LIFECYCLE_H
#define DOMAIN_LIFECYCLE_H

#include "common/domain/types.h"

enum lifecycle_event {
    /* START_x = LIFECYCLE_START + op, and so on, in the order of ops.def */
    LIFECYCLE_START = 0,
    LIFECYCLE_DONE = JOB_OP_COUNT,
    LIFECYCLE_FAILED = 2 * JOB_OP_COUNT,
    LIFECYCLE_SEEN_RUNNING = 3 * JOB_OP_COUNT,
    LIFECYCLE_SEEN_PAUSED,
    LIFECYCLE_SEEN_ABSENT,
    LIFECYCLE_EVENT_COUNT
};

enum lifecycle_effect {
    LIFECYCLE_IMPOSSIBLE = 0, /* the event cannot happen here; a bug if it does */
    LIFECYCLE_CALL,           /* call the provider */
    LIFECYCLE_ALREADY,        /* nothing to do: the job succeeds as it is */
    LIFECYCLE_REJECT,         /* the job fails: not possible in this state */
    LIFECYCLE_SETTLE,         /* terminal event: just take the new state */
};

struct lifecycle_step {
    enum sandbox_status next;
    enum lifecycle_effect effect;
};

/* clang-format off */
/*
 * START_<op>:
 *   create:    creating CALL (a retry repeats it); running, paused ALREADY; rest REJECT
 *   pause:     running, pausing -> pausing CALL; paused ALREADY; rest REJECT
 *   resume:    paused, pausing, resuming -> resuming CALL; running ALREADY; rest REJECT
 *   delete:    every state but deleted -> deleting CALL; deleted ALREADY
 *   timeout:   running CALL; paused ALREADY (only the row changes); rest REJECT
 *   reconcile: CALL without a change; deleted, failed ALREADY
 * DONE_<op> / FAILED_<op>, in the state the START gave:
 *   create -> running / failed, pause -> paused / running, resume -> running / paused,
 *   delete -> deleted / deleting (a delete is retried until it is done),
 *   timeout and reconcile keep the state
 * SEEN_ABSENT:  every state but deleted -> deleted (failed stays: there was nothing)
 * SEEN_PAUSED:  running, pausing, paused, resuming -> paused
 * SEEN_RUNNING: running, pausing, paused, resuming -> running
 */
/* clang-format on */
struct lifecycle_step lifecycle_next(enum sandbox_status status, enum lifecycle_event event);

#endif
