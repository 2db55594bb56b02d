/*
 * retry - what a failure class means for the job. Pure; time and randomness are arguments.
 */
#ifndef DOMAIN_RETRY_H
#define DOMAIN_RETRY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/domain/types.h"

struct retry_policy {
    int64_t base_ms;          /* 1000: transient, full jitter up to base * 2^(attempt-1) */
    int64_t cap_ms;           /* 60000 */
    int64_t capacity_base_ms; /* 15000 */
    int64_t auth_hold_ms;     /* 30000 */
    int max_crashes;          /* 3: then dead (poison) */
};
extern const struct retry_policy retry_policy_default;

struct retry_decision {
    enum job_state
        state;        /* RETRY_WAIT, FAILED (told to the client) or DEAD (told to the operator) */
    int64_t delay_ms; /* RETRY_WAIT only */
    bool refund_attempt; /* the attempt does not count */
    int64_t hold_ms;     /* hold the whole provider's queue this long; 0 = no */
    bool clears_sent;    /* certainly no effect at the provider: a create need not be looked up */
};

/*
 * `attempt` counts from 1; `retry_after_ms` is the provider's (0 = none said); `random` uniform
 * 32 bits. delete never becomes FAILED by running out of attempts and never DEAD by transient
 * errors: leaving a sandbox behind costs money. Others: attempts used up -> FAILED (a create's
 * ambiguous end included only after the probe proved it absent; AMBIGUOUS itself always retries).
 */
struct retry_decision retry_decide(const struct retry_policy *policy, enum job_op op,
                                   enum outcome outcome, int attempt, int max_attempts,
                                   int64_t retry_after_ms, uint32_t random);

#endif
