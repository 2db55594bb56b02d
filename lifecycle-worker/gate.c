/*
 * gate - see gate.h.
 */
#include "lifecycle-worker/gate.h"

#define FULL_RETRY_MS  500
#define PROBE_RETRY_MS 1000

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

int64_t gate_blocked_ms(const struct gate *gate, int64_t now_ms)
{
    int64_t blocked = gate->hold_until_ms - now_ms;
    int64_t more = 0;
    if (gate->state == GATE_PROBING) {
        more = PROBE_RETRY_MS;
    } else if (gate->state == GATE_OPEN) {
        more = gate->open_until_ms - now_ms;
    } else if (gate->in_flight >= gate->limit) {
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
    return gate->state == GATE_CLOSED ? gate->limit - gate->in_flight : 1;
}

void gate_enter(struct gate *gate, int64_t now_ms)
{
    (void)now_ms;
    if (gate->state == GATE_OPEN) {
        gate->state = GATE_PROBING;
    }
    gate->in_flight++;
}

bool gate_leave(struct gate *gate, const struct gate_policy *policy, int64_t now_ms, bool decided,
                bool failed)
{
    gate->in_flight--;
    if (!decided) {
        if (gate->state == GATE_PROBING && gate->in_flight == 0) {
            gate->state = GATE_OPEN; /* its time is over: the next call is the probe */
        }
        return false;
    }
    if (!failed) {
        gate->state = GATE_CLOSED;
        gate->failures = 0;
        return false;
    }
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
        return was_closed;
    }
    return false;
}

bool gate_is_failure(enum outcome outcome, int http_status)
{
    return (outcome == OUTCOME_TRANSIENT || outcome == OUTCOME_AMBIGUOUS) &&
           (http_status == 0 || http_status >= 500);
}
