/* retry - see retry.h. */
#include "common/domain/retry.h"

const struct retry_policy retry_policy_default = {
    .base_ms = 1000,
    .cap_ms = 60000,
    .capacity_base_ms = 15000,
    .auth_hold_ms = 30000,
    .max_crashes = 3,
};

/* Full jitter, but never at once: uniform in [base/2, base * 2^(attempt-1)], capped. */
static int64_t backoff_ms(int64_t base_ms, int64_t cap_ms, int attempt, uint32_t random)
{
    int64_t ceiling = base_ms;

    for (int i = 1; i < attempt && ceiling < cap_ms; i++) {
        ceiling *= 2;
    }
    if (ceiling > cap_ms) {
        ceiling = cap_ms;
    }
    return base_ms / 2 + (int64_t)random % (ceiling - base_ms / 2 + 1);
}

struct retry_decision retry_decide(const struct retry_policy *policy, enum job_op op,
                                   enum outcome outcome, int attempt, int max_attempts,
                                   int64_t retry_after_ms, uint32_t random)
{
    struct retry_decision decision = {.state = JOB_STATE_RETRY_WAIT};
    bool used_up = attempt >= max_attempts && op != JOB_DELETE;

    switch (outcome) {
    case OUTCOME_PERMANENT:
        /* a delete that is refused for good leaves a sandbox behind: an operator's matter */
        decision.state = op == JOB_DELETE ? JOB_STATE_DEAD : JOB_STATE_FAILED;
        decision.clears_sent = true;
        break;
    case OUTCOME_AUTH:
        decision.delay_ms = policy->auth_hold_ms;
        decision.hold_ms = policy->auth_hold_ms;
        decision.refund_attempt = true;
        decision.clears_sent = true;
        break;
    case OUTCOME_RATE_LIMITED:
        decision.delay_ms = retry_after_ms > 0 ? retry_after_ms : policy->base_ms;
        decision.hold_ms = decision.delay_ms;
        decision.refund_attempt = true;
        decision.clears_sent = true;
        break;
    case OUTCOME_CAPACITY:
        decision.state = used_up ? JOB_STATE_FAILED : JOB_STATE_RETRY_WAIT;
        decision.delay_ms = backoff_ms(policy->capacity_base_ms, policy->cap_ms, attempt, random);
        decision.clears_sent = true;
        break;
    case OUTCOME_TRANSIENT:
        decision.state = used_up ? JOB_STATE_FAILED : JOB_STATE_RETRY_WAIT;
        decision.delay_ms = backoff_ms(policy->base_ms, policy->cap_ms, attempt, random);
        decision.clears_sent = true;
        break;
    case OUTCOME_AMBIGUOUS:
        decision.delay_ms = backoff_ms(policy->base_ms, policy->cap_ms, attempt, random);
        break;
    case OUTCOME_SNOOZE:
        decision.delay_ms = retry_after_ms > 0 ? retry_after_ms : policy->base_ms;
        decision.refund_attempt = true;
        break;
    case OUTCOME_OK:
    case OUTCOME_COUNT:
        decision.state = JOB_STATE_DONE;
        break;
    }
    return decision;
}
