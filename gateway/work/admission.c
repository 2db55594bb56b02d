/* admission - see admission.h. */
#include "gateway/work/admission.h"

#include <stdatomic.h>
#include <stdbool.h>

/* Fewer old jobs than this are a slow sandbox or two, not an overload. */
enum { BACKLOG_MIN = 64 };

int admission_check(struct admission *admission, const struct gateway_config *config,
                    enum job_op op, struct error *err)
{
    int64_t depth = atomic_load(&admission->depth) + atomic_load(&admission->accepted);
    int64_t oldest_ms = atomic_load(&admission->oldest_ms);
    bool full;

    if (op == JOB_DELETE || op == JOB_RECONCILE) {
        return 0;
    }
    full = depth >= config->admission_max;
    if (op == JOB_CREATE) {
        full = full || depth >= config->admission_depth ||
               (depth >= BACKLOG_MIN && oldest_ms >= config->admission_age_ms);
    }
    return full ? error_set(err, ERR_OVERLOADED,
                            "%lld jobs are unfinished, the oldest waits for %lld ms",
                            (long long)depth, (long long)oldest_ms)
                : 0;
}

void admission_accepted(struct admission *admission)
{
    atomic_fetch_add(&admission->accepted, 1);
}

int64_t admission_mark(struct admission *admission)
{
    return atomic_load(&admission->accepted);
}

void admission_update(struct admission *admission, int64_t mark, int64_t depth, int64_t oldest_ms)
{
    atomic_store(&admission->oldest_ms, oldest_ms);
    atomic_store(&admission->depth, depth);
    atomic_fetch_sub(&admission->accepted, mark);
}
