/*
 * gate - see gate.h.
 */
#include "lifecycle-worker/gate.h"

#include <string.h>

#include "common/base/alloc.h"

#define FULL_RETRY_MS  500
#define PROBE_RETRY_MS 1000
#define RETRY_BURST_S  10 /* unspent retries are kept for this many seconds */
#define MILLI          1000

const char *gate_state_name(enum gate_state state)
{
    switch (state) {
    case GATE_OPEN:
        return "open";
    case GATE_PROBING:
        return "probing";
    case GATE_CLOSED:
        break;
    }
    return "closed";
}

const char *gate_op_name(int op)
{
    return op < JOB_OP_COUNT ? job_op_name((enum job_op)op) : op == GATE_OP_KILL ? "kill" : "sweep";
}

static int64_t retry_cap(const struct gate_policy *policy)
{
    int64_t cap = policy->retry_per_s * RETRY_BURST_S * MILLI;
    return cap > MILLI ? cap : MILLI;
}

void gate_init(struct gate *gate, struct provider *provider, int limit,
               const struct gate_policy *policy, int64_t now_ms)
{
    memset(gate, 0, sizeof(*gate));
    gate->provider = provider;
    str_copy(gate->name, sizeof(gate->name), provider->ops->name);
    gate->limit_max = limit;
    gate->limit_milli = (int64_t)limit * MILLI;
    gate->retry_milli = retry_cap(policy);
    gate->retry_ms = now_ms;
}

int gate_limit(const struct gate *gate)
{
    return (int)(gate->limit_milli / MILLI);
}

int64_t gate_blocked_ms(const struct gate *gate, int64_t now_ms)
{
    int64_t blocked = gate->hold_until_ms - now_ms;
    int64_t more = 0;
    if (gate->state == GATE_PROBING) {
        more = PROBE_RETRY_MS;
    } else if (gate->state == GATE_OPEN) {
        more = gate->open_until_ms - now_ms;
    } else if (gate->in_flight >= gate_limit(gate)) {
        more = FULL_RETRY_MS;
    }
    blocked = more > blocked ? more : blocked;
    return blocked > 0 ? blocked : 0;
}

int gate_room(const struct gate *gate, int64_t now_ms)
{
    if (gate_blocked_ms(gate, now_ms) > 0) {
        return 0;
    }
    return gate->state == GATE_CLOSED ? gate_limit(gate) - gate->in_flight : 1;
}

bool gate_take_attempt(struct gate *gate, const struct gate_policy *policy, int64_t now_ms,
                       bool is_retry)
{
    gate->retry_milli += (now_ms - gate->retry_ms) * policy->retry_per_s;
    gate->retry_ms = now_ms;
    if (!is_retry) {
        gate->retry_milli += policy->retry_percent * MILLI / 100;
    }
    if (gate->retry_milli > retry_cap(policy)) {
        gate->retry_milli = retry_cap(policy);
    }
    if (!is_retry) {
        return true;
    }
    if (gate->retry_milli < MILLI) {
        gate->counts.retries_held++;
        return false;
    }
    gate->retry_milli -= MILLI;
    return true;
}

void gate_enter(struct gate *gate)
{
    if (gate->state == GATE_OPEN) {
        gate->state = GATE_PROBING;
    }
    gate->in_flight++;
}

/* Additive increase: one more per round of successful calls, while that many are in use. */
static void limit_raise(struct gate *gate)
{
    if (2 * (gate->in_flight + 1) >= gate_limit(gate)) {
        gate->limit_milli += (int64_t)MILLI * MILLI / gate->limit_milli;
    }
    if (gate->limit_milli > (int64_t)gate->limit_max * MILLI) {
        gate->limit_milli = (int64_t)gate->limit_max * MILLI;
    }
}

/* Multiplicative decrease: half of what was in use. A call from before the last cut adds nothing.
 */
static void limit_cut(struct gate *gate, int64_t now_ms, int64_t began_ms)
{
    int64_t used = (int64_t)(gate->in_flight + 1) * MILLI;
    if (gate->limit_cut_ms != 0 && began_ms < gate->limit_cut_ms) {
        return;
    }
    gate->limit_cut_ms = now_ms;
    gate->limit_milli = (used < gate->limit_milli ? used : gate->limit_milli) / 2;
    if (gate->limit_milli < MILLI) {
        gate->limit_milli = MILLI;
    }
}

static bool count_failure(struct gate *gate, const struct gate_policy *policy, int64_t now_ms)
{
    if (gate->failures == 0 || now_ms - gate->first_failure_ms > policy->window_ms) {
        gate->failures = 0;
        gate->first_failure_ms = now_ms;
    }
    gate->failures++;
    bool was_closed = gate->state == GATE_CLOSED;
    if (gate->state == GATE_PROBING || (was_closed && gate->failures >= policy->failures)) {
        gate->state = GATE_OPEN;
        gate->open_until_ms = now_ms + policy->open_ms;
        gate->failures = 0;
        gate->counts.breaker_opened += was_closed;
        return was_closed;
    }
    return false;
}

bool gate_leave(struct gate *gate, const struct gate_policy *policy, int64_t now_ms,
                int64_t began_ms, enum gate_verdict verdict)
{
    gate->in_flight--;
    switch (verdict) {
    case GATE_VERDICT_FAILS:
        return count_failure(gate, policy, now_ms);
    case GATE_VERDICT_KEY_REFUSED:
        gate->state = GATE_OPEN;
        gate->key_refused = true;
        gate->open_until_ms = now_ms + policy->key_open_ms;
        return false;
    case GATE_VERDICT_WORKS:
    case GATE_VERDICT_LIMITED:
        gate->state = GATE_CLOSED;
        gate->key_refused = false;
        gate->failures = 0;
        if (verdict == GATE_VERDICT_WORKS) {
            limit_raise(gate);
        } else {
            limit_cut(gate, now_ms, began_ms);
        }
        return false;
    case GATE_VERDICT_NONE:
        break;
    }
    if (gate->state == GATE_PROBING && gate->in_flight == 0) {
        gate->state = GATE_OPEN; /* the open time has passed: the next call is the probe */
    }
    return false;
}

enum gate_verdict gate_verdict_of(enum outcome outcome, int http_status)
{
    switch (outcome) {
    case OUTCOME_AUTH:
        return GATE_VERDICT_KEY_REFUSED;
    case OUTCOME_RATE_LIMITED:
        return GATE_VERDICT_LIMITED;
    case OUTCOME_TRANSIENT:
    case OUTCOME_AMBIGUOUS:
        switch (http_status) {
        case 408:
        case 409:
        case 425:
            return GATE_VERDICT_WORKS;
        default: /* another 3xx or 4xx that is to be tried again is not the provider's own */
            return http_status == 0 || http_status >= 300 ? GATE_VERDICT_FAILS : GATE_VERDICT_WORKS;
        }
    case OUTCOME_OK:
    case OUTCOME_PERMANENT:
    case OUTCOME_CAPACITY:
    case OUTCOME_SNOOZE:
    case OUTCOME_COUNT:
        break;
    }
    return GATE_VERDICT_WORKS;
}

void gate_hold(struct gate *gate, int64_t now_ms, int64_t left_ms, bool key_refused)
{
    gate->hold_until_ms = left_ms > 0 ? now_ms + left_ms : 0;
    if (left_ms > 0 && key_refused) {
        gate->state = GATE_OPEN;
        gate->key_refused = true;
        gate->open_until_ms = gate->hold_until_ms;
    } else if (left_ms <= 0 && gate->key_refused && gate->open_until_ms > now_ms) {
        gate->open_until_ms = now_ms; /* an operator deleted the hold: the key works again */
    }
}

void gate_record_create(struct gate *gate, int64_t asked_ms, bool answered)
{
    if (answered) {
        gate->silent_since_ms = 0;
    } else if (gate->silent_since_ms == 0) {
        gate->silent_since_ms = asked_ms;
    }
}

bool gate_is_silent(const struct gate *gate, int64_t now_ms, int64_t for_ms)
{
    return gate->silent_since_ms != 0 && now_ms - gate->silent_since_ms >= for_ms;
}

void gate_count_request(struct gate *gate, int op, int64_t took_ms)
{
    int bucket = 0;
    while (bucket < METRIC_BUCKETS && took_ms > metric_bucket_bounds_ms[bucket]) {
        bucket++;
    }
    gate->counts.requests[op][bucket]++;
    gate->counts.requests_ms[op] += took_ms;
}
