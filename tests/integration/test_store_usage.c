/*
 * The usage ledger: each change of status accounts for the time before it, days and months divide
 * it exactly, and what retention removes stays counted. Tests move usage_since back instead of
 * waiting.
 */
#include "tests/integration/store_fixture.h"

#include "common/store/store_usage.h"

enum { HOUR_MS = 3600 * 1000, SLACK_MS = 60000 /* between two statements, on a busy machine */ };

static int setup(void **state)
{
    (void)state;
    fixture_open("test_store_usage");
    return 0;
}

static int empty(void **state)
{
    (void)state;
    sql("TRUNCATE sandboxes, jobs, events, usage_intervals, usage_daily, usage_of_pruned CASCADE");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_close();
    return 0;
}

static size_t usage_by(unsigned groups, const char *from, const char *to, struct store_usage **ret)
{
    const struct store_usage_ask ask = {.owner = "alice",
                                        .from = from,
                                        .to = to,
                                        .groups = groups,
                                        .prices_json = "{\"e2b\":0.5,\"e2b.paused\":0.001}",
                                        .limit = 100};
    size_t count;

    OK(store_usage(store, &ask, ret, &count, &err));
    return count;
}

/* All of it, in the years that the tests use. */
static struct store_usage total(void)
{
    struct store_usage *rows, first = {.running_ms = 0};

    if (usage_by(0, "2020-01-01", "2100-01-01", &rows) > 0) {
        first = rows[0];
    }
    free(rows);
    return first;
}

static void assert_near(int64_t value, int64_t expected)
{
    if (value < expected || value > expected + SLACK_MS) {
        fail_msg("%lld ms, not %lld", (long long)value, (long long)expected);
    }
}

static void passes(const struct sandbox *sandbox, int hours)
{
    sql("UPDATE sandboxes SET usage_since = usage_since - interval '%d hours', started_at = "
        "started_at "
        "- interval '%d hours', created_at = created_at - interval '%d hours' WHERE id = '%s'",
        hours, hours, hours, sandbox->id);
    sql("UPDATE usage_intervals SET began = began - interval '%d hours', ended = ended - interval "
        "'%d hours' WHERE sandbox_id = '%s'",
        hours, hours, sandbox->id);
}

static void do_op(const struct sandbox *sandbox, enum job_op op, enum sandbox_status to)
{
    struct wakeup wakeup;
    bool joined;

    accept_op(sandbox->id, op, false, &wakeup, &joined);
    run_job(wakeup.job_id, to);
}

static void test_a_life_counts_as_it_ran_and_was_paused(void **state)
{
    struct sandbox sandbox, never;
    struct wakeup wakeup;

    (void)state;
    new_sandbox(&never, &wakeup);
    run_job(wakeup.job_id, SANDBOX_FAILED);
    assert_int_equal(total().running_ms, 0);
    create_running(&sandbox);
    passes(&sandbox, 2);
    assert_near(total().running_ms, 2 * HOUR_MS); /* an open interval counts to now */
    do_op(&sandbox, JOB_PAUSE, SANDBOX_PAUSED);
    passes(&sandbox, 3);
    do_op(&sandbox, JOB_RESUME, SANDBOX_RUNNING);
    passes(&sandbox, 4);
    do_op(&sandbox, JOB_DELETE, SANDBOX_DELETED);
    assert_near(total().running_ms, 6 * HOUR_MS);
    assert_near(total().paused_ms, 3 * HOUR_MS);
    assert_int_equal(sql("SELECT count(*) FROM sandboxes WHERE usage_state IS NOT NULL"), 0);
    passes(&sandbox, 5);
    assert_near(total().running_ms, 6 * HOUR_MS);
    /* 0.5 a second of running, 0.001 of being paused */
    assert_true(strtod(total().cost, NULL) >= 0.5 * 6 * 3600 + 0.001 * 3 * 3600);
    assert_true(strtod(total().cost, NULL) <= 0.5 * 6 * 3660 + 0.001 * 3 * 3660);
}

static void test_a_pause_that_fails_interrupts_nothing(void **state)
{
    struct sandbox sandbox;

    (void)state;
    create_running(&sandbox);
    passes(&sandbox, 1);
    do_op(&sandbox, JOB_PAUSE, SANDBOX_RUNNING);
    assert_int_equal(sql("SELECT count(*) FROM usage_intervals"), 0);
    assert_near(total().running_ms, HOUR_MS);
}

static void test_a_create_counts_from_the_provider_s_own_time(void **state)
{
    static const int64_t hours_ago[] = {2, -2, 48};
    struct sandbox sandbox;
    struct wakeup wakeup;
    struct store_claimed claimed;
    struct store_finish finish;

    (void)state;
    for (int i = 0; i < 3; i++) {
        empty(NULL);
        new_sandbox(&sandbox, &wakeup);
        sql("UPDATE sandboxes SET created_at = now() - interval '3 hours'");
        claim_one(wakeup.job_id, &claimed);
        finish = finish_of(&claimed, JOB_STATE_DONE, SANDBOX_RUNNING);
        finish.set = STORE_SET_STARTED;
        finish.values.started_at_ms = clock_wall_ms() - hours_ago[i] * HOUR_MS;
        OK(store_jobs_finish(store, &finish, 1, "tester", &err));
        claimed_done(&claimed);
        /* a time of the future, or before the create, is a wrong clock */
        assert_near(total().running_ms, i == 0 ? 2 * HOUR_MS : 0);
    }
}

static void end_as_lost(const struct sandbox *sandbox)
{
    struct wakeup wakeup;
    struct store_claimed claimed;
    struct store_finish finish;
    bool joined;

    accept_op(sandbox->id, JOB_RECONCILE, false, &wakeup, &joined);
    claim_one(wakeup.job_id, &claimed);
    finish = finish_of(&claimed, JOB_STATE_DONE, SANDBOX_DELETED);
    finish.set = STORE_SET_LOST;
    OK(store_jobs_finish(store, &finish, 1, "tester", &err));
    claimed_done(&claimed);
}

static void test_what_is_lost_counts_until_it_was_missed_and_whole_when_it_comes_back(void **state)
{
    const char *id, *provider_id, *running = "running";
    struct sandbox sandbox;
    struct wakeup *wakeups;
    size_t count;

    (void)state;
    create_running(&sandbox);
    passes(&sandbox, 5);
    sql("UPDATE sandboxes SET missing_since = now() - interval '1 hour'");
    end_as_lost(&sandbox);
    assert_near(total().running_ms, 4 * HOUR_MS);
    id = provider_id = sandbox.id;
    OK(store_sweep_give_back(store, "e2b", &id, &provider_id, &running, 1, "tester", &wakeups,
                             &count, &err));
    assert_int_equal(count, 1);
    free(wakeups);
    assert_near(total().running_ms, 5 * HOUR_MS);
}

static void test_days_and_months_divide_the_time_exactly(void **state)
{
    struct store_usage *rows;
    int64_t sum = 0;

    (void)state;
    /* over the end of a leap February in UTC, whatever the session's time zone */
    sql("INSERT INTO usage_intervals VALUES (gen_random_uuid(), 'alice', 'e2b', 'base', 'l', "
        "'running', "
        "'2024-02-28 22:30:00.25+00', '2024-03-02 01:15:00.5+00')");
    sql("INSERT INTO usage_intervals VALUES (gen_random_uuid(), 'alice', 'e2b', 'base', 'l', "
        "'paused', "
        "'2024-02-29 00:00:00+00', '2024-03-01 00:00:00+00')");
    sql("INSERT INTO usage_intervals VALUES (gen_random_uuid(), 'bob', 'e2b', 'base', 'l', "
        "'running', "
        "'2024-02-29 00:00:00+00', '2024-03-01 00:00:00+00')");
    assert_int_equal(usage_by(USAGE_BY_DAY, "2024-02-01", "2024-04-01", &rows), 4);
    assert_string_equal(rows[0].day, "2024-02-28");
    assert_int_equal(rows[0].running_ms, 90 * 60000 - 250);
    assert_string_equal(rows[1].day, "2024-02-29");
    assert_true(rows[1].running_ms == 24 * HOUR_MS && rows[1].paused_ms == 24 * HOUR_MS);
    assert_true(rows[2].running_ms == 24 * HOUR_MS && rows[2].paused_ms == 0);
    assert_int_equal(rows[3].running_ms, 75 * 60000 + 500);
    for (int i = 0; i < 4; i++) {
        sum += rows[i].running_ms;
    }
    free(rows);
    assert_int_equal(total().running_ms, sum);
    assert_int_equal(usage_by(0, "2024-02-01", "2024-03-01", &rows), 1);
    sum -= rows[0].running_ms;
    free(rows);
    assert_int_equal(usage_by(0, "2024-03-01", "2024-04-01", &rows), 1);
    assert_int_equal(rows[0].running_ms, sum);
    free(rows);
    assert_int_equal(usage_by(0, "2024-04-01", "2024-05-01", &rows), 0);
    free(rows);
}

static void test_pruning_changes_no_figure(void **state)
{
    enum { BOXES = 6 };
    struct store_usage *before, *after;
    struct sandbox sandbox;
    size_t count;
    bool full = true;

    (void)state;
    for (int i = 0; i < BOXES; i++) {
        create_running(&sandbox);
        passes(&sandbox, 20);
        do_op(&sandbox, JOB_PAUSE, SANDBOX_PAUSED);
        passes(&sandbox, 7);
        do_op(&sandbox, JOB_DELETE, SANDBOX_DELETED);
        passes(&sandbox, 24 * 40);
        sql("UPDATE sandboxes SET deleted_at = now() - interval '40 days', user_id = 'label %d', "
            "provider = '%s' WHERE id = '%s'",
            i % 2, i % 3 == 0 ? "e2b" : "daytona", sandbox.id);
        sql("UPDATE usage_intervals i SET label = s.user_id, provider = s.provider FROM sandboxes "
            "s "
            "WHERE s.id = i.sandbox_id");
    }
    sql("UPDATE jobs SET finished_at = now() - interval '40 days'");
    count = usage_by(USAGE_BY_DAY | USAGE_BY_LABEL | USAGE_BY_PROVIDER, "2020-01-01", "2100-01-01",
                     &before);
    assert_true(count >= 4);
    while (full) {
        OK(store_prune(store, STORE_PRUNE_SANDBOXES, INT64_C(30) * 24 * HOUR_MS, &full, &err));
    }
    assert_int_equal(
        sql("SELECT (SELECT count(*) FROM sandboxes) + (SELECT count(*) FROM usage_intervals)"), 0);
    assert_int_equal(usage_by(USAGE_BY_DAY | USAGE_BY_LABEL | USAGE_BY_PROVIDER, "2020-01-01",
                              "2100-01-01", &after),
                     count);
    assert_memory_equal(before, after, count * sizeof(*before));
    free(before);
    free(after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_life_counts_as_it_ran_and_was_paused, empty),
        cmocka_unit_test_setup(test_a_pause_that_fails_interrupts_nothing, empty),
        cmocka_unit_test_setup(test_a_create_counts_from_the_provider_s_own_time, empty),
        cmocka_unit_test_setup(
            test_what_is_lost_counts_until_it_was_missed_and_whole_when_it_comes_back, empty),
        cmocka_unit_test_setup(test_days_and_months_divide_the_time_exactly, empty),
        cmocka_unit_test_setup(test_pruning_changes_no_figure, empty),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
