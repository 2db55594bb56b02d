/* What each failure class does to a job: state, delay bounds, attempts, holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/domain/retry.h"

static const struct retry_policy *const policy = &retry_policy_default;

static struct retry_decision decide(enum job_op op, enum outcome outcome, int attempt,
                                    int max_attempts, int64_t retry_after_ms, uint32_t random)
{
    return retry_decide(policy, op, outcome, attempt, max_attempts, retry_after_ms, random);
}

static void test_permanent_ends_at_once(void **state)
{
    (void)state;
    for (int op = 0; op < JOB_OP_COUNT; op++) {
        struct retry_decision d = decide((enum job_op)op, OUTCOME_PERMANENT, 1, 8, 0, 0);

        assert_int_equal(d.state, op == JOB_DELETE ? JOB_STATE_DEAD : JOB_STATE_FAILED);
        assert_true(d.clears_sent);
    }
}

static void test_ok_is_done(void **state)
{
    (void)state;
    assert_int_equal(decide(JOB_CREATE, OUTCOME_OK, 1, 8, 0, 0).state, JOB_STATE_DONE);
}

static void test_attempts_run_out(void **state)
{
    static const enum outcome spent[] = {OUTCOME_TRANSIENT, OUTCOME_CAPACITY};

    (void)state;
    for (size_t i = 0; i < sizeof(spent) / sizeof(spent[0]); i++) {
        for (int op = 0; op < JOB_OP_COUNT; op++) {
            assert_int_equal(decide((enum job_op)op, spent[i], 7, 8, 0, 0).state,
                             JOB_STATE_RETRY_WAIT);
            for (int attempt = 8; attempt < 11; attempt++) {
                assert_int_equal(decide((enum job_op)op, spent[i], attempt, 8, 0, 0).state,
                                 op == JOB_DELETE ? JOB_STATE_RETRY_WAIT : JOB_STATE_FAILED);
            }
        }
    }
}

/* What says nothing about the request spends no attempt and never ends a job. */
static void test_free_retries(void **state)
{
    static const enum outcome free_of_charge[] = {OUTCOME_AUTH, OUTCOME_RATE_LIMITED,
                                                  OUTCOME_SNOOZE};

    (void)state;
    for (size_t i = 0; i < sizeof(free_of_charge) / sizeof(free_of_charge[0]); i++) {
        for (int op = 0; op < JOB_OP_COUNT; op++) {
            struct retry_decision d = decide((enum job_op)op, free_of_charge[i], 99, 8, 0, 0);

            assert_int_equal(d.state, JOB_STATE_RETRY_WAIT);
            assert_true(d.refund_attempt);
            assert_true(d.delay_ms > 0);
        }
    }
}

static void test_ambiguous_always_retries_and_keeps_the_mark(void **state)
{
    (void)state;
    for (int attempt = 1; attempt < 20; attempt++) {
        struct retry_decision d = decide(JOB_CREATE, OUTCOME_AMBIGUOUS, attempt, 8, 0, 12345);

        assert_int_equal(d.state, JOB_STATE_RETRY_WAIT);
        assert_false(d.clears_sent);
        assert_false(d.refund_attempt);
    }
}

static void test_holds(void **state)
{
    struct retry_decision d;

    (void)state;
    d = decide(JOB_PAUSE, OUTCOME_RATE_LIMITED, 1, 8, 7000, 0);
    assert_int_equal(d.delay_ms, 7000);
    assert_int_equal(d.hold_ms, 7000);
    d = decide(JOB_PAUSE, OUTCOME_RATE_LIMITED, 1, 8, 0, 0);
    assert_int_equal(d.hold_ms, policy->base_ms);
    d = decide(JOB_PAUSE, OUTCOME_AUTH, 1, 8, 0, 0);
    assert_int_equal(d.hold_ms, policy->auth_hold_ms);
    assert_int_equal(decide(JOB_PAUSE, OUTCOME_TRANSIENT, 1, 8, 9000, 0).hold_ms, 0);
    assert_int_equal(decide(JOB_PAUSE, OUTCOME_SNOOZE, 1, 8, 1500, 0).hold_ms, 0);
    assert_int_equal(decide(JOB_PAUSE, OUTCOME_SNOOZE, 1, 8, 1500, 0).delay_ms, 1500);
}

static void test_backoff_is_bounded_and_jittered(void **state)
{
    static const struct {
        enum outcome outcome;
        int64_t base_ms;
    } cases[] = {{OUTCOME_TRANSIENT, 1000}, {OUTCOME_AMBIGUOUS, 1000}, {OUTCOME_CAPACITY, 15000}};

    (void)state;
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        int64_t ceiling = cases[c].base_ms;

        for (int attempt = 1; attempt < 70; attempt++) {
            int64_t least = INT64_MAX, most = 0;

            for (uint64_t random = 0; random <= UINT32_MAX; random += UINT32_MAX / 997) {
                int64_t delay =
                    decide(JOB_DELETE, cases[c].outcome, attempt, 8, 0, (uint32_t)random).delay_ms;

                least = delay < least ? delay : least;
                most = delay > most ? delay : most;
            }
            assert_true(least >= cases[c].base_ms / 2);
            assert_true(most <= ceiling);
            /* the whole range is used, so that a crowd spreads out */
            assert_true(least < cases[c].base_ms / 2 + ceiling / 10);
            assert_true(most > ceiling - ceiling / 10);
            ceiling = ceiling * 2 > policy->cap_ms ? policy->cap_ms : ceiling * 2;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_permanent_ends_at_once),
        cmocka_unit_test(test_ok_is_done),
        cmocka_unit_test(test_attempts_run_out),
        cmocka_unit_test(test_free_retries),
        cmocka_unit_test(test_ambiguous_always_retries_and_keeps_the_mark),
        cmocka_unit_test(test_holds),
        cmocka_unit_test(test_backoff_is_bounded_and_jittered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
