/*
 * gate - whether a provider may be called now: hold, circuit breaker, limit of calls in flight.
 *
 * Owns: one provider's breaker and its share of the worker's slots. Pure: time is an argument
 * (monotonic milliseconds), nothing is logged. Does not own: the shared hold in Redis, of which
 * `hold_until_ms` is this worker's copy.
 */
#ifndef WORKER_GATE_H
#define WORKER_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/domain/types.h"
#include "common/provider/provider.h"

enum gate_state { GATE_CLOSED, GATE_OPEN, GATE_PROBING };

struct gate_policy {
    int failures; /* in a row, within window_ms, that open the breaker */
    int64_t window_ms;
    int64_t open_ms;
};

/* Since this process began. */
struct gate_counts {
    int64_t moved_away; /* creates that went elsewhere */
    int64_t sweeps, sweeps_failed;
    int64_t adopted;   /* creates that found what an earlier attempt had made */
    int64_t orphans;   /* killed: tagged as ours, named by no row */
    int64_t lost;      /* rows whose sandbox the provider no longer has */
    int64_t corrected; /* rows that said running for paused, or the other way round */
};

struct gate {
    char name[PROVIDER_BYTES];
    struct provider *provider;
    int limit;
    int in_flight;
    int64_t hold_until_ms;
    enum gate_state state;
    int failures;
    int64_t first_failure_ms;
    int64_t open_until_ms;
    bool key_refused; /* the last answer about our key was a no */
    struct gate_counts counts;
};

const char *gate_state_name(enum gate_state state);
/* Milliseconds until a call may start; 0 = now. */
int64_t gate_blocked_ms(const struct gate *gate, int64_t now_ms);
/* How many calls may start now. */
int gate_room(const struct gate *gate, int64_t now_ms);
/* Takes a place; only when gate_blocked_ms() is 0. The first call after an open time is a probe. */
void gate_enter(struct gate *gate, int64_t now_ms);
/* Gives the place back. `failed`: the provider did not work (no answer, 5xx); `decided` false: the
 * call ended without telling anything about it. Returns true when this opened the breaker. */
bool gate_leave(struct gate *gate, const struct gate_policy *policy, int64_t now_ms, bool decided,
                bool failed);
/* Does this end of a call mean that the provider does not work? */
bool gate_is_failure(enum outcome outcome, int http_status);

#endif
