/* lifecycle - the table, see lifecycle.h. */
#include "common/domain/lifecycle.h"

#include <stddef.h>

#define CREATING SANDBOX_CREATING
#define RUNNING  SANDBOX_RUNNING
#define PAUSING  SANDBOX_PAUSING
#define PAUSED   SANDBOX_PAUSED
#define RESUMING SANDBOX_RESUMING
#define DELETING SANDBOX_DELETING
#define DELETED  SANDBOX_DELETED
#define FAILED   SANDBOX_FAILED

#define CALL(state)                                                                                \
    {                                                                                              \
        state, LIFECYCLE_CALL                                                                      \
    }
#define SETTLE(state)                                                                              \
    {                                                                                              \
        state, LIFECYCLE_SETTLE                                                                    \
    }
#define ALREADY(state)                                                                             \
    {                                                                                              \
        state, LIFECYCLE_ALREADY                                                                   \
    }
#define REJECT(state)                                                                              \
    {                                                                                              \
        state, LIFECYCLE_REJECT                                                                    \
    }
#define START(op) [LIFECYCLE_START + (op)]
#define DONE(op)  [LIFECYCLE_DONE + (op)]
#define FAIL(op)  [LIFECYCLE_FAILED + (op)]

/* What is not listed is LIFECYCLE_IMPOSSIBLE. */
static const struct lifecycle_step table[SANDBOX_STATUS_COUNT][LIFECYCLE_EVENT_COUNT] =
    {
        [CREATING] =
            {
                START(JOB_CREATE) = CALL(CREATING),
                START(JOB_RESUME) = REJECT(CREATING),
                START(JOB_PAUSE) = REJECT(CREATING),
                START(JOB_DELETE) = CALL(DELETING),
                START(JOB_TIMEOUT) = REJECT(CREATING),
                START(JOB_RECONCILE) = CALL(CREATING),
                DONE(JOB_CREATE) = SETTLE(RUNNING),
                FAIL(JOB_CREATE) = SETTLE(FAILED),
                DONE(JOB_RECONCILE) = SETTLE(CREATING),
                FAIL(JOB_RECONCILE) = SETTLE(CREATING),
                [LIFECYCLE_SEEN_ABSENT] = SETTLE(DELETED),
            },
        [RUNNING] =
            {
                START(JOB_CREATE) = ALREADY(RUNNING),
                START(JOB_RESUME) = ALREADY(RUNNING),
                START(JOB_PAUSE) = CALL(PAUSING),
                START(JOB_DELETE) = CALL(DELETING),
                START(JOB_TIMEOUT) = CALL(RUNNING),
                START(JOB_RECONCILE) = CALL(RUNNING),
                DONE(JOB_TIMEOUT) = SETTLE(RUNNING),
                FAIL(JOB_TIMEOUT) = SETTLE(RUNNING),
                DONE(JOB_RECONCILE) = SETTLE(RUNNING),
                FAIL(JOB_RECONCILE) = SETTLE(RUNNING),
                [LIFECYCLE_SEEN_RUNNING] = SETTLE(RUNNING),
                [LIFECYCLE_SEEN_PAUSED] = SETTLE(PAUSED),
                [LIFECYCLE_SEEN_ABSENT] = SETTLE(DELETED),
            },
        [PAUSING] =
            {
                START(JOB_CREATE) = REJECT(PAUSING),
                START(JOB_RESUME) = CALL(RESUMING),
                START(JOB_PAUSE) = CALL(PAUSING),
                START(JOB_DELETE) = CALL(DELETING),
                START(JOB_TIMEOUT) = REJECT(PAUSING),
                START(JOB_RECONCILE) = CALL(PAUSING),
                DONE(JOB_PAUSE) = SETTLE(PAUSED),
                FAIL(JOB_PAUSE) = SETTLE(RUNNING),
                DONE(JOB_RECONCILE) = SETTLE(PAUSING),
                FAIL(JOB_RECONCILE) = SETTLE(PAUSING),
                [LIFECYCLE_SEEN_RUNNING] = SETTLE(RUNNING),
                [LIFECYCLE_SEEN_PAUSED] = SETTLE(PAUSED),
                [LIFECYCLE_SEEN_ABSENT] = SETTLE(DELETED),
            },
        [PAUSED] =
            {
                START(JOB_CREATE) = ALREADY(PAUSED),
                START(JOB_RESUME) = CALL(RESUMING),
                START(JOB_PAUSE) = ALREADY(PAUSED),
                START(JOB_DELETE) = CALL(DELETING),
                START(JOB_TIMEOUT) = ALREADY(PAUSED),
                START(JOB_RECONCILE) = CALL(PAUSED),
                DONE(JOB_TIMEOUT) = SETTLE(PAUSED),
                FAIL(JOB_TIMEOUT) = SETTLE(PAUSED),
                DONE(JOB_RECONCILE) = SETTLE(PAUSED),
                FAIL(JOB_RECONCILE) = SETTLE(PAUSED),
                [LIFECYCLE_SEEN_RUNNING] = SETTLE(RUNNING),
                [LIFECYCLE_SEEN_PAUSED] = SETTLE(PAUSED),
                [LIFECYCLE_SEEN_ABSENT] = SETTLE(DELETED),
            },
        [RESUMING] =
            {
                START(JOB_CREATE) = REJECT(RESUMING),
                START(JOB_RESUME) = CALL(RESUMING),
                START(JOB_PAUSE) = REJECT(RESUMING),
                START(JOB_DELETE) = CALL(DELETING),
                START(JOB_TIMEOUT) = REJECT(RESUMING),
                START(JOB_RECONCILE) = CALL(RESUMING),
                DONE(JOB_RESUME) = SETTLE(RUNNING),
                FAIL(JOB_RESUME) = SETTLE(PAUSED),
                DONE(JOB_RECONCILE) = SETTLE(RESUMING),
                FAIL(JOB_RECONCILE) = SETTLE(RESUMING),
                [LIFECYCLE_SEEN_RUNNING] = SETTLE(RUNNING),
                [LIFECYCLE_SEEN_PAUSED] = SETTLE(PAUSED),
                [LIFECYCLE_SEEN_ABSENT] = SETTLE(DELETED),
            },
        [DELETING] =
            {
                START(JOB_CREATE) = REJECT(DELETING),
                START(JOB_RESUME) = REJECT(DELETING),
                START(JOB_PAUSE) = REJECT(DELETING),
                START(JOB_DELETE) = CALL(DELETING),
                START(JOB_TIMEOUT) = REJECT(DELETING),
                START(JOB_RECONCILE) = CALL(DELETING),
                DONE(JOB_DELETE) = SETTLE(DELETED),
                FAIL(JOB_DELETE) = SETTLE(DELETING),
                DONE(JOB_RECONCILE) = SETTLE(DELETING),
                FAIL(JOB_RECONCILE) = SETTLE(DELETING),
                [LIFECYCLE_SEEN_ABSENT] = SETTLE(DELETED),
            },
        [DELETED] =
            {
                START(JOB_CREATE) = REJECT(DELETED),
                START(JOB_RESUME) = REJECT(DELETED),
                START(JOB_PAUSE) = REJECT(DELETED),
                START(JOB_DELETE) = ALREADY(DELETED),
                START(JOB_TIMEOUT) = REJECT(DELETED),
                START(JOB_RECONCILE) = ALREADY(DELETED),
            },
        [FAILED] =
            {
                START(JOB_CREATE) = REJECT(FAILED),
                START(JOB_RESUME) = REJECT(FAILED),
                START(JOB_PAUSE) = REJECT(FAILED),
                START(JOB_DELETE) = CALL(DELETING),
                START(JOB_TIMEOUT) = REJECT(FAILED),
                START(JOB_RECONCILE) = ALREADY(FAILED),
                [LIFECYCLE_SEEN_ABSENT] = SETTLE(FAILED),
            },
};

struct lifecycle_step lifecycle_next(enum sandbox_status status, enum lifecycle_event event)
{
    return table[status][event];
}
