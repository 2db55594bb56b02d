/*
 * Conditions of single statements that only rare interleavings need, against a real PostgreSQL
 * (DATABASE_URL). Each has its mutant in tests/mutation. Its own schema, see store_fixture.h.
 */
#include "tests/integration/store_fixture.h"

static int setup(void **state)
{
    (void)state;
    fixture_open("test_store_guards");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_close();
    return 0;
}

/* Takes over a job whose holder has died. */
static int take_over(const char *job_id, int64_t *ret_token)
{
    struct store_claimed claimed;
    int crashes;

    claim_one(job_id, &claimed);
    crashes = claimed.job.crashes;
    *ret_token = claimed.job.lease_token;
    claimed_done(&claimed);
    sql("UPDATE jobs SET lease_until = clock_timestamp() - interval '1 ms', lease_owner = 'dead' "
        "WHERE id = '%s'",
        job_id);
    return crashes;
}

/* Three crashes in a row are the limit, not three in the life of a job. */
static void test_an_attempt_that_ends_resets_the_crashes(void **state)
{
    struct sandbox sandbox;
    struct wakeup wakeup;
    struct store_finish retry = {.state = JOB_STATE_RETRY_WAIT, .outcome = OUTCOME_TRANSIENT};
    int64_t database_ms;

    (void)state;
    OK(store_process_beat(store, STORE_ROLE_WORKER, "tester", 1000, clock_wall_ms(), NULL,
                          &database_ms, &err));
    sql("UPDATE processes SET unbroken_since = clock_timestamp() - interval '1 minute'");
    new_sandbox(&sandbox, &wakeup);
    assert_int_equal(take_over(wakeup.job_id, &retry.lease_token), 0);
    assert_int_equal(take_over(wakeup.job_id, &retry.lease_token), 1);
    assert_int_equal(take_over(wakeup.job_id, &retry.lease_token), 2);
    str_copy(retry.job_id, sizeof(retry.job_id), wakeup.job_id);
    OK(store_jobs_finish(store, &retry, 1, "tester", &err));
    assert_false(retry.ret_fenced);
    assert_int_equal(take_over(wakeup.job_id, &retry.lease_token), 0);
    assert_int_equal(take_over(wakeup.job_id, &retry.lease_token), 1);
}

static size_t reap_deadlines(void)
{
    struct wakeup *wakeups;
    size_t count;

    OK(store_reap_deadlines(store, 100, &wakeups, &count, &err));
    free(wakeups);
    return count;
}

static size_t reap_lifetimes(void)
{
    struct wakeup *wakeups;
    size_t count;

    OK(store_reap_lifetimes(store, "e2b", 100, 600000, 3600000, 60000, 600000, &wakeups, &count,
                            &err));
    free(wakeups);
    return count;
}

/* Its only unfinished job is one of `op`. */
static void leave_job(const struct sandbox *sandbox, enum job_op op)
{
    struct wakeup wakeup;
    bool joined;

    sql("UPDATE jobs SET state = 'done' WHERE sandbox_id = '%s'", sandbox->id);
    sql("UPDATE sandboxes SET deadline_job_at = NULL WHERE id = '%s'", sandbox->id);
    accept_op(sandbox->id, op, false, &wakeup, &joined);
}

static void test_a_deadline_waits_for_an_unfinished_pause_or_delete(void **state)
{
    struct sandbox sandbox;

    (void)state;
    create_running(&sandbox);
    sql("UPDATE sandboxes SET expires_at = now() - interval '1 second' WHERE id = '%s'",
        sandbox.id);
    leave_job(&sandbox, JOB_PAUSE);
    assert_int_equal(reap_deadlines(), 0);
    leave_job(&sandbox, JOB_DELETE);
    assert_int_equal(reap_deadlines(), 0);
    leave_job(&sandbox, JOB_TIMEOUT);
    assert_int_equal(reap_deadlines(), 1);
    sql("DELETE FROM jobs; DELETE FROM events; DELETE FROM sandboxes");
}

static size_t reap_lives(void)
{
    struct wakeup *wakeups;
    size_t count;

    OK(store_reap_lives(store, 100, &wakeups, &count, &err));
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(wakeups[i].op, JOB_DELETE);
    }
    free(wakeups);
    return count;
}

static void do_op(const struct sandbox *sandbox, enum job_op op, enum sandbox_status to)
{
    struct wakeup wakeup;
    bool joined;

    accept_op(sandbox->id, op, false, &wakeup, &joined);
    run_job(wakeup.job_id, to);
}

static int64_t delete_in_ms(const struct sandbox *sandbox)
{
    struct sandbox row;
    int64_t left_ms;

    OK(store_sandbox_get(store, sandbox->id, "alice", false, &row, &err));
    left_ms = row.delete_at_ms != 0 ? row.delete_at_ms - row.read_at_ms : -1;
    sandbox_done(&row);
    return left_ms;
}

static void test_a_sandbox_that_is_paused_too_long_is_deleted(void **state)
{
    struct sandbox sandbox;

    (void)state;
    create_running(&sandbox);
    assert_int_equal(delete_in_ms(&sandbox), -1);
    sql("UPDATE sandboxes SET paused_ttl_ms = 3600000, deadline_job_at = NULL");
    do_op(&sandbox, JOB_PAUSE, SANDBOX_PAUSED);
    assert_in_range(delete_in_ms(&sandbox), 3500000, 3600000);
    assert_int_equal(reap_lives(), 0);
    do_op(&sandbox, JOB_RESUME, SANDBOX_RUNNING);
    assert_int_equal(delete_in_ms(&sandbox), -1); /* a pause counts for itself */
    do_op(&sandbox, JOB_PAUSE, SANDBOX_PAUSED);
    sql("UPDATE sandboxes SET delete_at = now() - interval '1 second'");
    leave_job(&sandbox, JOB_RESUME);
    assert_int_equal(reap_lives(), 0);
    leave_job(&sandbox, JOB_DELETE);
    assert_int_equal(reap_lives(), 0);
    leave_job(&sandbox, JOB_TIMEOUT);
    assert_int_equal(reap_lives(), 1);
    assert_int_equal(reap_lives(), 0);
    sql("DELETE FROM jobs; DELETE FROM events; DELETE FROM sandboxes");
}

static void test_a_longest_life_ends_in_every_state(void **state)
{
    struct store_accept accept = {.max_attempts = 5};
    struct sandbox sandbox = {.timeout_ms = 60000, .max_life_ms = 3600000, .paused_ttl_ms = 60000};
    struct wakeup wakeup;
    char job_id[UUID_BYTES];

    (void)state;
    id_uuid(sandbox.id);
    id_uuid(job_id);
    str_copy(sandbox.owner, sizeof(sandbox.owner), "alice");
    str_copy(sandbox.provider, sizeof(sandbox.provider), "e2b");
    OK(store_accept_create(store, &sandbox, &accept, job_id, &wakeup, &err));
    assert_in_range(delete_in_ms(&sandbox), 3500000, 3600000);
    run_job(job_id, SANDBOX_RUNNING);
    assert_in_range(delete_in_ms(&sandbox), 3500000, 3600000);
    do_op(&sandbox, JOB_PAUSE, SANDBOX_PAUSED);
    assert_in_range(delete_in_ms(&sandbox), 0, 60000); /* the earlier of both */
    do_op(&sandbox, JOB_RESUME, SANDBOX_RUNNING);
    assert_in_range(delete_in_ms(&sandbox), 3500000, 3600000);
    sql("UPDATE sandboxes SET delete_at = now(), deadline_job_at = NULL");
    assert_int_equal(reap_lives(), 1);
    sql("DELETE FROM jobs; DELETE FROM events; DELETE FROM sandboxes");
}

static void test_an_end_at_the_provider_waits_for_unfinished_jobs(void **state)
{
    static const char *const near[] = {
        "provider_expires_at = now() + interval '1 minute'",
        "provider_expires_at = now() + interval '30 minutes', started_at = now() - interval '59 "
        "minutes 30 s'",
    };
    struct sandbox sandbox;

    (void)state;
    for (size_t i = 0; i < sizeof(near) / sizeof(near[0]); i++) {
        create_running(&sandbox);
        sql("UPDATE sandboxes SET expires_at = now() + interval '1 hour', %s WHERE id = '%s'",
            near[i], sandbox.id);
        leave_job(&sandbox, JOB_TIMEOUT);
        assert_int_equal(reap_lifetimes(), 0);
        sql("UPDATE jobs SET state = 'done' WHERE sandbox_id = '%s'", sandbox.id);
        assert_int_equal(reap_lifetimes(), 1);
        sql("DELETE FROM jobs; DELETE FROM events; DELETE FROM sandboxes");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_attempt_that_ends_resets_the_crashes),
        cmocka_unit_test(test_a_deadline_waits_for_an_unfinished_pause_or_delete),
        cmocka_unit_test(test_a_sandbox_that_is_paused_too_long_is_deleted),
        cmocka_unit_test(test_a_longest_life_ends_in_every_state),
        cmocka_unit_test(test_an_end_at_the_provider_waits_for_unfinished_jobs),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
