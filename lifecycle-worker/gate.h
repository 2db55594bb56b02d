/*
 * gate - whether a provider may be called now, and by how many at once.
 *
 * Owns: one provider's circuit breaker, its share of the worker's slots (adapted to its rate limit:
 * additive increase, multiplicative decrease), the budget of retries, what has been counted.
 * Pure: time is an argument (monotonic milliseconds), nothing is logged. Does not own: the hold
 * that all workers share in Redis, of which `hold_until_ms` is this worker's copy.
 */
#ifndef WORKER_GATE_H
#define WORKER_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/metrics.h"
#include "common/domain/types.h"
#include "common/provider/provider.h"

enum gate_state { GATE_CLOSED, GATE_PROBING, GATE_OPEN };

/* The state of the provider that a finished call implies. */
enum gate_verdict {
    GATE_VERDICT_NONE,
    GATE_VERDICT_WORKS,
    GATE_VERDICT_FAILS,      /* no answer, 5xx, or a refusal that is not its own */
    GATE_VERDICT_LIMITED,    /* works, and limits our rate */
    GATE_VERDICT_KEY_REFUSED /* no call succeeds until an operator sets a valid key */
};

struct gate_policy {
    int failures; /* in a row, within window_ms, that open the breaker */
    int64_t window_ms;
    int64_t open_ms;
    int64_t key_open_ms;   /* the same after a refused key */
    int64_t retry_percent; /* retries allowed per 100 first attempts */
    int64_t retry_per_s;   /* retries allowed per second in any case */
};

/* Calls are counted by the op of their job; kills and sweeps are two more. */
enum { GATE_OP_KILL = JOB_OP_COUNT, GATE_OP_SWEEP, GATE_OPS };
const char *gate_op_name(int op);

/* Counters since this process started. */
struct gate_counts {
    int64_t ended[GATE_OPS][OUTCOME_COUNT];         /* attempts, by how they ended */
    int64_t requests[GATE_OPS][METRIC_BUCKETS + 1]; /* HTTP requests, by how long they took */
    int64_t requests_ms[GATE_OPS];
#define WORKER_GAUGE(...)
#define WORKER_COUNTER(...)
#define PROVIDER_GAUGE(...)
#define PROVIDER_COUNTER(key, metric, help) int64_t key;
#include "common/domain/worker_figures.def"
#undef WORKER_GAUGE
#undef WORKER_COUNTER
#undef PROVIDER_GAUGE
#undef PROVIDER_COUNTER
};

struct gate {
    char name[PROVIDER_BYTES];
    struct provider *provider;
    int limit_max;
    int64_t limit_milli; /* limit of calls in flight, in thousandths */
    int64_t limit_cut_ms;
    int in_flight;
    int64_t hold_until_ms;
    enum gate_state state;
    int failures;
    int64_t first_failure_ms;
    int64_t open_until_ms;
    bool key_refused; /* the refused key opened it */
    int64_t retry_milli, retry_ms;
    int64_t
        silent_since_ms; /* first create without an answer since the last answered one; 0 = none */
    struct gate_counts counts;
};

void gate_init(struct gate *gate, struct provider *provider, int limit,
               const struct gate_policy *policy, int64_t now_ms);
const char *gate_state_name(enum gate_state state);
/* Calls that may be in flight at once, at least 1. */
int gate_limit(const struct gate *gate);
/* Milliseconds until a call may start; 0 = now. */
int64_t gate_blocked_ms(const struct gate *gate, int64_t now_ms);
/* How many calls may start now. */
int gate_room(const struct gate *gate, int64_t now_ms);
/* True when the retry budget lets an attempt start; then counts the attempt. */
bool gate_take_attempt(struct gate *gate, const struct gate_policy *policy, int64_t now_ms,
                       bool is_retry);
/* Takes a place; only when gate_blocked_ms() is 0. The first call after an open time is a probe. */
void gate_enter(struct gate *gate);
/* Gives back the place taken at began_ms. True when this opened the breaker. */
bool gate_leave(struct gate *gate, const struct gate_policy *policy, int64_t now_ms,
                int64_t began_ms, enum gate_verdict verdict);
/* The verdict that an outcome implies. */
enum gate_verdict gate_verdict_of(enum outcome outcome, int http_status);
/* Takes over the hold that all workers share; left_ms 0 = there is none. */
void gate_hold(struct gate *gate, int64_t now_ms, int64_t left_ms, bool key_refused);
/* A create, or a look-up of one, that began at asked_ms was answered or not. */
void gate_record_create(struct gate *gate, int64_t asked_ms, bool answered);
/* True when this worker has asked about creates for for_ms and got no answer. */
bool gate_is_silent(const struct gate *gate, int64_t now_ms, int64_t for_ms);
void gate_count_request(struct gate *gate, int op, int64_t took_ms);

#endif
