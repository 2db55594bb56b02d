/*
 * apply - what a claimed job asks for, and what the provider's answer means for the row.
 *
 * Owns: job -> provider call, outcome -> lifecycle_next + retry_decide -> struct store_finish.
 * Does not own: the call itself (drive.c), committing (settle.c). Threads: the worker's one.
 * Failure: none; every way a call can end becomes a finish.
 */
#include <stdio.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/id.h"
#include "common/base/json.h"
#include "common/base/log.h"
#include "common/domain/absence.h"
#include "common/domain/lifecycle.h"
#include "lifecycle-worker/drive.h"
#include "lifecycle-worker/failover.h"

#define EVIDENCE_MS     60000 /* how long what a list said of a sandbox counts, from its sweep */
#define RETRY_BUDGET_MS 500   /* a retry without budget waits this long, or twice it */

static int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static const struct job *job_of(const struct flight *flight)
{
    return &flight->claimed.job;
}

static const struct sandbox *box_of(const struct flight *flight)
{
    return &flight->claimed.sandbox;
}

/* ---- finishes ----------------------------------------------------------------------------- */

/* One line an operator can act on, when a provider begins or ceases to refuse our key. */
static void log_key(const struct gate *gate, bool was_refused)
{
    if (gate->key_refused && !was_refused) {
        log_event(
            LOG_ERROR, "provider.key_refused", LOG_S("provider", gate->name),
            LOG_S("consequence",
                  "its jobs wait, none is given up; creates that may go elsewhere do"),
            LOG_S("remedy", "set a valid API key for it and restart the workers and gateways"));
    } else if (!gate->key_refused && was_refused) {
        log_event(LOG_INFO, "provider.key_accepted", LOG_S("provider", gate->name));
    }
}

void flight_leave_gate(struct flight *flight, enum gate_told told)
{
    struct gate *gate = flight->gate;
    struct worker *worker = flight->worker;
    if (gate == NULL) {
        return;
    }
    flight->gate = NULL;
    enum gate_state before = gate->state;
    bool key_refused = gate->key_refused;
    if (gate_leave(gate, &worker->gate_policy, clock_mono_ms(), flight->entered_ms, told)) {
        log_event(LOG_WARN, "provider.breaker_open", LOG_S("provider", gate->name),
                  LOG_I("open_ms", worker->gate_policy.open_ms));
    } else if (before != GATE_CLOSED && gate->state == GATE_CLOSED) {
        log_event(LOG_INFO, "provider.breaker_closed", LOG_S("provider", gate->name));
    }
    log_key(gate, key_refused);
}

/* Only a finish tells to the millisecond; an attempt that was cut off had none. */
int64_t flight_sent_before_ms(const struct flight *flight)
{
    int64_t sent_ms = box_of(flight)->create_sent_at_ms;
    bool cut_off = job_of(flight)->op != JOB_CREATE || flight->claimed.took_over;
    return sent_ms > 0 && cut_off ? sent_ms + CREATE_SENT_SLACK_MS : sent_ms;
}

/* What the next attempt of a create must believe. Each one that went out has its own time to
 * appear, so the last counts. */
static void finish_create_sent(struct flight *flight, bool without_effect)
{
    if (job_of(flight)->op != JOB_CREATE) {
        return;
    }
    flight->finish.set |= STORE_SET_SENT;
    flight->finish.values.create_sent_at_ms =
        flight->create_sent_ms == 0 || without_effect
            ? flight_sent_before_ms(flight)
            : flight->claimed.claimed_at_ms + (flight->create_sent_ms - flight->began_ms);
}

void flight_finish_init(struct flight *flight)
{
    struct store_finish *finish = &flight->finish;
    memset(finish, 0, sizeof(*finish));
    str_copy(finish->job_id, sizeof(finish->job_id), job_of(flight)->id);
    finish->lease_token = job_of(flight)->lease_token;
    str_copy(finish->sandbox_id, sizeof(finish->sandbox_id), box_of(flight)->id);
    finish->from = finish->to = box_of(flight)->status;
    finish_create_sent(flight, false);
}

void flight_finish(struct flight *flight, enum job_state state, enum outcome outcome,
                   const char *error)
{
    struct store_finish *finish = &flight->finish;
    finish->state = state;
    finish->outcome = outcome;
    if (error != NULL) {
        str_copy(finish->error, sizeof(finish->error), error);
    }
    flight->phase = FLIGHT_FINISHED;
}

static void finish_status(struct flight *flight, enum sandbox_status to, const char *reason)
{
    struct store_finish *finish = &flight->finish;
    finish->to = to;
    finish->change_status = finish->to != finish->from;
    if (reason != NULL) {
        str_copy(finish->reason, sizeof(finish->reason), reason);
    }
    if (finish->change_status && (to == SANDBOX_PAUSED || to == SANDBOX_DELETED)) {
        finish->set |= STORE_SET_STOPPED;
    }
}

/* Why a sandbox came to rest: what the caller said, else who asked. */
static const char *reason_of(const struct flight *flight)
{
    if (flight->params.reason[0] != '\0') {
        return flight->params.reason;
    }
    if (strcmp(job_of(flight)->origin, "deadline") == 0) {
        return "timeout";
    }
    if (strcmp(job_of(flight)->origin, "lifetime") == 0) {
        return "provider_lifetime";
    }
    return job_of(flight)->origin;
}

void apply_release(struct worker *worker, struct flight *flight, int64_t delay_ms)
{
    flight_leave_gate(flight, GATE_TOLD_NOTHING);
    flight_finish_init(flight);
    flight->finish.refund_attempt = true;
    flight->finish.delay_ms = delay_ms;
    flight->finish.release = delay_ms == 0;
    /* why it is tried again is still what it was */
    flight_finish(flight, JOB_STATE_RETRY_WAIT, job_of(flight)->outcome, job_of(flight)->error);
    worker->counters.released++;
}

static void end_failed(struct flight *flight, enum job_state state, enum outcome outcome,
                       const char *error)
{
    struct lifecycle_step step = lifecycle_next(
        box_of(flight)->status, (enum lifecycle_event)(LIFECYCLE_FAILED + (int)job_of(flight)->op));
    if (step.effect == LIFECYCLE_SETTLE) {
        finish_status(flight, step.next, outcome_name(outcome));
    }
    flight_finish(flight, state, outcome, error);
}

void apply_hold(struct worker *worker, const char *provider, int64_t hold_ms, enum outcome outcome)
{
    struct gate *gate = worker_gate(worker, provider);
    if (gate == NULL) {
        return;
    }
    int64_t until = clock_mono_ms() + hold_ms;
    if (until <= gate->hold_until_ms) {
        return;
    }
    gate->hold_until_ms = until;
    gate->counts.holds++;
    log_event(LOG_WARN, "provider.hold", LOG_S("provider", provider),
              LOG_S("outcome", outcome_name(outcome)), LOG_I("hold_ms", hold_ms));
    struct error err = ERROR_INIT;
    if (queue_hold_set(worker->queue, provider, hold_ms, outcome_name(outcome), &err) != 0) {
        worker_note_queue(worker, &err); /* the other workers learn it from the provider */
    }
}

void flight_end_outcome(struct flight *flight, const struct provider_step *step)
{
    struct worker *worker = flight->worker;
    const struct job *job = job_of(flight);
    struct retry_decision decision =
        retry_decide(&worker->policy, job->op, step->outcome, job->attempt, job->max_attempts,
                     step->retry_after_ms, id_random_below(UINT32_MAX));
    flight_finish_init(flight);
    flight->finish.provider_http_status = step->http_status;
    finish_create_sent(flight, decision.clears_sent && !step->may_exist);
    if (decision.hold_ms > 0) {
        apply_hold(worker, box_of(flight)->provider, decision.hold_ms, step->outcome);
    }
    if (failover_outcome(flight, step, &decision)) {
        return;
    }
    if (decision.state == JOB_STATE_RETRY_WAIT) {
        flight->finish.delay_ms = decision.delay_ms;
        flight->finish.refund_attempt = decision.refund_attempt;
        flight_finish(flight, JOB_STATE_RETRY_WAIT, step->outcome, step->error);
    } else {
        end_failed(flight, decision.state, step->outcome, step->error);
    }
}

/* ---- what was achieved -------------------------------------------------------------------- */

static int64_t margin_ms(const struct flight *flight, const struct provider *provider)
{
    int64_t tenth = provider->ops->max_lifetime_ms((struct provider *)provider) / 10;
    return min_i64(flight->worker->config->lifetime_margin_ms, tenth);
}

struct provider *flight_provider(const struct flight *flight)
{
    struct gate *gate = worker_gate(flight->worker, box_of(flight)->provider);
    return gate == NULL ? NULL : gate->provider;
}

/* An end that the provider told, which lies no further away than it lets any sandbox live. */
static int64_t believed_end_ms(const struct flight *flight, struct provider *provider)
{
    return min_i64(flight->call.result.expires_at_ms,
                   flight_now_ms(flight) + provider->ops->max_lifetime_ms(provider));
}

/* The provider's own end of the sandbox, as it told, else as it was asked for. */
static int64_t provider_end_ms(const struct flight *flight)
{
    return flight->call.result.expires_at_ms > 0 ? believed_end_ms(flight, flight_provider(flight))
                                                 : flight->sent_at_ms + flight->call.timeout_ms;
}

static const char *first_text(const char *a, const char *b)
{
    return a[0] != '\0' ? a : b;
}

static void set_expires(struct flight *flight, int64_t at_ms, enum timeout_mode mode,
                        int64_t timeout_ms, enum on_timeout on_timeout)
{
    struct store_finish *finish = &flight->finish;
    finish->set |= STORE_SET_EXPIRES;
    finish->values.expires_at_ms = at_ms;
    finish->values.timeout_mode = mode;
    finish->values.timeout_ms = timeout_ms;
    finish->values.on_timeout = on_timeout;
}

static enum on_timeout wanted_on_timeout(const struct flight *flight)
{
    const struct job_params *params = &flight->params;
    return params->has_on_timeout ? params->on_timeout : box_of(flight)->on_timeout;
}

/* The absolute deadline that counts from this start: the one that the resume names, or that of a
 * new sandbox, which has none yet. 0 = there is no such. */
static int64_t absolute_from_start_ms(const struct flight *flight)
{
    const struct sandbox *box = box_of(flight);
    if (job_of(flight)->op == JOB_RESUME && flight->params.timeout_ms > 0) {
        return flight->params.timeout_ms;
    }
    return box->timeout_mode == TIMEOUT_ABSOLUTE && box->expires_at_ms == 0 ? box->timeout_ms : 0;
}

/* The deadline of a sandbox that has just come up, no later than the provider lets it live. */
static void set_first_deadline(struct flight *flight, int64_t limit_ms)
{
    const struct sandbox *box = box_of(flight);
    int64_t now = flight_now_ms(flight);
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
        /* that deadline has done its work; kept, it would stop the sandbox again at once */
        timeout_ms = flight->worker->config->idle_timeout_s * 1000;
    }
    if (mode == TIMEOUT_IDLE && now + timeout_ms <= limit_ms) {
        flight->finish.set |= STORE_START_IDLE;
        return;
    }
    set_expires(flight, min_i64(now + timeout_ms, limit_ms), TIMEOUT_IDLE, timeout_ms,
                box->on_timeout);
}

static void done_started(struct flight *flight)
{
    const struct sandbox *box = box_of(flight);
    const struct provider_result *result = &flight->call.result;
    struct store_finish *finish = &flight->finish;
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
    /* the provider counts its longest life from the start: rather a moment early than late */
    values->started_at_ms = result->started_at_ms > 0 ? result->started_at_ms : flight->sent_at_ms;
    values->provider_expires_at_ms = provider_end_ms(flight);
    set_first_deadline(flight,
                       values->provider_expires_at_ms - margin_ms(flight, flight_provider(flight)));
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
    flight->result_json = strbuf_take(&text);
    flight->finish.result_json = flight->result_json;
}

/* schedule-timeout; limit_ms 0 = nothing at the provider limits it now (paused). */
static void done_timeout(struct flight *flight, int64_t limit_ms)
{
    const struct job_params *params = &flight->params;
    const struct sandbox *box = box_of(flight);
    enum on_timeout on_timeout = wanted_on_timeout(flight);
    /* counted from when it was asked, by the database's clock, which also keeps it */
    int64_t asked = job_of(flight)->created_at_ms + params->timeout_ms;
    bool clamped = limit_ms > 0 && asked > limit_ms;
    int64_t kept = clamped ? limit_ms : asked;
    if (params->only_extend && box->expires_at_ms >= kept) {
        timeout_result(flight, box->expires_at_ms, false, box->on_timeout);
        return;
    }
    set_expires(flight, kept, TIMEOUT_ABSOLUTE, params->timeout_ms, on_timeout);
    timeout_result(flight, kept, clamped, on_timeout);
}

static void end_done(struct flight *flight)
{
    struct lifecycle_step step = lifecycle_next(
        box_of(flight)->status, (enum lifecycle_event)(LIFECYCLE_DONE + (int)job_of(flight)->op));
    if (step.effect == LIFECYCLE_SETTLE) {
        finish_status(flight, step.next, reason_of(flight));
    }
    flight_finish(flight, JOB_STATE_DONE, OUTCOME_OK, NULL);
}

/* The provider says what the sandbox is. True when that is not what the row says. */
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
        /* a delete that was refused for good has come true */
        reason = box_of(flight)->status == SANDBOX_DELETING ? "deleted" : "provider_lost";
        break;
    case PROVIDER_STATE_UNKNOWN:
    default:
        return false;
    }
    struct lifecycle_step step = lifecycle_next(box_of(flight)->status, event);
    if (step.effect != LIFECYCLE_SETTLE) {
        return false;
    }
    finish_status(flight, step.next, reason);
    if (flight->finish.change_status && state == PROVIDER_STATE_ABSENT &&
        box_of(flight)->status != SANDBOX_DELETING) {
        flight->finish.set |= STORE_SET_LOST;
    }
    if (flight->finish.change_status) {
        struct gate_counts *counts = &worker_gate(flight->worker, box_of(flight)->provider)->counts;
        counts->lost += state == PROVIDER_STATE_ABSENT;
        counts->corrected += state != PROVIDER_STATE_ABSENT;
    }
    return flight->finish.change_status;
}

/*
 * The provider itself does not know the sandbox, and nobody asked for its end. The answer may be
 * wrong: the row becomes missing, the job looks once more, and then a caller is told to try again.
 * Only a look that a sweep has asked for ends the row, by what its list says as well.
 */
static void end_absent(struct flight *flight)
{
    const struct sandbox *box = box_of(flight);
    const struct store_claimed *claimed = &flight->claimed;
    struct worker *worker = flight->worker;
    bool fresh = claimed->claimed_at_ms - job_of(flight)->created_at_ms <= EVIDENCE_MS;
    int64_t missing_ms =
        box->missing_since_ms > 0 ? claimed->claimed_at_ms - box->missing_since_ms : -1;
    switch (absence_judge(&worker->absence, missing_ms,
                          fresh ? flight->params.absent : ABSENCE_NO_LIST)) {
    case ABSENCE_LOOK_AGAIN:
        flight->finish.set |= STORE_SET_MISSING;
        flight->finish.refund_attempt = true;
        flight->finish.delay_ms = worker->config->look_again_ms;
        flight_finish(flight, JOB_STATE_RETRY_WAIT, OUTCOME_SNOOZE,
                      "the provider does not know the sandbox; looking again");
        break;
    case ABSENCE_MISSING:
        flight->finish.set |= STORE_SET_MISSING;
        if (job_of(flight)->op == JOB_RECONCILE) {
            flight_finish(flight, JOB_STATE_DONE, OUTCOME_OK, NULL);
        } else {
            end_failed(flight, JOB_STATE_FAILED, OUTCOME_TRANSIENT,
                       "the provider does not know the sandbox at the moment");
        }
        break;
    case ABSENCE_LOST:
        log_event(LOG_ERROR, "sandbox.lost", LOG_S("provider", box->provider),
                  LOG_S("provider_sandbox_id", box->provider_sandbox_id),
                  LOG_I("missing_ms", missing_ms),
                  LOG_S("list", absence_evidence_name(flight->params.absent)));
        apply_seen(flight, PROVIDER_STATE_ABSENT);
        flight_finish(flight, JOB_STATE_DONE, OUTCOME_OK, NULL);
        break;
    }
}

/* A row that was given back after its tokens had been removed gets them again. */
static void keep_tokens(struct flight *flight)
{
    const struct sandbox *box = box_of(flight);
    const struct provider_result *result = &flight->call.result;
    struct sandbox *values = &flight->finish.values;
    if (box->access_token[0] != '\0' || result->access_token[0] == '\0') {
        return;
    }
    flight->finish.set |= STORE_SET_PROVIDER;
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
    if (result->state != PROVIDER_STATE_ABSENT && box_of(flight)->provider_sandbox_id[0] != '\0') {
        keep_tokens(flight);
    }
    if (result->state == PROVIDER_STATE_RUNNING && result->expires_at_ms > 0) {
        flight->finish.set |= STORE_SET_PROVIDER_EXPIRES;
        flight->finish.values.provider_expires_at_ms =
            believed_end_ms(flight, flight_provider(flight));
    }
    if (changed && flight->finish.to == SANDBOX_RUNNING) {
        flight->finish.set |= STORE_SET_STARTED; /* its longest life counts from then */
        flight->finish.values.started_at_ms = result->started_at_ms;
    }
    if (changed) {
        log_event(LOG_WARN, "sandbox.corrected",
                  LOG_S("from", sandbox_status_name(flight->finish.from)),
                  LOG_S("to", sandbox_status_name(flight->finish.to)));
    }
    flight_finish(flight, JOB_STATE_DONE, OUTCOME_OK, NULL);
}

/* No earlier attempt of this create had an effect: it is made elsewhere, or here after all, by an
 * attempt that is marked as its own. */
static void done_settled(struct flight *flight)
{
    if (failover_settled(flight)) {
        return;
    }
    flight->finish.values.create_sent_at_ms = 0;
    flight->finish.refund_attempt = true;
    flight_finish(flight, JOB_STATE_RETRY_WAIT, OUTCOME_AMBIGUOUS, NULL);
}

/* The call is through: the provider did what was asked, or says why that has no object. */
void flight_end_done(struct flight *flight, const struct provider_step *step)
{
    const struct job *job = job_of(flight);
    const struct provider_result *result = &flight->call.result;
    flight_finish_init(flight);
    flight->finish.provider_http_status = step->http_status;
    if (box_of(flight)->missing_since_ms > 0 &&
        (result->state == PROVIDER_STATE_RUNNING || result->state == PROVIDER_STATE_PAUSED)) {
        flight->finish.set |= STORE_SET_SEEN;
    }
    if (result->state == PROVIDER_STATE_ABSENT && job->op != JOB_DELETE && job->op != JOB_CREATE &&
        box_of(flight)->status != SANDBOX_DELETING) {
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
        worker_gate(flight->worker, box_of(flight)->provider)->counts.adopted += result->adopted;
        done_started(flight);
        end_done(flight);
        break;
    case JOB_PAUSE:
        if (flight->params.ends_deadline && box_of(flight)->timeout_mode == TIMEOUT_ABSOLUTE) {
            const struct sandbox *box = box_of(flight);
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
            if (!flight->params.extend_provider) {
                done_timeout(flight, 0);
            }
        } else {
            int64_t end = provider_end_ms(flight);
            flight->finish.set |= STORE_SET_PROVIDER_EXPIRES;
            flight->finish.values.provider_expires_at_ms = end;
            if (!flight->params.extend_provider) {
                done_timeout(flight, end - margin_ms(flight, flight_provider(flight)));
            }
        }
        flight_finish(flight, JOB_STATE_DONE, OUTCOME_OK, NULL);
        break;
    case JOB_RECONCILE:
    case JOB_OP_COUNT:
        break;
    }
}

/* ---- deciding a claimed job --------------------------------------------------------------- */

static bool deadline_passed(const struct flight *flight)
{
    const struct job *job = job_of(flight);
    return job->deadline_ms > 0 && job->attempt <= 1 && job->op != JOB_DELETE &&
           !flight->claimed.took_over && !flight->claimed.create_maybe_sent &&
           flight->claimed.claimed_at_ms > job->deadline_ms;
}

/* True when a call is needed; else the flight is finished. */
static bool begin_effect(struct flight *flight)
{
    const struct job *job = job_of(flight);
    const struct sandbox *box = box_of(flight);
    enum sandbox_status before = flight->claimed.status_before;
    char text[128];
    switch (lifecycle_next(before, (enum lifecycle_event)(LIFECYCLE_START + (int)job->op)).effect) {
    case LIFECYCLE_CALL:
        break;
    case LIFECYCLE_ALREADY:
        if (job->op == JOB_TIMEOUT && !flight->params.extend_provider) {
            done_timeout(flight, 0);
        }
        flight_finish(flight, JOB_STATE_DONE, OUTCOME_OK, NULL);
        return false;
    case LIFECYCLE_REJECT:
    case LIFECYCLE_IMPOSSIBLE:
    case LIFECYCLE_SETTLE:
    default:
        snprintf(text, sizeof(text), "%s is not possible: the sandbox is %s", job_op_name(job->op),
                 sandbox_status_name(before));
        flight_finish(flight, JOB_STATE_FAILED, OUTCOME_PERMANENT, text);
        return false;
    }
    if (box->provider_sandbox_id[0] != '\0' || job->op == JOB_CREATE ||
        (box->create_sent_at_ms > 0 && (job->op == JOB_DELETE || job->op == JOB_RECONCILE))) {
        return true;
    }
    if (job->op == JOB_DELETE || job->op == JOB_RECONCILE) {
        end_done(flight); /* no create was ever sent: there is nothing at the provider */
    } else {
        end_failed(flight, JOB_STATE_FAILED, OUTCOME_PERMANENT,
                   "the sandbox has no counterpart at the provider");
    }
    return false;
}

/* Is it tried again because it failed, rather than waited, polled or moved? */
static bool is_retry(const struct job *job)
{
    return job->attempt > 1 &&
           (job->outcome == OUTCOME_TRANSIENT || job->outcome == OUTCOME_AMBIGUOUS ||
            job->outcome == OUTCOME_CAPACITY);
}

static void begin(struct worker *worker, struct flight *flight)
{
    const struct job *job = job_of(flight);
    struct error err = ERROR_INIT;
    flight_finish_init(flight);
    if (flight->claimed.deadline_moved) {
        flight_finish(flight, JOB_STATE_SUPERSEDED, OUTCOME_OK, NULL);
        return;
    }
    if (job->crashes >= worker->policy.max_crashes && job->op == JOB_DELETE) {
        /* never given up, or the sandbox would live on; but not at the speed at which workers die
         */
        log_event(LOG_ERROR, "job.delete_kills_workers", LOG_I("crashes", job->crashes),
                  LOG_I("delay_ms", worker->policy.cap_ms));
        apply_release(worker, flight, worker->policy.cap_ms);
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
    if (job_params_parse(job->params_json, &flight->params, &err) != 0) {
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
    struct gate *gate = worker_gate(worker, box_of(flight)->provider);
    if (gate == NULL) {
        struct provider_step step = {.verdict = PROVIDER_FAILED, .outcome = OUTCOME_TRANSIENT};
        snprintf(step.error, sizeof(step.error), "provider %s is not configured on this worker",
                 box_of(flight)->provider);
        log_event(LOG_ERROR, "provider.unknown", LOG_S("provider", box_of(flight)->provider));
        flight_end_outcome(flight, &step);
        return;
    }
    int64_t blocked = gate_blocked_ms(gate, clock_mono_ms());
    if (blocked > 0 && failover_blocked(flight, gate, blocked)) {
        return;
    }
    if (blocked > 0) {
        apply_release(worker, flight, blocked + id_random_below(250));
        return;
    }
    if (!gate_take_attempt(gate, &worker->gate_policy, clock_mono_ms(), is_retry(job))) {
        apply_release(worker, flight, RETRY_BUDGET_MS + id_random_below(RETRY_BUDGET_MS));
        return;
    }
    drive_begin(flight, gate);
}

void apply_begin(struct worker *worker, struct flight *flight)
{
    const struct job *job = job_of(flight);
    log_context(job->request_id, job->id, job->sandbox_id);
    log_event(LOG_DEBUG, "job.claimed", LOG_S("op", job_op_name(job->op)),
              LOG_I("attempt", job->attempt), LOG_I("lease_token", job->lease_token),
              LOG_B("took_over", flight->claimed.took_over));
    worker->counters.claimed++;
    worker->counters.took_over += flight->claimed.took_over;
    begin(worker, flight);
    log_context_clear();
}
