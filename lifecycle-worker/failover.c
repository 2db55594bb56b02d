/* failover - see failover.h. */
#include "lifecycle-worker/failover.h"

#include <stdio.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/id.h"
#include "common/base/log.h"
#include "lifecycle-worker/finish.h"
#include "lifecycle-worker/gates.h"
#include "lifecycle-worker/worker_state.h"

bool failover_is_possible(const struct flight *flight)
{
    return flight_job(flight)->op == JOB_CREATE && flight->job.params.place_count > 1;
}

static int place_now(const struct flight *flight)
{
    for (int i = 0; i < flight->job.params.place_count; i++) {
        if (strcmp(flight->job.params.places[i].provider, flight_sandbox(flight)->provider) == 0) {
            return i;
        }
    }
    return -1;
}

/* The next place after `from`, in order and around, whose gate is open; -1 = none. */
static int place_next(const struct flight *flight, int from)
{
    int count = flight->job.params.place_count;
    for (int i = 1; i <= count; i++) {
        int at = (from + i) % count;
        struct gate *gate = gates_find(flight->worker, flight->job.params.places[at].provider);
        if (at != from && gate != NULL && gate_blocked_ms(gate, clock_mono_ms()) == 0) {
            return at;
        }
    }
    return -1;
}

/* The time since the create was accepted. */
static int64_t age_ms(const struct flight *flight)
{
    return flight_since_ms(flight, flight_job(flight)->created_at_ms);
}

/* The provider answers nothing about any create. One that answers some queries will answer the one
 * about this create, too: waiting for that keeps a create from being made twice. */
static bool is_unsettled_too_long(const struct flight *flight)
{
    int64_t limit_ms = flight->worker->config->failover_unsettled_ms;
    int64_t sent_ms = flight_create_sent_before_ms(flight);
    const struct gate *gate = gates_find(flight->worker, flight_sandbox(flight)->provider);
    return limit_ms > 0 && sent_ms > 0 && flight_since_ms(flight, sent_ms) >= limit_ms &&
           gate != NULL && gate_is_silent(gate, clock_mono_ms(), limit_ms);
}

void failover_record(const struct flight *flight, struct gate *gate, enum outcome outcome,
                     bool looked)
{
    bool unknown = !looked && (outcome == OUTCOME_AMBIGUOUS || outcome == OUTCOME_TRANSIENT ||
                               outcome == OUTCOME_AUTH);
    if (gate == NULL || flight_job(flight)->op != JOB_CREATE) {
        return;
    }
    /* the answer to a first create says nothing about earlier ones */
    if (flight->job.claimed.create_maybe_sent || outcome == OUTCOME_AMBIGUOUS) {
        gate_record_create(gate, flight->entered_ms, !unknown);
    }
}

/*
 * Back to a provider that was left before: not at once, or two that fail would have a create run
 * between them; forward without delay.
 */
static int64_t delay_ms(const struct flight *flight, int from, int to, int64_t else_ms)
{
    int64_t base_ms = flight->worker->policy.base_ms;
    if (to > from) {
        return 0;
    }
    return else_ms > 0 ? else_ms : base_ms / 2 + id_random_below((uint32_t)base_ms);
}

struct move {
    const char *why; /* why the create leaves its provider */
    enum outcome outcome;
    const char *error; /* the provider's text, or NULL */
    int http_status;
    int64_t back_ms; /* delay before a place that was left earlier; 0 = the worker's own */
    bool refund_attempt;
    bool unsettled; /* the old place may have made something */
};

static bool move(struct flight *flight, const struct move *how)
{
    int from = place_now(flight);
    int to = place_next(flight, from);
    if (to < 0) {
        return false;
    }
    struct store_finish *finish = &flight->job.finish;
    const struct job_place *place = &flight->job.params.places[to];
    struct gate *left = gates_find(flight->worker, flight_sandbox(flight)->provider);
    finish_init(flight);
    finish->set |= STORE_SET_PLACE | (how->unsettled ? STORE_DROP_PLACE : 0);
    if (!how->unsettled) {
        finish->values.create_sent_at_ms = 0;
    }
    str_copy(finish->values.provider, sizeof(finish->values.provider), place->provider);
    str_copy(finish->values.template_id, sizeof(finish->values.template_id), place->template_id);
    snprintf(finish->reason, sizeof(finish->reason), "at %s, because %s %s", place->provider,
             flight_sandbox(flight)->provider, how->why);
    finish->delay_ms = delay_ms(flight, from, to, how->back_ms);
    finish->refund_attempt = how->refund_attempt;
    finish->provider_http_status = how->http_status;
    log_event(LOG_WARN, "create.moved", LOG_S("from", flight_sandbox(flight)->provider),
              LOG_S("to", place->provider), LOG_S("why", how->why),
              LOG_B("unsettled", how->unsettled), LOG_I("delay_ms", finish->delay_ms),
              LOG_S("error", how->error));
    if (left != NULL) {
        left->counts.moved_away++;
    }
    finish_with(flight, JOB_STATE_RETRY_WAIT, how->outcome, how->error);
    return true;
}

bool failover_when_blocked(struct flight *flight, const struct gate *gate, int64_t blocked_ms)
{
    int64_t now = clock_mono_ms();
    struct move how = {.outcome = OUTCOME_OK, .refund_attempt = true};
    char why[64];
    how.why = why;
    if (!failover_is_possible(flight)) {
        return false;
    }
    if (flight->job.claimed.create_maybe_sent) {
        how.unsettled = true;
        snprintf(why, sizeof(why), "does not answer, not even whether it made one");
        return is_unsettled_too_long(flight) && move(flight, &how);
    }
    if (gate->state != GATE_CLOSED && !gate->key_refused) {
        snprintf(why, sizeof(why), "is failing: its circuit is open");
        return move(flight, &how);
    }
    if (age_ms(flight) + blocked_ms <= flight->worker->config->failover_patience_ms) {
        return false;
    }
    if (gate->key_refused) {
        snprintf(why, sizeof(why), "refuses our key");
    } else if (gate->hold_until_ms > now) {
        snprintf(why, sizeof(why), "limits the rate for another %lld ms",
                 (long long)(gate->hold_until_ms - now));
    } else {
        snprintf(why, sizeof(why), "has no call free");
    }
    return move(flight, &how);
}

bool failover_when_failed(struct flight *flight, const struct provider_step *step,
                          const struct retry_decision *decision)
{
    struct move how = {.outcome = step->outcome,
                       .error = step->error,
                       .http_status = step->http_status,
                       .back_ms = decision->delay_ms,
                       .refund_attempt = decision->refund_attempt};
    if (!failover_is_possible(flight) || decision->state != JOB_STATE_RETRY_WAIT) {
        return false;
    }
    if (step->outcome == OUTCOME_AMBIGUOUS && flight->job.claimed.create_maybe_sent) {
        /* the look-up was not answered either */
        how.unsettled = true;
        how.why = "does not answer, not even whether it made one";
        return flight_job(flight)->outcome != OUTCOME_SNOOZE /* it answered the last time */ &&
               is_unsettled_too_long(flight) && move(flight, &how);
    }
    if (step->may_exist || flight->job.claimed.create_maybe_sent) {
        return false;
    }
    bool patient =
        age_ms(flight) + decision->delay_ms <= flight->worker->config->failover_patience_ms;
    switch (step->outcome) {
    case OUTCOME_CAPACITY:
        how.why = "has no capacity for it";
        return move(flight, &how);
    case OUTCOME_AUTH:
        how.why = "refuses our key";
        return !patient && move(flight, &how);
    case OUTCOME_RATE_LIMITED:
        how.why = "limits the rate for too long";
        return !patient && move(flight, &how);
    case OUTCOME_TRANSIENT:
        how.why = step->http_status == 0 ? "is out of reach" : "is failing";
        return (step->http_status == 0 || step->http_status >= 500) && move(flight, &how);
    case OUTCOME_OK:
    case OUTCOME_PERMANENT:
    case OUTCOME_AMBIGUOUS:
    case OUTCOME_SNOOZE:
    case OUTCOME_COUNT:
        break;
    }
    return false;
}

bool failover_when_settled(struct flight *flight)
{
    return failover_is_possible(flight) &&
           move(flight, &(struct move){.why = "did not say what became of it, and made none",
                                       .outcome = OUTCOME_AMBIGUOUS,
                                       .refund_attempt = true});
}
