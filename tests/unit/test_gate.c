/* A provider's gate: breaker, hold, adaptive limit, budget of retries. Time is an argument. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lifecycle-worker/gate.h"

#define T0 1000000

static const struct gate_policy policy = {.failures = 3,
                                          .window_ms = 10000,
                                          .open_ms = 15000,
                                          .key_open_ms = 30000,
                                          .retry_percent = 20,
                                          .retry_per_s = 1};
static struct provider_ops ops = {.name = "e2b"};
static struct provider provider = {.ops = &ops};
static struct gate gate;

static int setup(void **state)
{
    (void)state;
    gate_init(&gate, &provider, 64, &policy, T0);
    return 0;
}

static bool call(int64_t now, enum gate_verdict verdict)
{
    gate_enter(&gate);
    return gate_leave(&gate, &policy, now, now, verdict);
}

static void test_opens_after_failures_in_a_row(void **state)
{
    (void)state;
    assert_false(call(T0, GATE_VERDICT_FAILS));
    assert_false(call(T0, GATE_VERDICT_FAILS));
    assert_false(call(T0, GATE_VERDICT_WORKS));
    assert_false(call(T0 + 1, GATE_VERDICT_FAILS));
    assert_false(call(T0 + 2, GATE_VERDICT_FAILS));
    assert_true(call(T0 + 3, GATE_VERDICT_FAILS));
    assert_int_equal(gate_blocked_ms(&gate, T0 + 3), 15000);
    assert_int_equal(gate_room(&gate, T0 + 3), 0);
    assert_int_equal(gate.counts.breaker_opened, 1);
    /* then one call tries it, and no second one */
    assert_int_equal(gate_room(&gate, T0 + 15003), 1);
    gate_enter(&gate);
    assert_int_equal(gate.state, GATE_PROBING);
    assert_int_equal(gate_room(&gate, T0 + 15003), 0);
    assert_false(gate_leave(&gate, &policy, T0 + 16000, T0 + 15003, GATE_VERDICT_FAILS));
    assert_int_equal(gate_blocked_ms(&gate, T0 + 16000), 15000);
    assert_false(call(T0 + 31000, GATE_VERDICT_WORKS));
    assert_int_equal(gate.state, GATE_CLOSED);
    assert_int_equal(gate_room(&gate, T0 + 31000), 64);
}

static void test_old_failures_are_forgotten(void **state)
{
    (void)state;
    call(T0, GATE_VERDICT_FAILS);
    call(T0, GATE_VERDICT_FAILS);
    assert_false(call(T0 + 10001, GATE_VERDICT_FAILS));
    assert_int_equal(gate.state, GATE_CLOSED);
}

static void test_a_probe_that_tells_nothing_is_repeated(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        call(T0, GATE_VERDICT_FAILS);
    gate_enter(&gate);
    gate_leave(&gate, &policy, T0 + 20000, T0 + 15000, GATE_VERDICT_NONE);
    assert_int_equal(gate.state, GATE_OPEN);
    assert_int_equal(gate_room(&gate, T0 + 20000), 1);
}

static void test_a_refused_key_lets_one_call_try(void **state)
{
    (void)state;
    assert_false(call(T0, GATE_VERDICT_KEY_REFUSED));
    assert_true(gate.key_refused);
    assert_int_equal(gate_blocked_ms(&gate, T0), 30000);
    assert_int_equal(gate_room(&gate, T0 + 30000), 1);
    /* lifted by hand */
    gate_hold(&gate, T0 + 100, 0, false);
    assert_int_equal(gate_blocked_ms(&gate, T0 + 100), 0);
    assert_int_equal(gate_room(&gate, T0 + 100), 1);
    call(T0 + 200, GATE_VERDICT_WORKS);
    assert_false(gate.key_refused);
    assert_int_equal(gate_room(&gate, T0 + 200), 64);
    /* another worker was refused */
    gate_hold(&gate, T0 + 300, 5000, true);
    assert_true(gate.key_refused);
    assert_int_equal(gate_blocked_ms(&gate, T0 + 300), 5000);
    assert_int_equal(gate_room(&gate, T0 + 5300), 1);
}

static void test_a_hold_blocks_and_ends(void **state)
{
    (void)state;
    gate_hold(&gate, T0, 700, false);
    assert_int_equal(gate_blocked_ms(&gate, T0 + 100), 600);
    assert_int_equal(gate_blocked_ms(&gate, T0 + 700), 0);
    gate_hold(&gate, T0, 0, false);
    assert_int_equal(gate_blocked_ms(&gate, T0), 0);
}

static void test_the_limit_halves_once_a_burst_and_grows_by_one_a_round(void **state)
{
    (void)state;
    for (int i = 0; i < 40; i++)
        gate_enter(&gate);
    /* forty that began together are told so: one cut, of what was in use */
    for (int i = 0; i < 40; i++)
        gate_leave(&gate, &policy, T0 + 10 + i, T0, GATE_VERDICT_LIMITED);
    assert_int_equal(gate_limit(&gate), 20);
    /* a burst that began after the cut cuts again */
    for (int i = 0; i < 20; i++)
        gate_enter(&gate);
    for (int i = 0; i < 20; i++)
        gate_leave(&gate, &policy, T0 + 200, T0 + 100, GATE_VERDICT_LIMITED);
    assert_int_equal(gate_limit(&gate), 10);
    /* rounds of calls that use the limit: one more after each, about */
    for (int round = 0; round < 10; round++) {
        int now = gate_limit(&gate);
        for (int i = 0; i < now; i++)
            gate_enter(&gate);
        for (int i = 0; i < now; i++)
            gate_leave(&gate, &policy, T0 + 300, T0 + 250, GATE_VERDICT_WORKS);
    }
    assert_in_range(gate_limit(&gate), 14, 20);
    /* never below one, never above what was configured */
    for (int i = 0; i < 20; i++)
        call(T0 + 1000 + i, GATE_VERDICT_LIMITED);
    assert_int_equal(gate_limit(&gate), 1);
    assert_int_equal(gate_room(&gate, T0 + 2000), 1);
    for (int i = 0; i < 100000; i++) {
        gate_enter(&gate);
        gate.in_flight += 63;
        gate_leave(&gate, &policy, T0 + 3000, T0 + 3000, GATE_VERDICT_WORKS);
        gate.in_flight -= 63;
    }
    assert_int_equal(gate_limit(&gate), 64);
}

static void test_a_limit_that_nobody_uses_does_not_grow(void **state)
{
    (void)state;
    for (int i = 0; i < 40; i++)
        gate_enter(&gate);
    for (int i = 0; i < 40; i++)
        gate_leave(&gate, &policy, T0 + 10, T0, GATE_VERDICT_LIMITED);
    for (int i = 0; i < 1000; i++)
        call(T0 + 100, GATE_VERDICT_WORKS);
    assert_int_equal(gate_limit(&gate), 20);
}

static void test_retries_have_a_budget(void **state)
{
    int granted = 0;
    (void)state;
    for (int i = 0; i < 100; i++)
        granted += gate_take_attempt(&gate, &policy, T0, true);
    assert_int_equal(granted, 10); /* ten seconds of one a second, saved */
    assert_int_equal(gate.counts.retries_held, 90);
    /* a fifth of the first attempts */
    for (int i = 0; i < 25; i++)
        assert_true(gate_take_attempt(&gate, &policy, T0, false));
    granted = 0;
    for (int i = 0; i < 100; i++)
        granted += gate_take_attempt(&gate, &policy, T0, true);
    assert_int_equal(granted, 5);
    /* and one a second without any, saved for no more than ten */
    granted = 0;
    for (int i = 0; i < 100; i++)
        granted += gate_take_attempt(&gate, &policy, T0 + 3000, true);
    assert_int_equal(granted, 3);
    granted = 0;
    for (int i = 0; i < 100; i++)
        granted += gate_take_attempt(&gate, &policy, T0 + 100000, true);
    assert_int_equal(granted, 10);
}

static void test_silent_is_who_answered_no_question_for_long(void **state)
{
    (void)state;
    assert_false(gate_is_silent(&gate, T0 + 99999, 3000)); /* nobody asked */
    gate_record_create(&gate, T0, false);
    gate_record_create(&gate, T0 + 2000, false); /* since the first of them */
    assert_false(gate_is_silent(&gate, T0 + 2999, 3000));
    assert_true(gate_is_silent(&gate, T0 + 3000, 3000));
    gate_record_create(&gate, T0 + 2500, true); /* one answer is enough */
    assert_false(gate_is_silent(&gate, T0 + 3000, 3000));
    gate_record_create(&gate, T0 + 4000, false);
    assert_false(gate_is_silent(&gate, T0 + 6999, 3000));
    assert_true(gate_is_silent(&gate, T0 + 7000, 3000));
}

static void test_what_an_outcome_tells(void **state)
{
    (void)state;
    assert_int_equal(gate_verdict_of(OUTCOME_OK, 0), GATE_VERDICT_WORKS);
    assert_int_equal(gate_verdict_of(OUTCOME_TRANSIENT, 0), GATE_VERDICT_FAILS);
    assert_int_equal(gate_verdict_of(OUTCOME_TRANSIENT, 503), GATE_VERDICT_FAILS);
    assert_int_equal(gate_verdict_of(OUTCOME_TRANSIENT, 409), GATE_VERDICT_WORKS);
    assert_int_equal(gate_verdict_of(OUTCOME_AMBIGUOUS, 0), GATE_VERDICT_FAILS);
    assert_int_equal(gate_verdict_of(OUTCOME_RATE_LIMITED, 429), GATE_VERDICT_LIMITED);
    /* E2B's limit of sandboxes at once is not its limit of calls */
    assert_int_equal(gate_verdict_of(OUTCOME_CAPACITY, 429), GATE_VERDICT_WORKS);
    assert_int_equal(gate_verdict_of(OUTCOME_AUTH, 401), GATE_VERDICT_KEY_REFUSED);
}

static void test_requests_are_counted_by_time(void **state)
{
    (void)state;
    gate_count_request(&gate, JOB_CREATE, 0);
    gate_count_request(&gate, JOB_CREATE, 3);
    gate_count_request(&gate, GATE_OP_KILL, 60000);
    assert_int_equal(gate.counts.requests[JOB_CREATE][0], 1);
    assert_int_equal(gate.counts.requests[JOB_CREATE][2], 1);
    assert_int_equal(gate.counts.requests[GATE_OP_KILL][METRIC_BUCKETS], 1);
    assert_int_equal(gate.counts.requests_ms[JOB_CREATE], 3);
}

#define T(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_opens_after_failures_in_a_row),
        T(test_old_failures_are_forgotten),
        T(test_a_probe_that_tells_nothing_is_repeated),
        T(test_a_refused_key_lets_one_call_try),
        T(test_a_hold_blocks_and_ends),
        T(test_the_limit_halves_once_a_burst_and_grows_by_one_a_round),
        T(test_a_limit_that_nobody_uses_does_not_grow),
        T(test_retries_have_a_budget),
        T(test_silent_is_who_answered_no_question_for_long),
        T(test_what_an_outcome_tells),
        T(test_requests_are_counted_by_time),
    };
    return cmocka_run_group_tests_name("gate", tests, NULL, NULL);
}
