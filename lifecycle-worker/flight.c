/* flight - see flight.h. */
#include "lifecycle-worker/flight.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"

static void free_call(struct flight *flight)
{
    if (flight->call_active) {
        provider_call_done(&flight->call);
        flight->call_active = false;
    }
    if (flight->has_held) {
        http_request_done(&flight->held);
        flight->has_held = false;
    }
}

static void free_job(struct flight_job *job)
{
    job_params_done(&job->params);
    job_done(&job->claimed.job);
    sandbox_done(&job->claimed.sandbox);
    free(job->result_json);
}

void flight_free(struct flight *flight)
{
    free_call(flight);
    if (flight->kind == FLIGHT_JOB) {
        free_job(&flight->job);
    } else if (flight->kind == FLIGHT_SWEEP) {
        compare_done(&flight->sweep.compare);
    }
    memset(flight, 0, sizeof(*flight));
}

void flight_become_kill(struct flight *flight, const struct flight_kill *kill)
{
    free_call(flight); /* it points into the job */
    free_job(&flight->job);
    flight->kind = FLIGHT_KILL;
    flight->kill = *kill;
}

void flight_log_context(const struct flight *flight)
{
    const struct job *job = &flight->job.claimed.job;
    switch (flight->kind) {
    case FLIGHT_JOB:
        log_context(job->request_id, job->id, job->sandbox_id);
        break;
    case FLIGHT_KILL:
        log_context(flight->kill.request_id, flight->kill.job_id, flight->kill.sandbox_id);
        break;
    case FLIGHT_SWEEP:
        log_context(NULL, flight->sweep.id, NULL);
        break;
    }
}

const struct job *flight_job(const struct flight *flight)
{
    return &flight->job.claimed.job;
}

const struct sandbox *flight_sandbox(const struct flight *flight)
{
    return &flight->job.claimed.sandbox;
}

int64_t flight_create_sent_before_ms(const struct flight *flight)
{
    /* a finish wrote the time to the millisecond; an attempt that was cut off had no finish */
    int64_t sent_ms = flight_sandbox(flight)->create_sent_at_ms;
    bool cut_off = flight_job(flight)->op != JOB_CREATE || flight->job.claimed.took_over;
    return sent_ms > 0 && cut_off ? sent_ms + FLIGHT_CREATE_SENT_SLACK_MS : sent_ms;
}

int64_t flight_since_ms(const struct flight *flight, int64_t at_ms)
{
    return flight->claimed_at_ms + (clock_mono_ms() - flight->began_ms) - at_ms;
}
