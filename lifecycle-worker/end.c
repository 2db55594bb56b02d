/* end - see end.h. */
#include "lifecycle-worker/end.h"

#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/id.h"
#include "common/base/json.h"
#include "common/base/log.h"
#include "common/domain/absence.h"
#include "common/domain/lifecycle.h"
#include "lifecycle-worker/call.h"
#include "lifecycle-worker/failover.h"
#include "lifecycle-worker/finish.h"
#include "lifecycle-worker/gates.h"
#include "lifecycle-worker/worker_state.h"

enum { EVIDENCE_MS = 60000 }; /* a sweep's evidence about a sandbox counts this long */

static int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* The backend of the sandbox's row; its gate was found before the call. */
static struct provider *provider_of(const struct flight *flight)
{
    return gates_find(flight->worker, flight_sandbox(flight)->provider)->provider;
}

/* ---- attempts without success ------------------------------------------------------------- */

void end_released(struct flight *flight, int64_t delay_ms)
{
    struct store_finish *finish = &flight->job.finish;
    const struct job *job = flight_job(flight);
    call_leave_gate(flight, GATE_VERDICT_NONE);
    finish_init(flight);
    finish->refund_attempt = true;
    finish->delay_ms = delay_ms;
    finish->release = delay_ms == 0;
    /* the row keeps why the job is tried again */
    finish_with(flight, JOB_STATE_RETRY_WAIT, job->outcome, job->error);
    flight->worker->counters.released++;
}

void end_failed(struct flight *flight, enum job_state state, enum outcome outcome,
                const char *error)
{
    struct lifecycle_step step =
        lifecycle_next(flight_sandbox(flight)->status,
                       (enum lifecycle_event)(LIFECYCLE_FAILED + (int)flight_job(flight)->op));
    if (step.effect == LIFECYCLE_SETTLE) {
        finish_status(flight, step.next, outcome_name(outcome));
    }
    finish_with(flight, state, outcome, error);
}

void end_unsuccessful(struct flight *flight, const struct provider_step *step)
{
    struct worker *worker = flight->worker;
    const struct job *job = flight_job(flight);
    struct retry_decision decision =
        retry_decide(&worker->policy, job->op, step->outcome, job->attempt, job->max_attempts,
                     step->retry_after_ms, id_random_below(UINT32_MAX));
    finish_init(flight);
    flight->job.finish.provider_http_status = step->http_status;
    finish_create_sent(flight, decision.clears_sent && !step->may_exist);
    if (decision.hold_ms > 0) {
        gates_hold(worker, flight_sandbox(flight)->provider, decision.hold_ms, step->outcome);
    }
    if (failover_when_failed(flight, step, &decision)) {
        return;
    }
    if (decision.state == JOB_STATE_RETRY_WAIT) {
        flight->job.finish.delay_ms = decision.delay_ms;
        flight->job.finish.refund_attempt = decision.refund_attempt;
        finish_with(flight, JOB_STATE_RETRY_WAIT, step->outcome, step->error);
    } else {
        end_failed(flight, decision.state, step->outcome, step->error);
    }
}

/* ---- calls that succeeded ----------------------------------------------------------------- */

/* Why a sandbox stopped: the caller's reason, else the origin of the job. */
static const char *reason_of(const struct flight *flight)
{
    if (flight->job.params.reason[0] != '\0') {
        return flight->job.params.reason;
    }
    if (strcmp(flight_job(flight)->origin, "deadline") == 0) {
        return "timeout";
    }
    if (strcmp(flight_job(flight)->origin, "lifetime") == 0) {
        return "provider_lifetime";
    }
    return flight_job(flight)->origin;
}

static int64_t margin_ms(const struct flight *flight, const struct provider *provider)
{
    int64_t tenth = provider->ops->max_lifetime_ms((struct provider *)provider) / 10;
    return min_i64(flight->worker->config->lifetime_margin_ms, tenth);
}

/* The end that the provider reported, cut to the longest life it gives any sandbox. */
static int64_t believed_end_ms(const struct flight *flight, struct provider *provider)
{
    return min_i64(flight->call.result.expires_at_ms,
                   call_now_ms(flight) + provider->ops->max_lifetime_ms(provider));
}

/* The provider's own end of the sandbox: as it reported, else as the request asked for. */
static int64_t provider_end_ms(const struct flight *flight)
{
    return flight->call.result.expires_at_ms > 0 ? believed_end_ms(flight, provider_of(flight))
                                                 : flight->sent_at_ms + flight->call.timeout_ms;
}

static const char *first_text(const char *a, const char *b)
{
    return a[0] != '\0' ? a : b;
}

static void set_expires(struct flight *flight, int64_t at_ms, enum timeout_mode mode,
                        int64_t timeout_ms, enum on_timeout on_timeout)
{
    struct store_finish *finish = &flight->job.finish;
    finish->set |= STORE_SET_EXPIRES;
    finish->values.expires_at_ms = at_ms;
    finish->values.timeout_mode = mode;
    finish->values.timeout_ms = timeout_ms;
    finish->values.on_timeout = on_timeout;
}

static enum on_timeout wanted_on_timeout(const struct flight *flight)
{
    const struct job_params *params = &flight->job.params;
    return params->has_on_timeout ? params->on_timeout : flight_sandbox(flight)->on_timeout;
}

/* The absolute deadline that starts now: the one the resume names, or that of a new sandbox, which
 * has none yet. 0 = none starts now. */
static int64_t absolute_from_start_ms(const struct flight *flight)
{
    const struct sandbox *box = flight_sandbox(flight);
    if (flight_job(flight)->op == JOB_RESUME && flight->job.params.timeout_ms > 0) {
        return flight->job.params.timeout_ms;
    }
    return box->timeout_mode == TIMEOUT_ABSOLUTE && box->expires_at_ms == 0 ? box->timeout_ms : 0;
}

/* Sets the deadline of a sandbox that has just started, at most limit_ms, where the provider's own
 * end comes too close. */
static void set_first_deadline(struct flight *flight, int64_t limit_ms)
{
    const struct sandbox *box = flight_sandbox(flight);
    int64_t now = call_now_ms(flight);
    int64_t timeout_ms = box->timeout_ms;
    enum timeout_mode mode = box->timeout_mode;
    int64_t absolute_ms = absolute_from_start_ms(flight);
    if (absolute_ms > 0) {
        set_expires(flight, min_i64(now + absolute_ms, limit_ms), TIMEOUT_ABSOLUTE, absolute_ms,
                    wanted_on_timeout(flight));
        return;
    }
    if (mode == TIMEOUT_ABSOLUTE && box->expires_at_ms > now) {
        if (box->expires_at_ms > limit_ms) {
            set_expires(flight, limit_ms, mode, timeout_ms, box->on_timeout);
        }
        return;
    }
    if (mode == TIMEOUT_ABSOLUTE) {
        /* the old deadline has passed: kept, it would stop the sandbox again at once */
        timeout_ms = flight->worker->config->idle_timeout_s * 1000;
    }
    if (mode == TIMEOUT_IDLE && now + timeout_ms <= limit_ms) {
        flight->job.finish.set |= STORE_START_IDLE;
        return;
    }
    set_expires(flight, min_i64(now + timeout_ms, limit_ms), TIMEOUT_IDLE, timeout_ms,
                box->on_timeout);
}

static void done_started(struct flight *flight)
{
    const struct sandbox *box = flight_sandbox(flight);
    const struct provider_result *result = &flight->call.result;
    struct store_finish *finish = &flight->job.finish;
    struct sandbox *values = &finish->values;
    finish->set |= STORE_SET_PROVIDER | STORE_SET_PROVIDER_EXPIRES | STORE_SET_STARTED;
    str_copy(values->provider_sandbox_id, sizeof(values->provider_sandbox_id),
             first_text(result->provider_sandbox_id, box->provider_sandbox_id));
    str_copy(values->domain, sizeof(values->domain), first_text(result->domain, box->domain));
    str_copy(values->access_token, sizeof(values->access_token),
             first_text(result->access_token, box->access_token));
    str_copy(values->traffic_token, sizeof(values->traffic_token),
             first_text(result->traffic_token, box->traffic_token));
    str_copy(values->agent_version, sizeof(values->agent_version),
             first_text(result->agent_version, box->agent_version));
    /* the provider counts its longest life from the start: assume an early start, not a late one */
    values->started_at_ms = result->started_at_ms > 0 ? result->started_at_ms : flight->sent_at_ms;
    values->provider_expires_at_ms = provider_end_ms(flight);
    set_first_deadline(flight,
                       values->provider_expires_at_ms - margin_ms(flight, provider_of(flight)));
}

static void timeout_result(struct flight *flight, int64_t expires_at_ms, bool clamped,
                           enum on_timeout on_timeout)
{
    cJSON *root = cJSON_CreateObject();
    json_add_int64(root, "expires_at_ms", expires_at_ms);
    cJSON_AddBoolToObject(root, "clamped", clamped);
    cJSON_AddStringToObject(root, "on_timeout", on_timeout_name(on_timeout));
    struct strbuf text;
    strbuf_init(&text, 1024);
    json_print(root, &text);
    cJSON_Delete(root);
    flight->job.result_json = strbuf_take(&text);
    flight->job.finish.result_json = flight->job.result_json;
}

/* limit_ms 0 = the provider sets no limit now (paused). */
void end_set_timeout(struct flight *flight, int64_t limit_ms)
{
    const struct job_params *params = &flight->job.params;
    const struct sandbox *box = flight_sandbox(flight);
    enum on_timeout on_timeout = wanted_on_timeout(flight);
    /* counts from the time of the request, by the database's clock, which also checks it */
    int64_t asked = flight_job(flight)->created_at_ms + params->timeout_ms;
    bool clamped = limit_ms > 0 && asked > limit_ms;
    int64_t kept = clamped ? limit_ms : asked;
    if (params->only_extend && box->expires_at_ms >= kept) {
        timeout_result(flight, box->expires_at_ms, false, box->on_timeout);
        return;
    }
    set_expires(flight, kept, TIMEOUT_ABSOLUTE, params->timeout_ms, on_timeout);
    timeout_result(flight, kept, clamped, on_timeout);
}

void end_done(struct flight *flight)
{
    struct lifecycle_step step =
        lifecycle_next(flight_sandbox(flight)->status,
                       (enum lifecycle_event)(LIFECYCLE_DONE + (int)flight_job(flight)->op));
    if (step.effect == LIFECYCLE_SETTLE) {
        finish_status(flight, step.next, reason_of(flight));
    }
    finish_with(flight, JOB_STATE_DONE, OUTCOME_OK, NULL);
}

/* Moves the row to the state that the provider reports. True when it was in another. */
static bool apply_seen(struct flight *flight, enum provider_state state)
{
    enum lifecycle_event event;
    const char *reason = "seen_at_provider";
    switch (state) {
    case PROVIDER_STATE_RUNNING:
        event = LIFECYCLE_SEEN_RUNNING;
        break;
    case PROVIDER_STATE_PAUSED:
        event = LIFECYCLE_SEEN_PAUSED;
        break;
    case PROVIDER_STATE_ABSENT:
        event = LIFECYCLE_SEEN_ABSENT;
        /* an earlier delete failed for good, and the sandbox is gone all the same */
        reason = flight_sandbox(flight)->status == SANDBOX_DELETING ? "deleted" : "provider_lost";
        break;
    case PROVIDER_STATE_UNKNOWN:
    default:
        return false;
    }
    struct lifecycle_step step = lifecycle_next(flight_sandbox(flight)->status, event);
    if (step.effect != LIFECYCLE_SETTLE) {
        return false;
    }
    finish_status(flight, step.next, reason);
    if (flight->job.finish.change_status && state == PROVIDER_STATE_ABSENT &&
        flight_sandbox(flight)->status != SANDBOX_DELETING) {
        flight->job.finish.set |= STORE_SET_LOST;
    }
    if (flight->job.finish.change_status) {
        struct gate_counts *counts =
            &gates_find(flight->worker, flight_sandbox(flight)->provider)->counts;
        counts->lost += state == PROVIDER_STATE_ABSENT;
        counts->corrected += state != PROVIDER_STATE_ABSENT;
    }
    return flight->job.finish.change_status;
}

/*
 * The provider itself does not know the sandbox, and nobody asked for its end. The answer may be
 * wrong: the row becomes missing, the job looks once more, and then a caller is told to try again.
 * Only a look that a sweep has asked for ends the row, by what its list says as well.
 */
static void end_absent(struct flight *flight)
{
    const struct sandbox *box = flight_sandbox(flight);
    const struct store_claimed *claimed = &flight->job.claimed;
    struct worker *worker = flight->worker;
    bool fresh = claimed->claimed_at_ms - flight_job(flight)->created_at_ms <= EVIDENCE_MS;
    int64_t missing_ms =
        box->missing_since_ms > 0 ? claimed->claimed_at_ms - box->missing_since_ms : -1;
    switch (absence_judge(&worker->absence, missing_ms,
                          fresh ? flight->job.params.absent : ABSENCE_NO_LIST)) {
    case ABSENCE_LOOK_AGAIN:
        flight->job.finish.set |= STORE_SET_MISSING;
        flight->job.finish.refund_attempt = true;
        flight->job.finish.delay_ms = worker->config->look_again_ms;
        finish_with(flight, JOB_STATE_RETRY_WAIT, OUTCOME_SNOOZE,
                    "the provider does not know the sandbox; looking again");
        break;
    case ABSENCE_MISSING:
        flight->job.finish.set |= STORE_SET_MISSING;
        if (flight_job(flight)->op == JOB_RECONCILE) {
            finish_with(flight, JOB_STATE_DONE, OUTCOME_OK, NULL);
        } else {
            end_failed(flight, JOB_STATE_FAILED, OUTCOME_TRANSIENT,
                       "the provider does not know the sandbox at the moment");
        }
        break;
    case ABSENCE_LOST:
        log_event(LOG_ERROR, "sandbox.lost",
                  LOG_S("provider", gates_label(flight->worker, box->provider)),
                  LOG_S("provider_sandbox_id", box->provider_sandbox_id),
                  LOG_I("missing_ms", missing_ms),
                  LOG_S("list", absence_evidence_name(flight->job.params.absent)));
        apply_seen(flight, PROVIDER_STATE_ABSENT);
        finish_with(flight, JOB_STATE_DONE, OUTCOME_OK, NULL);
        break;
    }
}

/* Restores the tokens of a row that was given back after they had been removed. */
static void keep_tokens(struct flight *flight)
{
    const struct sandbox *box = flight_sandbox(flight);
    const struct provider_result *result = &flight->call.result;
    struct sandbox *values = &flight->job.finish.values;
    if (box->access_token[0] != '\0' || result->access_token[0] == '\0') {
        return;
    }
    flight->job.finish.set |= STORE_SET_PROVIDER;
    str_copy(values->provider_sandbox_id, sizeof(values->provider_sandbox_id),
             box->provider_sandbox_id);
    str_copy(values->domain, sizeof(values->domain), first_text(result->domain, box->domain));
    str_copy(values->access_token, sizeof(values->access_token), result->access_token);
    str_copy(values->traffic_token, sizeof(values->traffic_token),
             first_text(result->traffic_token, box->traffic_token));
}

static void done_reconcile(struct flight *flight)
{
    const struct provider_result *result = &flight->call.result;
    bool changed = apply_seen(flight, result->state);
    if (result->state != PROVIDER_STATE_ABSENT &&
        flight_sandbox(flight)->provider_sandbox_id[0] != '\0') {
        keep_tokens(flight);
    }
    if (result->state == PROVIDER_STATE_RUNNING && result->expires_at_ms > 0) {
        flight->job.finish.set |= STORE_SET_PROVIDER_EXPIRES;
        flight->job.finish.values.provider_expires_at_ms =
            believed_end_ms(flight, provider_of(flight));
    }
    if (changed && flight->job.finish.to == SANDBOX_RUNNING) {
        flight->job.finish.set |= STORE_SET_STARTED; /* the longest life counts from the start */
        flight->job.finish.values.started_at_ms = result->started_at_ms;
    }
    if (changed) {
        log_event(LOG_WARN, "sandbox.corrected",
                  LOG_S("from", sandbox_status_name(flight->job.finish.from)),
                  LOG_S("to", sandbox_status_name(flight->job.finish.to)));
    }
    finish_with(flight, JOB_STATE_DONE, OUTCOME_OK, NULL);
}

/* No earlier attempt of this create had an effect. Creates at another provider, or here by a new
 * attempt, which is marked as its own. */
static void done_settled(struct flight *flight)
{
    if (failover_when_settled(flight)) {
        return;
    }
    flight->job.finish.values.create_sent_at_ms = 0;
    flight->job.finish.refund_attempt = true;
    finish_with(flight, JOB_STATE_RETRY_WAIT, OUTCOME_AMBIGUOUS, NULL);
}

/* The provider did what the job wanted, or reports that the sandbox is in another state. */
static void end_successful(struct flight *flight, const struct provider_step *step)
{
    const struct job *job = flight_job(flight);
    const struct provider_result *result = &flight->call.result;
    finish_init(flight);
    flight->job.finish.provider_http_status = step->http_status;
    if (flight_sandbox(flight)->missing_since_ms > 0 &&
        (result->state == PROVIDER_STATE_RUNNING || result->state == PROVIDER_STATE_PAUSED)) {
        flight->job.finish.set |= STORE_SET_SEEN;
    }
    if (result->state == PROVIDER_STATE_ABSENT && job->op != JOB_DELETE && job->op != JOB_CREATE &&
        flight_sandbox(flight)->status != SANDBOX_DELETING) {
        end_absent(flight);
        return;
    }
    if (job->op == JOB_RECONCILE) {
        done_reconcile(flight);
        return;
    }
    if (job->op == JOB_CREATE && result->state == PROVIDER_STATE_ABSENT) {
        done_settled(flight);
        return;
    }
    switch (job->op) {
    case JOB_CREATE:
    case JOB_RESUME:
        gates_find(flight->worker, flight_sandbox(flight)->provider)->counts.adopted +=
            result->adopted;
        done_started(flight);
        end_done(flight);
        break;
    case JOB_PAUSE:
        if (flight->job.params.ends_deadline &&
            flight_sandbox(flight)->timeout_mode == TIMEOUT_ABSOLUTE) {
            const struct sandbox *box = flight_sandbox(flight);
            set_expires(flight, 0, TIMEOUT_IDLE, box->timeout_ms, box->on_timeout);
        }
        end_done(flight);
        break;
    case JOB_DELETE:
        end_done(flight);
        break;
    case JOB_TIMEOUT:
        if (result->state == PROVIDER_STATE_PAUSED) {
            apply_seen(flight, result->state);
            if (!flight->job.params.extend_provider) {
                end_set_timeout(flight, 0);
            }
        } else {
            int64_t end = provider_end_ms(flight);
            flight->job.finish.set |= STORE_SET_PROVIDER_EXPIRES;
            flight->job.finish.values.provider_expires_at_ms = end;
            if (!flight->job.params.extend_provider) {
                end_set_timeout(flight, end - margin_ms(flight, provider_of(flight)));
            }
        }
        finish_with(flight, JOB_STATE_DONE, OUTCOME_OK, NULL);
        break;
    case JOB_RECONCILE:
    case JOB_OP_COUNT:
        break;
    }
}

void end_of_call(struct flight *flight, const struct provider_step *step, struct gate *gate)
{
    enum outcome outcome = step->verdict == PROVIDER_DONE ? OUTCOME_OK : step->outcome;
    failover_record(flight, gate, outcome, step->looked);
    if (step->verdict == PROVIDER_DONE) {
        end_successful(flight, step);
    } else {
        end_unsuccessful(flight, step);
    }
}
