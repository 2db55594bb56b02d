/* Names of the enums: each one goes out and comes back, no two are alike, strangers are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/domain/types.h"

static void test_names_round_trip(void **state)
{
    (void)state;
    for (int i = 0; i < SANDBOX_STATUS_COUNT; i++) {
        enum sandbox_status back = SANDBOX_STATUS_COUNT;

        assert_int_equal(sandbox_status_parse(sandbox_status_name((enum sandbox_status)i), &back),
                         0);
        assert_int_equal(back, i);
    }
    for (int i = 0; i < JOB_OP_COUNT; i++) {
        enum job_op back = JOB_OP_COUNT;

        assert_int_equal(job_op_parse(job_op_name((enum job_op)i), &back), 0);
        assert_int_equal(back, i);
    }
    for (int i = 0; i < JOB_STATE_COUNT; i++) {
        enum job_state back = JOB_STATE_COUNT;

        assert_int_equal(job_state_parse(job_state_name((enum job_state)i), &back), 0);
        assert_int_equal(back, i);
    }
    for (int i = 0; i < 2; i++) {
        enum on_timeout back;

        assert_int_equal(on_timeout_parse(on_timeout_name((enum on_timeout)i), &back), 0);
        assert_int_equal(back, i);
    }
}

static void test_outcome_names_differ(void **state)
{
    (void)state;
    for (int i = 0; i < OUTCOME_COUNT; i++) {
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(outcome_name((enum outcome)i), outcome_name((enum outcome)j));
        }
    }
}

static void test_strangers_are_refused(void **state)
{
    static const char *const strangers[] = {"", "RUNNING", "running ", "runnin", "x"};
    enum sandbox_status status = SANDBOX_FAILED;
    enum job_op op = JOB_DELETE;
    enum job_state job_state = JOB_STATE_DEAD;
    enum on_timeout on_timeout = ON_TIMEOUT_DELETE;

    (void)state;
    for (size_t i = 0; i < sizeof(strangers) / sizeof(strangers[0]); i++) {
        assert_int_equal(sandbox_status_parse(strangers[i], &status), -1);
        assert_int_equal(job_op_parse(strangers[i], &op), -1);
        assert_int_equal(job_state_parse(strangers[i], &job_state), -1);
        assert_int_equal(on_timeout_parse(strangers[i], &on_timeout), -1);
    }
    assert_int_equal(status, SANDBOX_FAILED);
    assert_int_equal(op, JOB_DELETE);
    assert_int_equal(job_state, JOB_STATE_DEAD);
    assert_int_equal(on_timeout, ON_TIMEOUT_DELETE);
}

static void test_terminal_states(void **state)
{
    (void)state;
    assert_false(job_state_is_terminal(JOB_STATE_QUEUED));
    assert_false(job_state_is_terminal(JOB_STATE_RUNNING));
    assert_false(job_state_is_terminal(JOB_STATE_RETRY_WAIT));
    assert_true(job_state_is_terminal(JOB_STATE_DONE));
    assert_true(job_state_is_terminal(JOB_STATE_FAILED));
    assert_true(job_state_is_terminal(JOB_STATE_DEAD));
    assert_true(job_state_is_terminal(JOB_STATE_SUPERSEDED));
}

static void test_done_frees_and_may_be_repeated(void **state)
{
    struct sandbox sandbox = {.metadata_json = xstrdup("{}")};
    struct job job = {.params_json = xstrdup("{}"), .result_json = xstrdup("{}")};

    (void)state;
    for (int i = 0; i < 2; i++) {
        sandbox_done(&sandbox);
        job_done(&job);
    }
    assert_null(sandbox.metadata_json);
    assert_null(job.params_json);
    assert_null(job.result_json);
    sandbox_done(NULL);
    job_done(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_round_trip),
        cmocka_unit_test(test_outcome_names_differ),
        cmocka_unit_test(test_strangers_are_refused),
        cmocka_unit_test(test_terminal_states),
        cmocka_unit_test(test_done_frees_and_may_be_repeated),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
