/* begin - see begin.h. */
#include "lifecycle-worker/begin.h"

#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/id.h"
#include "common/base/log.h"
#include "common/domain/lifecycle.h"
#include "lifecycle-worker/call.h"
#include "lifecycle-worker/dependencies.h"
#include "lifecycle-worker/end.h"
#include "lifecycle-worker/failover.h"
#include "lifecycle-worker/finish.h"
#include "lifecycle-worker/gates.h"
#include "lifecycle-worker/worker_state.h"

enum {
    LIFETIME_GRACE_MS = 600000, /* the provider's own end comes this long after our deadline */
    UNSENT_RETRY_MS =
        500, /* until the next try of a create whose sending PostgreSQL did not record */
    RETRY_BUDGET_MS = 500 /* a retry without budget waits for one to two of these */
};

/* ---- the call ----------------------------------------------------------------------------- */

/*
 * Records that a create goes out now: the worker that follows a crash must know when. A create that
 * goes out soon after its claim, as nearly all do, was recorded by the claim. Unless the time is
 * known to be recorded, the create must not go out: the job is given back.
 */
static bool mark_create_sending(struct flight *flight)
{
    struct error err = ERROR_INIT;
    bool ours = false; /* false = the lease is over; the finish finds that, too */
    if (clock_mono_ms() - flight->began_ms < FLIGHT_CREATE_SENT_SLACK_MS) {
        return true;
    }
    if (store_create_sending(flight->worker->store, flight_job(flight)->id,
                             flight_job(flight)->lease_token, &ours, &err) < 0) {
        dependencies_store_failed(flight->worker, &err);
        ours = false;
    }
    if (!ours) {
        end_released(flight, UNSENT_RETRY_MS); /* the provider has seen nothing of it */
    }
    return ours;
}

static int64_t bounded_lifetime_ms(const struct provider *provider, int64_t timeout_ms)
{
    int64_t longest_ms = provider->ops->max_lifetime_ms((struct provider *)provider);
    int64_t lifetime_ms = timeout_ms + LIFETIME_GRACE_MS;
    return lifetime_ms < longest_ms ? lifetime_ms : longest_ms;
}

/* The lifetime to ask the provider for, from now. */
static int64_t wanted_lifetime_ms(const struct flight *flight, const struct provider *provider)
{
    const struct sandbox *box = flight_sandbox(flight);
    int64_t now = call_now_ms(flight);
    int64_t timeout_ms = box->timeout_ms;
    if (flight_job(flight)->op == JOB_TIMEOUT && !flight->job.params.extend_provider) {
        timeout_ms = flight->job.params.timeout_ms;
        if (flight->job.params.only_extend && box->expires_at_ms - now > timeout_ms) {
            timeout_ms = box->expires_at_ms - now;
        }
    } else if (flight_job(flight)->op == JOB_RESUME && flight->job.params.timeout_ms > 0) {
        timeout_ms = flight->job.params.timeout_ms;
    } else if (flight_job(flight)->op == JOB_TIMEOUT) {
        timeout_ms = box->expires_at_ms > now ? box->expires_at_ms - now : 0;
    } else if (box->timeout_mode == TIMEOUT_ABSOLUTE && box->expires_at_ms > 0) {
        timeout_ms = box->expires_at_ms > now ? box->expires_at_ms - now
                                              : flight->worker->config->idle_timeout_s * 1000;
    }
    return bounded_lifetime_ms(provider, timeout_ms);
}

static enum provider_op provider_op_of(enum job_op op)
{
    switch (op) {
    case JOB_CREATE:
        return PROVIDER_CREATE;
    case JOB_RESUME:
        return PROVIDER_RESUME;
    case JOB_PAUSE:
        return PROVIDER_PAUSE;
    case JOB_DELETE:
        return PROVIDER_DELETE;
    case JOB_TIMEOUT:
        return PROVIDER_TIMEOUT;
    case JOB_RECONCILE:
    case JOB_OP_COUNT:
        break;
    }
    return PROVIDER_GET;
}

/*
 * True: only look for what an earlier attempt may have made. A provider that refuses a name twice
 * allows to repeat the create under its name, which is quicker; but a create that may fail over is
 * settled first.
 */
static bool settles_first(const struct flight *flight, const struct provider *provider)
{
    enum { REPEATS_MAX = 2 };
    return flight->call.op == PROVIDER_CREATE && flight->job.claimed.create_maybe_sent &&
           (!provider->ops->create_by_name ||
            (failover_is_possible(flight) && flight_job(flight)->attempt > REPEATS_MAX));
}

static void begin_call(struct flight *flight, struct gate *gate)
{
    struct worker *worker = flight->worker;
    const struct sandbox *box = flight_sandbox(flight);
    struct provider_call *call = &flight->call;
    call_init(flight, provider_op_of(flight_job(flight)->op));
    call->sandbox_id = box->id;
    call->job_id = flight_job(flight)->id;
    call->provider_sandbox_id = box->provider_sandbox_id;
    call->template_id = box->template_id[0] != '\0'
                            ? box->template_id
                            : gate->provider->ops->default_template(gate->provider);
    call->timeout_ms = wanted_lifetime_ms(flight, gate->provider);
    call->metadata_json = box->metadata_json;
    call->envs = flight->job.params.envs;
    call->network = flight->job.params.network;
    call->no_internet = flight->job.params.no_internet;
    call->maybe_sent = call->op == PROVIDER_CREATE
                           ? flight->job.claimed.create_maybe_sent
                           : box->provider_sandbox_id[0] == '\0' && box->create_sent_at_ms > 0;
    if (call->maybe_sent) {
        int64_t sent_ms = flight_create_sent_before_ms(flight);
        call->settle_until_ms = sent_ms + worker->config->settle_ms;
        call->unproven_until_ms = sent_ms + worker->config->settle_unproven_ms;
    }
    call->settle_only = settles_first(flight, gate->provider);
    flight->gate_op = (int)flight_job(flight)->op;
    flight->on_once = mark_create_sending;
    flight->on_end = end_of_call;
    call_begin(flight, gate);
}

/* ---- deciding a claimed job --------------------------------------------------------------- */

static bool deadline_passed(const struct flight *flight)
{
    const struct job *job = flight_job(flight);
    return job->deadline_ms > 0 && job->attempt <= 1 && job->op != JOB_DELETE &&
           !flight->job.claimed.took_over && !flight->job.claimed.create_maybe_sent &&
           flight->claimed_at_ms > job->deadline_ms;
}

/* True when the job needs a call; else the flight is finished. */
static bool begin_effect(struct flight *flight)
{
    const struct job *job = flight_job(flight);
    const struct sandbox *box = flight_sandbox(flight);
    enum sandbox_status before = flight->job.claimed.status_before;
    char text[128];
    switch (lifecycle_next(before, (enum lifecycle_event)(LIFECYCLE_START + (int)job->op)).effect) {
    case LIFECYCLE_CALL:
        break;
    case LIFECYCLE_ALREADY:
        if (job->op == JOB_TIMEOUT && !flight->job.params.extend_provider) {
            end_set_timeout(flight, 0);
        }
        finish_with(flight, JOB_STATE_DONE, OUTCOME_OK, NULL);
        return false;
    case LIFECYCLE_REJECT:
    case LIFECYCLE_IMPOSSIBLE:
    case LIFECYCLE_SETTLE:
    default:
        snprintf(text, sizeof(text), "%s is not possible: the sandbox is %s", job_op_name(job->op),
                 sandbox_status_name(before));
        finish_with(flight, JOB_STATE_FAILED, OUTCOME_PERMANENT, text);
        return false;
    }
    if (box->provider_sandbox_id[0] != '\0' || job->op == JOB_CREATE ||
        (box->create_sent_at_ms > 0 && (job->op == JOB_DELETE || job->op == JOB_RECONCILE))) {
        return true;
    }
    if (job->op == JOB_DELETE || job->op == JOB_RECONCILE) {
        end_done(flight); /* no create was ever sent: the provider has nothing to delete */
    } else {
        end_failed(flight, JOB_STATE_FAILED, OUTCOME_PERMANENT,
                   "the sandbox has no counterpart at the provider");
    }
    return false;
}

/* True for a new attempt after a failure; false after a wait, a poll or a failover. */
static bool is_retry(const struct job *job)
{
    return job->attempt > 1 &&
           (job->outcome == OUTCOME_TRANSIENT || job->outcome == OUTCOME_AMBIGUOUS ||
            job->outcome == OUTCOME_CAPACITY);
}

static void decide(struct flight *flight)
{
    struct worker *worker = flight->worker;
    const struct job *job = flight_job(flight);
    struct error err = ERROR_INIT;
    finish_init(flight);
    if (flight->job.claimed.deadline_moved) {
        finish_with(flight, JOB_STATE_SUPERSEDED, OUTCOME_OK, NULL);
        return;
    }
    if (job->crashes >= worker->policy.max_crashes && job->op == JOB_DELETE) {
        /* a delete is never given up, or the sandbox would live on; but it waits between crashes */
        log_event(LOG_ERROR, "job.delete_kills_workers", LOG_I("crashes", job->crashes),
                  LOG_I("delay_ms", worker->policy.cap_ms));
        end_released(flight, worker->policy.cap_ms);
        return;
    }
    if (job->crashes >= worker->policy.max_crashes) {
        end_failed(flight, JOB_STATE_DEAD, OUTCOME_TRANSIENT,
                   "workers died or stalled on this job too often");
        return;
    }
    if (job->outcome == OUTCOME_PERMANENT && job->attempt > job->max_attempts &&
        job->op != JOB_DELETE) {
        end_failed(flight, JOB_STATE_DEAD, OUTCOME_PERMANENT,
                   "the database refuses what becomes of this job");
        return;
    }
    if (job_params_parse(job->params_json, &flight->job.params, &err) != 0) {
        end_failed(flight, JOB_STATE_FAILED, OUTCOME_PERMANENT, err.message);
        return;
    }
    if (deadline_passed(flight)) {
        end_failed(flight, JOB_STATE_FAILED, OUTCOME_TRANSIENT, "not begun before its deadline");
        return;
    }
    if (!begin_effect(flight)) {
        return;
    }
    struct gate *gate = gates_find(worker, flight_sandbox(flight)->provider);
    if (gate == NULL) {
        struct provider_step step = {.verdict = PROVIDER_FAILED, .outcome = OUTCOME_TRANSIENT};
        snprintf(step.error, sizeof(step.error), "provider %s is not configured on this worker",
                 flight_sandbox(flight)->provider);
        log_event(LOG_ERROR, "provider.unknown",
                  LOG_S("provider", flight_sandbox(flight)->provider));
        end_unsuccessful(flight, &step);
        return;
    }
    int64_t blocked = gate_blocked_ms(gate, clock_mono_ms());
    if (blocked > 0 && failover_when_blocked(flight, gate, blocked)) {
        return;
    }
    if (blocked > 0) {
        end_released(flight, blocked + id_random_below(250));
        return;
    }
    if (!gate_take_attempt(gate, &worker->gate_policy, clock_mono_ms(), is_retry(job))) {
        end_released(flight, RETRY_BUDGET_MS + id_random_below(RETRY_BUDGET_MS));
        return;
    }
    begin_call(flight, gate);
}

void begin_job(struct flight *flight)
{
    const struct job *job = flight_job(flight);
    struct worker *worker = flight->worker;
    flight_log_context(flight);
    log_event(LOG_DEBUG, "job.claimed", LOG_S("op", job_op_name(job->op)),
              LOG_I("attempt", job->attempt), LOG_I("lease_token", job->lease_token),
              LOG_B("took_over", flight->job.claimed.took_over));
    worker->counters.claimed++;
    worker->counters.took_over += flight->job.claimed.took_over;
    decide(flight);
    log_context_clear();
}
