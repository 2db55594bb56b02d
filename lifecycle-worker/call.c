/* call - see call.h. */
#include "lifecycle-worker/call.h"

#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/crashpoint.h"
#include "common/base/log.h"
#include "lifecycle-worker/start.h"
#include "lifecycle-worker/worker_state.h"

enum { REQUEST_MIN_MS = 100 }; /* a request with less time left is not begun */

static void take_step(struct flight *flight, const struct http_response *last);

int64_t call_now_ms(const struct flight *flight)
{
    return database_clock_after_ms(&flight->worker->clock, flight->claimed_at_ms);
}

/* ---- the gate ----------------------------------------------------------------------------- */

/* One line an operator can act on, when a provider begins or ceases to refuse our key. */
static void log_key(const struct gate *gate, bool was_refused)
{
    if (gate->key_refused && !was_refused) {
        log_event(
            LOG_ERROR, "provider.key_refused", LOG_S("provider", gate->provider->label),
            LOG_S("consequence",
                  "its jobs wait, none is given up; creates that may go elsewhere do"),
            LOG_S("remedy", "set a valid API key for it and restart the workers and gateways"));
    } else if (!gate->key_refused && was_refused) {
        log_event(LOG_INFO, "provider.key_accepted", LOG_S("provider", gate->provider->label));
    }
}

void call_leave_gate(struct flight *flight, enum gate_verdict verdict)
{
    struct gate *gate = flight->gate;
    const struct gate_policy *policy = &flight->worker->gate_policy;
    if (gate == NULL) {
        return;
    }
    flight->gate = NULL;
    enum gate_state before = gate->state;
    bool key_refused = gate->key_refused;
    if (gate_leave(gate, policy, clock_mono_ms(), flight->entered_ms, verdict)) {
        log_event(LOG_WARN, "provider.breaker_open", LOG_S("provider", gate->provider->label),
                  LOG_I("open_ms", policy->open_ms));
    } else if (before != GATE_CLOSED && gate->state == GATE_CLOSED) {
        log_event(LOG_INFO, "provider.breaker_closed", LOG_S("provider", gate->provider->label));
    }
    log_key(gate, key_refused);
}

/* ---- the end ------------------------------------------------------------------------------ */

static void end(struct flight *flight, const struct provider_step *step)
{
    enum outcome outcome = step->verdict == PROVIDER_DONE ? OUTCOME_OK : step->outcome;
    struct gate *gate = flight->gate;
    flight_log_context(flight);
    if (gate != NULL) {
        gate->counts.ended[flight->gate_op][outcome]++;
        gate->counts.orphans_killed += flight->call.result.extras_killed;
    }
    call_leave_gate(flight, gate_verdict_of(outcome, step->http_status));
    flight->on_end(flight, step, gate);
    log_context_clear();
}

static void on_start_answer(void *arg, const struct http_response *response)
{
    struct flight *flight = arg;
    start_answered(flight, response);
    end(flight, &flight->ended);
}

/* The machine is through; what may still follow is the start command. */
static void end_or_start(struct flight *flight, const struct provider_step *step)
{
    struct worker *worker = flight->worker;
    struct http_request request;
    http_request_init(&request);
    bool starts = start_request(flight, step, &request);
    if (starts) {
        flight->ended = *step;
        worker->counters.provider_requests++;
        http_multi_send(worker->http, &request, on_start_answer, flight);
    }
    http_request_done(&request);
    if (!starts) {
        end(flight, step);
    }
}

/* ---- waits -------------------------------------------------------------------------------- */

/* The provider needs time; a wait beyond the attempt is taken up again through the queue. */
static void wait_for_provider(struct flight *flight, struct provider_step *step)
{
    int64_t now = clock_mono_ms();
    if (now + step->retry_after_ms + REQUEST_MIN_MS < flight->attempt_end_ms) {
        flight->not_before_ms = now + step->retry_after_ms;
        flight->phase = FLIGHT_WAITING;
        return;
    }
    step->verdict = PROVIDER_FAILED;
    step->outcome = OUTCOME_SNOOZE;
    end_or_start(flight, step);
}

/* Keeps the request until the provider's hold is over. Takes it. */
static void wait_for_hold(struct flight *flight, struct http_request *request, int64_t until_ms)
{
    if (until_ms + REQUEST_MIN_MS < flight->attempt_end_ms) {
        flight->held = *request;
        flight->has_held = true;
        flight->not_before_ms = until_ms;
        flight->phase = FLIGHT_WAITING;
        return;
    }
    struct provider_step step = {.verdict = PROVIDER_FAILED, .outcome = OUTCOME_SNOOZE};
    http_request_done(request);
    step.retry_after_ms = until_ms - clock_mono_ms();
    str_copy(step.error, sizeof(step.error), "the provider is on hold");
    call_leave_gate(flight, GATE_VERDICT_NONE);
    end_or_start(flight, &step);
}

/* ---- requests ----------------------------------------------------------------------------- */

/* The attempt is over before the request could go out. Takes it. */
static void run_out_of_time(struct flight *flight, struct http_request *request)
{
    /* what went out before may have had its effect, for a create at least */
    bool unsure = flight->call.op == PROVIDER_CREATE && (flight->sent || flight->call.maybe_sent);
    struct provider_step step = {.verdict = PROVIDER_FAILED,
                                 .may_exist = unsure,
                                 .outcome = unsure ? OUTCOME_AMBIGUOUS : OUTCOME_TRANSIENT};
    str_copy(step.error, sizeof(step.error), "the attempt ran out of time");
    http_request_done(request);
    end_or_start(flight, &step);
}

static void on_answer(void *arg, const struct http_response *response)
{
    struct flight *flight = arg;
    gate_count_request(flight->gate, flight->gate_op, clock_mono_ms() - flight->request_began_ms);
    take_step(flight, response);
}

/* Takes the request. */
static void send_request(struct flight *flight, struct http_request *request)
{
    struct worker *worker = flight->worker;
    if (flight->gate->hold_until_ms > clock_mono_ms()) {
        wait_for_hold(flight, request, flight->gate->hold_until_ms);
        return;
    }
    if (request->once && !flight->on_once(flight)) {
        http_request_done(request);
        return;
    }
    int64_t now = clock_mono_ms();
    int64_t left = flight->attempt_end_ms - now;
    if (left < REQUEST_MIN_MS) {
        run_out_of_time(flight, request);
        return;
    }
    if (request->timeout_ms <= 0 || request->timeout_ms > left) {
        request->timeout_ms = left;
    }
    flight->sent = true;
    flight->sent_at_ms = call_now_ms(flight);
    flight->request_began_ms = now;
    if (request->once) {
        flight->create_sent_ms = now;
    }
    worker->counters.provider_requests++;
    if (flight->kind == FLIGHT_JOB) {
        CRASHPOINT(worker_sending);
    }
    http_multi_send(worker->http, request, on_answer, flight);
    http_request_done(request);
}

static void take_step(struct flight *flight, const struct http_response *last)
{
    struct provider *provider = flight->gate->provider;
    struct provider_step step;
    struct http_request request;
    memset(&step, 0, sizeof(step));
    http_request_init(&request);
    provider_call_tick(&flight->call, call_now_ms(flight), last);
    provider->ops->step(provider, &flight->call, last, &request, &step);
    if (flight->on_step != NULL && !flight->on_step(flight, &step)) {
        http_request_done(&request);
        return;
    }
    if (step.verdict == PROVIDER_SEND) {
        send_request(flight, &request);
        return;
    }
    http_request_done(&request);
    if (step.verdict == PROVIDER_WAIT) {
        wait_for_provider(flight, &step);
    } else {
        end_or_start(flight, &step);
    }
}

/* ---- life --------------------------------------------------------------------------------- */

void call_init(struct flight *flight, enum provider_op op)
{
    if (flight->call_active) {
        provider_call_done(&flight->call);
    }
    provider_call_init(&flight->call);
    flight->call_active = true;
    flight->call.op = op;
    flight->call.deployment_id = flight->worker->deployment_id;
}

void call_begin(struct flight *flight, struct gate *gate)
{
    gate_enter(gate);
    flight->gate = gate;
    flight->entered_ms = clock_mono_ms();
    flight->phase = FLIGHT_CALLING;
    take_step(flight, NULL);
}

void call_resume(struct flight *flight)
{
    flight->phase = FLIGHT_CALLING;
    if (flight->has_held) {
        flight->has_held = false;
        send_request(flight, &flight->held);
    } else {
        take_step(flight, NULL);
    }
}
