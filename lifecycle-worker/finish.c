/* finish - see finish.h. */
#include "lifecycle-worker/finish.h"

#include <string.h>

#include "common/base/alloc.h"

void finish_create_sent(struct flight *flight, bool without_effect)
{
    struct store_finish *finish = &flight->job.finish;
    if (flight_job(flight)->op != JOB_CREATE) {
        return;
    }
    finish->set |= STORE_SET_SENT;
    finish->values.create_sent_at_ms =
        flight->create_sent_ms == 0 || without_effect
            ? flight_create_sent_before_ms(flight)
            : flight->claimed_at_ms + (flight->create_sent_ms - flight->began_ms);
}

void finish_init(struct flight *flight)
{
    struct store_finish *finish = &flight->job.finish;
    memset(finish, 0, sizeof(*finish));
    str_copy(finish->job_id, sizeof(finish->job_id), flight_job(flight)->id);
    finish->lease_token = flight_job(flight)->lease_token;
    str_copy(finish->sandbox_id, sizeof(finish->sandbox_id), flight_sandbox(flight)->id);
    finish->from = finish->to = flight_sandbox(flight)->status;
    finish_create_sent(flight, false);
}

void finish_status(struct flight *flight, enum sandbox_status to, const char *reason)
{
    struct store_finish *finish = &flight->job.finish;
    finish->to = to;
    finish->change_status = finish->to != finish->from;
    if (reason != NULL) {
        str_copy(finish->reason, sizeof(finish->reason), reason);
    }
    if (finish->change_status && (to == SANDBOX_PAUSED || to == SANDBOX_DELETED)) {
        finish->set |= STORE_SET_STOPPED;
    }
}

void finish_with(struct flight *flight, enum job_state state, enum outcome outcome,
                 const char *error)
{
    struct store_finish *finish = &flight->job.finish;
    finish->state = state;
    finish->outcome = outcome;
    if (error != NULL) {
        str_copy(finish->error, sizeof(finish->error), error);
    }
    flight->phase = FLIGHT_FINISHED;
}
