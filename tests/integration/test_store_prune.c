/*
 * What leaves a real PostgreSQL (DATABASE_URL) when it is old, what stays, and what the reaper's
 * looks cost when the table is large. Its own schema, see store_fixture.h.
 */
#include "tests/integration/store_fixture.h"

enum { DAY_MS = 86400000 };

static int setup(void **state)
{
    (void)state;
    fixture_open("test_store_prune");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_close();
    return 0;
}

static void prune_all(enum store_prunable what, int64_t age_ms)
{
    bool full = true;

    while (full) {
        OK(store_prune(store, what, age_ms, &full, &err));
    }
}

static int64_t rows_of(const struct sandbox *sandbox)
{
    return sql(
        "SELECT (SELECT count(*) FROM sandboxes WHERE id = '%s') + (SELECT count(*) FROM jobs "
        "WHERE sandbox_id = '%s') + (SELECT count(*) FROM events WHERE sandbox_id = '%s')",
        sandbox->id, sandbox->id, sandbox->id);
}

/* Runs for a minute, then ends, `days` ago. */
static void make_ended(struct sandbox *sandbox, const char *status, int days)
{
    create_running(sandbox);
    sql("UPDATE events SET at = now() - interval '%d days 1 minute' WHERE sandbox_id = '%s'", days,
        sandbox->id);
    sql("INSERT INTO events (sandbox_id, from_status, to_status, reason, actor, at) VALUES ('%s', "
        "'running', '%s', "
        "'', 'test', now() - interval '%d days')",
        sandbox->id, status, days);
    sql("UPDATE jobs SET finished_at = now() - interval '%d days' WHERE sandbox_id = '%s'", days,
        sandbox->id);
    sql("UPDATE sandboxes SET status = '%s', created_at = now() - interval '%d days 1 hour', "
        "deleted_at = CASE WHEN '%s' = 'deleted' THEN now() - interval '%d days' END WHERE id = "
        "'%s'",
        status, days, status, days, sandbox->id);
}

static void test_only_what_ended_long_ago_is_pruned(void **state)
{
    struct sandbox deleted, failed, young, failing, running;

    (void)state;
    make_ended(&deleted, "deleted", 31);
    make_ended(&failed, "failed", 31);
    make_ended(&young, "deleted", 29);
    make_ended(&failing, "failed", 31);
    sql("UPDATE jobs SET finished_at = now() WHERE sandbox_id = '%s'", failing.id);
    create_running(&running);
    sql("UPDATE sandboxes SET created_at = now() - interval '400 days' WHERE id = '%s'",
        running.id);
    prune_all(STORE_PRUNE_SANDBOXES, INT64_C(30) * DAY_MS);
    assert_int_equal(rows_of(&deleted), 0);
    assert_int_equal(rows_of(&failed), 0);
    assert_true(rows_of(&young) > 0);
    assert_true(rows_of(&failing) > 0);
    assert_true(rows_of(&running) > 0);
    sql("DELETE FROM jobs; DELETE FROM events; DELETE FROM sandboxes");
}

static void test_a_redriven_job_goes_with_its_parent(void **state)
{
    struct sandbox sandbox;

    (void)state;
    make_ended(&sandbox, "deleted", 31);
    sql("INSERT INTO jobs (id, parent_id, sandbox_id, seq, op, state, origin, max_attempts, "
        "finished_at) "
        "SELECT gen_random_uuid(), id, sandbox_id, 7, op, 'done', 'operator', 1, finished_at FROM "
        "jobs "
        "WHERE sandbox_id = '%s'",
        sandbox.id);
    prune_all(STORE_PRUNE_SANDBOXES, INT64_C(30) * DAY_MS);
    assert_int_equal(rows_of(&sandbox), 0);
}

/* A sandbox with more jobs than a batch may remove goes in pieces, and counts once. */
static void test_a_long_history_goes_in_pieces(void **state)
{
    struct sandbox sandbox;
    int64_t before = sql("SELECT coalesce(sum(sandboxes), 0) FROM usage_of_pruned");
    int batches = 0;
    bool full = true;

    (void)state;
    make_ended(&sandbox, "deleted", 31);
    sql("INSERT INTO jobs (id, sandbox_id, seq, op, state, origin, max_attempts, finished_at) "
        "SELECT gen_random_uuid(), '%s', 100 + n, 'timeout', 'done', 'lifetime', 1, now() - "
        "interval '32 days' "
        "FROM generate_series(1, 2500) n",
        sandbox.id);
    for (; full; batches++) {
        int64_t jobs = sql("SELECT count(*) FROM jobs WHERE sandbox_id = '%s'", sandbox.id);

        OK(store_prune(store, STORE_PRUNE_SANDBOXES, INT64_C(30) * DAY_MS, &full, &err));
        assert_true(jobs - sql("SELECT count(*) FROM jobs WHERE sandbox_id = '%s'", sandbox.id) <=
                    1000);
    }
    assert_true(batches >= 3);
    assert_int_equal(rows_of(&sandbox), 0);
    assert_int_equal(sql("SELECT sum(sandboxes) FROM usage_of_pruned"), before + 1);
}

static void test_usage_is_the_same_after_pruning(void **state)
{
    const char *figures = "SELECT sum(hashtext(u::text)::bigint) FROM usage u";
    struct sandbox sandbox;
    int64_t before;

    (void)state;
    sql("DELETE FROM usage_of_pruned");
    for (int i = 0; i < 120; i++) {
        make_ended(&sandbox, i % 5 == 0 ? "failed" : "deleted", 31 + i % 3);
        sql("UPDATE sandboxes SET owner = 'owner %d', provider = '%s' WHERE id = '%s'", i % 4,
            i % 2 == 0 ? "e2b" : "daytona", sandbox.id);
    }
    before = sql("%s", figures);
    /* and the time between two statements of make_ended() */
    assert_in_range(sql("SELECT sum(running_ms) FROM usage"), 120 * 60000, 120 * 61000);
    prune_all(STORE_PRUNE_SANDBOXES, INT64_C(30) * DAY_MS);
    assert_int_equal(sql("SELECT count(*) FROM sandboxes"), 0);
    assert_int_equal(sql("%s", figures), before);
    assert_int_equal(sql("SELECT sum(sandboxes) FROM usage_of_pruned"), 120);
}

static void test_keys_tokens_and_lone_events_are_pruned(void **state)
{
    (void)state;
    sql("INSERT INTO idempotency_keys (owner, key, request_hash, claim, created_at) SELECT 'a', "
        "n::text, '', "
        "gen_random_uuid(), now() - n * interval '1 second' FROM generate_series(1, 3000) n");
    sql("INSERT INTO revoked_tokens (jti, expires_at) SELECT n::text, now() - n * interval '1 "
        "second' "
        "FROM generate_series(1, 3000) n");
    sql("INSERT INTO events (from_status, to_status, reason, actor, at) SELECT '', '', 'orphan', "
        "'test', "
        "now() - n * interval '1 second' FROM generate_series(1, 3000) n");
    prune_all(STORE_PRUNE_KEYS, 500000);
    prune_all(STORE_PRUNE_TOKENS, 500000);
    prune_all(STORE_PRUNE_EVENTS, 500000);
    assert_in_range(sql("SELECT count(*) FROM idempotency_keys"), 490, 500);
    assert_in_range(sql("SELECT count(*) FROM revoked_tokens"), 490, 500);
    assert_in_range(sql("SELECT count(*) FROM events WHERE sandbox_id IS NULL"), 490, 500);
}

/* ---- looks at a large table ------------------------------------------------------------------ */

static void fill_running(int count)
{
    sql("DELETE FROM jobs; DELETE FROM events; DELETE FROM sandboxes");
    sql("INSERT INTO sandboxes (id, owner, user_id, provider, provider_sandbox_id, template_id, "
        "status, timeout_mode, "
        "on_timeout, timeout_ms, expires_at, provider_expires_at, started_at) SELECT "
        "gen_random_uuid(), 'o' || n %% 100, "
        "'u', 'e2b', 'p' || n, 'base', CASE WHEN n %% 4 = 0 THEN 'paused' ELSE 'running' END, "
        "'idle', 'pause', 3000000, "
        "now() + interval '50 minutes', now() + interval '40 minutes', now() FROM "
        "generate_series(1, %d) n",
        count);
    sql("ANALYZE sandboxes");
}

/* All of them want a later end at the provider, but none of them yet: their index entries are not
 * even read. */
static void test_a_look_at_lifetimes_reads_only_what_is_near(void **state)
{
    enum { MANY = 20000 };
    struct wakeup *wakeups;
    size_t count;

    (void)state;
    fill_running(MANY);
    OK(store_reap_lifetimes(store, "e2b", 1000, 600000, 3600000, 60000, 600000, &wakeups, &count,
                            &err));
    assert_int_equal(count, 0);
    free(wakeups);
    sql("UPDATE sandboxes SET provider_expires_at = now() + interval '9 minutes' WHERE "
        "provider_sandbox_id = 'p1'");
    sql("UPDATE sandboxes SET started_at = now() - interval '59 minutes 30 seconds' WHERE "
        "provider_sandbox_id = 'p2'");
    OK(store_reap_lifetimes(store, "e2b", 1000, 600000, 3600000, 60000, 600000, &wakeups, &count,
                            &err));
    assert_int_equal(count, 2);
    free(wakeups);
    assert_int_equal(sql("SELECT count(*) FROM jobs WHERE origin = 'lifetime' AND op = 'pause'"),
                     1);
    assert_int_equal(sql("SELECT count(*) FROM jobs WHERE origin = 'lifetime' AND op = 'timeout'"),
                     1);
}

static void test_counts_are_exact_while_few_and_close_when_many(void **state)
{
    struct store_stats stats;

    (void)state;
    fill_running(1000);
    OK(store_stats(store, &stats, &err));
    assert_int_equal(stats.sandboxes_by_status[SANDBOX_RUNNING], 750);
    assert_int_equal(stats.sandboxes_by_status[SANDBOX_PAUSED], 250);
    fill_running(60000);
    OK(store_stats(store, &stats, &err));
    assert_in_range(stats.sandboxes_by_status[SANDBOX_RUNNING], 40000, 50000);
    assert_in_range(stats.sandboxes_by_status[SANDBOX_PAUSED], 13000, 17000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_what_ended_long_ago_is_pruned),
        cmocka_unit_test(test_a_redriven_job_goes_with_its_parent),
        cmocka_unit_test(test_a_long_history_goes_in_pieces),
        cmocka_unit_test(test_usage_is_the_same_after_pruning),
        cmocka_unit_test(test_keys_tokens_and_lone_events_are_pruned),
        cmocka_unit_test(test_a_look_at_lifetimes_reads_only_what_is_near),
        cmocka_unit_test(test_counts_are_exact_while_few_and_close_when_many),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
