/* job_error - see job_error.h. */
#include "gateway/work/job_error.h"

/* The error that the caller gets for each outcome of a failed job. */
static const enum error_code codes_of_outcome[OUTCOME_COUNT] = {
    [OUTCOME_OK] = ERR_INTERNAL,
    [OUTCOME_PERMANENT] = ERR_PROVIDER,
    [OUTCOME_AUTH] = ERR_PROVIDER,
    [OUTCOME_RATE_LIMITED] = ERR_PROVIDER_DOWN,
    [OUTCOME_CAPACITY] = ERR_PROVIDER_DOWN,
    [OUTCOME_TRANSIENT] = ERR_PROVIDER_DOWN,
    [OUTCOME_AMBIGUOUS] = ERR_PROVIDER_DOWN,
    [OUTCOME_SNOOZE] = ERR_PROVIDER_DOWN,
};

unsigned job_error_retryable_outcomes(void)
{
    unsigned outcomes = 0;

    for (int i = 0; i < OUTCOME_COUNT; i++) {
        if (error_code_http_status(codes_of_outcome[i]) == 503) {
            outcomes |= 1u << i;
        }
    }
    return outcomes;
}

int job_error_set(const struct job *job, struct error *err)
{
    const char *text = job->error[0] != '\0' ? job->error : "the job ended without success";

    if (job->state == JOB_STATE_SUPERSEDED) {
        return error_set(err, ERR_SANDBOX_NOT_FOUND, "no such sandbox");
    }
    /* the state machine refused the job, not the provider */
    if (job->outcome == OUTCOME_PERMANENT && job->provider_http_status == 0) {
        return error_set(err, ERR_CONFLICT, "%s", text);
    }
    return error_set(err, codes_of_outcome[job->outcome], "%s", text);
}
