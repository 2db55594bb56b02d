/*
 * drive - takes a provider call from its first request to its end.
 *
 * Owns: building the call from a job, stepping its machine, its requests and waits, the bound of
 * the attempt, the killing of copies. Does not own: what an end means (apply.c), the wire
 * (common/provider). Threads: the worker's one. Failure: none; every way a call can end is handed
 * to apply.c.
 */
#include "lifecycle-worker/drive.h"

#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/crashpoint.h"
#include "common/base/log.h"
#include "lifecycle-worker/failover.h"
#include "lifecycle-worker/start.h"

#define LIFETIME_GRACE_MS 600000 /* the provider's own end lies this far behind the deadline */
#define REQUEST_MIN_MS    100    /* a request with less time left is not worth beginning */
#define UNSENT_RETRY_MS   500    /* a create whose sending could not be written is tried again */

static void flight_step(struct flight *flight, const struct http_response *last);

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

static int gate_op(const struct flight *flight)
{
    return flight->kind == FLIGHT_KILL    ? (int)GATE_OP_KILL
           : flight->kind == FLIGHT_SWEEP ? (int)GATE_OP_SWEEP
                                          : (int)job_of(flight)->op;
}

static void on_answer(void *arg, const struct http_response *response)
{
    struct flight *flight = arg;
    gate_count_request(flight->gate, gate_op(flight), clock_mono_ms() - flight->request_began_ms);
    flight_step(flight, response);
}

static void enter_gate(struct flight *flight, struct gate *gate)
{
    gate_enter(gate);
    flight->gate = gate;
    flight->entered_ms = clock_mono_ms();
    flight->phase = FLIGHT_CALLING;
}

/* The call is over: counted, and the place in the gate given back. */
static void leave_gate(struct flight *flight, const struct provider_step *step)
{
    enum outcome outcome = step->verdict == PROVIDER_DONE ? OUTCOME_OK : step->outcome;
    struct gate_counts *counts = flight->gate != NULL ? &flight->gate->counts : NULL;
    if (counts != NULL) {
        counts->ended[gate_op(flight)][outcome]++;
        counts->orphans += flight->call.result.extras_killed;
    }
    failover_note(flight, outcome, step->looked);
    flight_leave_gate(flight, gate_told_by(outcome, step->http_status));
}

/* A copy that nobody's row names. */
static void kill_step_done(struct flight *flight, const struct provider_step *step)
{
    enum { KILL_TRIES_MAX = 6 };
    struct worker *worker = flight->worker;
    bool gone = step->verdict == PROVIDER_DONE;
    if (gone && flight->kill_orphan) {
        reconcile_killed(worker, flight);
    } else if (gone) {
        worker->counters.copies_killed++;
        log_event(LOG_WARN, "provider.copy_killed", LOG_S("provider_sandbox_id", flight->kill_id));
    } else if (++flight->kill_tries < KILL_TRIES_MAX && !service_draining()) {
        flight->not_before_ms = clock_mono_ms() + ((int64_t)500 << flight->kill_tries);
        flight->phase = FLIGHT_WAITING;
        return;
    } else {
        log_event(LOG_ERROR, "provider.copy_left", LOG_S("provider_sandbox_id", flight->kill_id),
                  LOG_S("error", step->error));
    }
    inflight_release(&worker->inflight, flight);
}

void drive_end(struct flight *flight, const struct provider_step *step)
{
    struct worker *worker = flight->worker;
    const struct job *job = job_of(flight);
    log_context(job->request_id, job->id, job->sandbox_id);
    leave_gate(flight, step);
    if (flight->kind == FLIGHT_KILL) {
        kill_step_done(flight, step);
    } else if (flight->kind == FLIGHT_SWEEP) {
        reconcile_listed(worker, flight, step);
    } else if (step->verdict == PROVIDER_DONE) {
        flight_end_done(flight, step);
    } else {
        flight_end_outcome(flight, step);
    }
    log_context_clear();
}

static void flight_ended(struct flight *flight, const struct provider_step *step)
{
    if (!start_begin(flight, step)) {
        drive_end(flight, step);
    }
}

/* Time passes at the provider; a wait beyond the attempt is taken up again through the queue. */
static void flight_wait(struct flight *flight, struct provider_step *step)
{
    int64_t now = clock_mono_ms();
    if (now + step->retry_after_ms + REQUEST_MIN_MS < flight->attempt_end_ms) {
        flight->not_before_ms = now + step->retry_after_ms;
        flight->phase = FLIGHT_WAITING;
        return;
    }
    step->verdict = PROVIDER_FAILED;
    step->outcome = OUTCOME_SNOOZE;
    flight_ended(flight, step);
}

/* Sends, once the provider's hold is over, what the call has come to. */
static void flight_hold(struct flight *flight, const struct http_request *request, int64_t until_ms)
{
    if (until_ms + REQUEST_MIN_MS < flight->attempt_end_ms) {
        flight->held = *request;
        flight->has_held = true;
        flight->not_before_ms = until_ms;
        flight->phase = FLIGHT_WAITING;
        return;
    }
    struct provider_step step = {.verdict = PROVIDER_FAILED, .outcome = OUTCOME_SNOOZE};
    struct http_request dropped = *request;
    http_request_done(&dropped);
    step.retry_after_ms = until_ms - clock_mono_ms();
    str_copy(step.error, sizeof(step.error), "the provider is on hold");
    flight_leave_gate(flight, GATE_TOLD_NOTHING);
    flight_ended(flight, &step);
}

/* The attempt is over before the request could go out. Takes it. */
static void flight_run_out(struct flight *flight, struct http_request *request)
{
    /* what went out before may have had its effect, for a create at least */
    bool unsure =
        flight->call.op == PROVIDER_CREATE && (flight->sent || flight->claimed.create_maybe_sent);
    struct provider_step step = {.verdict = PROVIDER_FAILED,
                                 .may_exist = unsure,
                                 .outcome = unsure ? OUTCOME_AMBIGUOUS : OUTCOME_TRANSIENT};
    str_copy(step.error, sizeof(step.error), "the attempt ran out of time");
    http_request_done(request);
    flight_ended(flight, &step);
}

/*
 * A create goes out now, and should this worker die, the next one must know when. The claim has
 * written that time for one that goes out at once, which nearly all do. False when it is not known
 * to be written: then nothing may go out.
 */
static bool mark_create_sending(struct flight *flight)
{
    struct error err = ERROR_INIT;
    bool ours;
    if (clock_mono_ms() - flight->began_ms < CREATE_SENT_SLACK_MS) {
        return true;
    }
    if (store_create_sending(flight->worker->store, job_of(flight)->id,
                             flight->claimed.job.lease_token, &ours, &err) < 0) {
        worker_note_store(flight->worker, &err);
        return false;
    }
    return ours; /* else the lease is over, as the finish will find */
}

/* Takes the request. */
static void flight_send(struct flight *flight, struct http_request *request)
{
    struct worker *worker = flight->worker;
    if (flight->gate->hold_until_ms > clock_mono_ms()) {
        flight_hold(flight, request, flight->gate->hold_until_ms);
        return;
    }
    if (request->once && !mark_create_sending(flight)) {
        http_request_done(request);
        apply_release(worker, flight, UNSENT_RETRY_MS); /* nothing of this was the provider's */
        return;
    }
    int64_t now = clock_mono_ms();
    int64_t left = flight->attempt_end_ms - now;
    if (left < REQUEST_MIN_MS) {
        flight_run_out(flight, request);
        return;
    }
    if (request->timeout_ms <= 0 || request->timeout_ms > left) {
        request->timeout_ms = left;
    }
    flight->sent = true;
    flight->sent_at_ms = flight_now_ms(flight);
    flight->request_began_ms = now;
    if (request->once) {
        flight->create_sent_ms = now;
    }
    worker->counters.requests++;
    if (flight->kind == FLIGHT_JOB) {
        CRASHPOINT(worker_sending);
    }
    http_multi_send(worker->http, request, on_answer, flight);
    http_request_done(request);
}

static void flight_step(struct flight *flight, const struct http_response *last)
{
    struct provider *provider = flight_provider(flight);
    struct provider_step step;
    struct http_request request;
    memset(&step, 0, sizeof(step));
    http_request_init(&request);
    provider_call_tick(&flight->call, flight_now_ms(flight), last);
    provider->ops->step(provider, &flight->call, last, &request, &step);
    if (flight->kind == FLIGHT_SWEEP && !reconcile_page(flight->worker, flight, &step)) {
        http_request_done(&request);
        return;
    }
    if (step.verdict == PROVIDER_SEND) {
        flight_send(flight, &request);
        return;
    }
    http_request_done(&request);
    if (step.verdict == PROVIDER_WAIT) {
        flight_wait(flight, &step);
    } else {
        flight_ended(flight, &step);
    }
}

static int64_t lifetime_ms(const struct provider *provider, int64_t timeout_ms)
{
    return min_i64(provider->ops->max_lifetime_ms((struct provider *)provider),
                   timeout_ms + LIFETIME_GRACE_MS);
}

/* How long the provider is to keep the sandbox, from now. */
static int64_t wanted_lifetime_ms(const struct flight *flight, const struct provider *provider)
{
    const struct sandbox *box = box_of(flight);
    int64_t now = flight_now_ms(flight);
    int64_t timeout_ms = box->timeout_ms;
    if (job_of(flight)->op == JOB_TIMEOUT && !flight->params.extend_provider) {
        timeout_ms = flight->params.timeout_ms;
        if (flight->params.only_extend && box->expires_at_ms - now > timeout_ms) {
            timeout_ms = box->expires_at_ms - now;
        }
    } else if (job_of(flight)->op == JOB_RESUME && flight->params.timeout_ms > 0) {
        timeout_ms = flight->params.timeout_ms;
    } else if (job_of(flight)->op == JOB_TIMEOUT) {
        timeout_ms = box->expires_at_ms > now ? box->expires_at_ms - now : 0;
    } else if (box->timeout_mode == TIMEOUT_ABSOLUTE && box->expires_at_ms > 0) {
        timeout_ms = box->expires_at_ms > now ? box->expires_at_ms - now
                                              : flight->worker->config->idle_timeout_s * 1000;
    }
    return lifetime_ms(provider, timeout_ms);
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
 * Where an earlier attempt may have made the sandbox, only look. Where a name can be taken once, a
 * create may be repeated under it, which is quicker; but one that is to go elsewhere is settled.
 */
static bool settles_first(const struct flight *flight, const struct provider *provider)
{
    enum { REPEATS_MAX = 2 };
    return flight->call.op == PROVIDER_CREATE && flight->claimed.create_maybe_sent &&
           (!provider->ops->create_by_name ||
            (failover_possible(flight) && job_of(flight)->attempt > REPEATS_MAX));
}

void drive_begin(struct flight *flight, struct gate *gate)
{
    struct worker *worker = flight->worker;
    const struct sandbox *box = box_of(flight);
    struct provider_call *call = &flight->call;
    provider_call_init(call);
    flight->call_active = true;
    call->op = provider_op_of(job_of(flight)->op);
    call->deployment_id = worker->deployment_id;
    call->sandbox_id = box->id;
    call->job_id = job_of(flight)->id;
    call->provider_sandbox_id = box->provider_sandbox_id;
    call->template_id = box->template_id[0] != '\0'
                            ? box->template_id
                            : gate->provider->ops->default_template(gate->provider);
    call->timeout_ms = wanted_lifetime_ms(flight, gate->provider);
    call->metadata_json = box->metadata_json;
    call->envs = flight->params.envs;
    call->network = flight->params.network;
    call->no_internet = flight->params.no_internet;
    call->maybe_sent = call->op == PROVIDER_CREATE
                           ? flight->claimed.create_maybe_sent
                           : box->provider_sandbox_id[0] == '\0' && box->create_sent_at_ms > 0;
    if (call->maybe_sent) {
        call->settle_until_ms = flight_sent_before_ms(flight) + worker->config->settle_ms;
    }
    call->settle_only = settles_first(flight, gate->provider);
    drive_call(flight, gate);
}

void drive_call(struct flight *flight, struct gate *gate)
{
    enter_gate(flight, gate);
    flight_step(flight, NULL);
}

void apply_kill(struct worker *worker, struct flight *flight)
{
    struct gate *gate = worker_gate(worker, box_of(flight)->provider);
    int64_t blocked = gate_blocked_ms(gate, clock_mono_ms());
    if (blocked > 0) {
        flight->not_before_ms = clock_mono_ms() + blocked;
        flight->phase = FLIGHT_WAITING;
        return;
    }
    if (flight->call_active) {
        provider_call_done(&flight->call);
    }
    provider_call_init(&flight->call);
    flight->call_active = true;
    flight->call.op = PROVIDER_DELETE;
    flight->call.deployment_id = worker->deployment_id;
    flight->call.sandbox_id = box_of(flight)->id;
    flight->call.job_id = job_of(flight)->id;
    flight->call.provider_sandbox_id = flight->kill_id;
    flight->call.template_id = "";
    flight->attempt_end_ms = clock_mono_ms() + worker->config->attempt_ms;
    drive_call(flight, gate);
}

void apply_wake(struct worker *worker, struct flight *flight)
{
    if (flight->kind == FLIGHT_SWEEP && flight->gate == NULL) {
        reconcile_rows(worker, flight);
        return;
    }
    if (flight->gate == NULL) {
        apply_kill(worker, flight);
        return;
    }
    flight->phase = FLIGHT_CALLING;
    if (flight->has_held) {
        flight->has_held = false;
        flight_send(flight, &flight->held);
    } else {
        flight_step(flight, NULL);
    }
}
