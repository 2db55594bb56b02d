/*
 * The store against a real PostgreSQL (DATABASE_URL): every call's ordinary life; claims, order,
 * fencing. Its own schema, see store_fixture.h.
 */
#include "tests/integration/store_fixture.h"

#include "common/store/store_events.h"

static int setup(void **state)
{
    (void)state;
    fixture_open("test_store");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_close();
    return 0;
}

static void test_migrate_twice_is_nothing(void **state)
{
    int applied = -1;

    (void)state;
    OK(store_migrate(store, &applied, &err));
    assert_int_equal(applied, 0);
}

static void test_create_claim_finish(void **state)
{
    struct sandbox sandbox, row;
    struct store_event *events;
    size_t count;

    (void)state;
    create_running(&sandbox);
    OK(store_sandbox_get(store, sandbox.id, "alice", false, &row, &err));
    assert_int_equal(row.status, SANDBOX_RUNNING);
    assert_string_equal(row.access_token, "token");
    assert_string_equal(row.metadata_json, "{\"k\": \"v\"}");
    assert_true(row.expires_at_ms > clock_wall_ms() + 50000);
    assert_true(row.started_at_ms > 0 && row.create_sent_at_ms > 0);
    sandbox_done(&row);
    OK(store_events(store, sandbox.id, &(struct store_event_cursor){0}, 10, true, &events, &count,
                    &err));
    assert_int_equal(count, 2);
    assert_string_equal(events[1].from, "creating");
    assert_string_equal(events[1].to, "running");
    free(events);
}

static void test_owners_are_separate(void **state)
{
    struct sandbox sandbox, row;

    (void)state;
    create_running(&sandbox);
    assert_int_equal(store_sandbox_get(store, sandbox.id, "bob", false, &row, &err), -1);
    assert_int_equal(err.code, ERR_SANDBOX_NOT_FOUND);
    OK(store_sandbox_get(store, sandbox.id, "bob", true, &row, &err));
    sandbox_done(&row);
}

static void test_claim_is_exclusive_and_tells_a_takeover(void **state)
{
    struct sandbox sandbox;
    struct wakeup wakeup;
    struct store_claimed *first, *second;
    struct store_finish late, finish;

    (void)state;
    new_sandbox(&sandbox, &wakeup);
    assert_int_equal(claim(wakeup.job_id, &first, 500), 1);
    assert_false(first->create_maybe_sent);
    assert_int_equal(claim(wakeup.job_id, &second, 100), 0);
    free(second);
    clock_sleep_ms(550);
    assert_int_equal(claim(wakeup.job_id, &second, 10000), 1);
    assert_true(second->took_over);
    assert_true(second->create_maybe_sent);
    assert_int_equal(second->job.crashes, 0); /* the same holder lives */
    assert_int_equal(second->job.attempt, 1);
    assert_true(second->job.lease_token > first->job.lease_token);

    late = finish_of(first, JOB_STATE_DONE, SANDBOX_RUNNING);
    OK(store_jobs_finish(store, &late, 1, "tester", &err));
    assert_true(late.ret_fenced);
    finish = finish_of(second, JOB_STATE_DONE, SANDBOX_RUNNING);
    OK(store_jobs_finish(store, &finish, 1, "tester", &err));
    assert_false(finish.ret_fenced);
    store_claimed_free(first, 1);
    store_claimed_free(second, 1);
}

/* ---- crashes ------------------------------------------------------------------------------ */

enum { BEAT_MS = 1000 };

static void beat(const char *name)
{
    int64_t database_ms = 0;

    OK(store_process_beat(store, STORE_ROLE_WORKER, name, BEAT_MS, clock_wall_ms(), NULL,
                          &database_ms, &err));
    assert_true(database_ms > 0);
}

/* As if the last heartbeat, and what it knows of those before, were that much older. */
static void age(const char *name, int ms, int unbroken_ms)
{
    sql("UPDATE processes SET seen_at = seen_at - interval '%d ms', expires_at = expires_at - "
        "interval '%d ms', unbroken_since = clock_timestamp() - interval '%d ms' WHERE name = '%s'",
        ms, ms, unbroken_ms, name);
}

static void end_lease(const char *job_id)
{
    sql("UPDATE jobs SET lease_until = clock_timestamp() - interval '1 ms' WHERE id = '%s'",
        job_id);
}

/* Has "heir" take the job over and checks what that cost. */
static void assert_takeover(const char *job_id, int crashes, int attempt)
{
    struct store_claimed *taken;

    end_lease(job_id);
    assert_int_equal(claim_as("heir", job_id, &taken, 60000), 1);
    assert_true(taken->took_over);
    assert_int_equal(taken->job.crashes, crashes);
    assert_int_equal(taken->job.attempt, attempt);
    store_claimed_free(taken, 1);
    sql("UPDATE jobs SET lease_owner = 'holder' WHERE id = '%s'", job_id);
}

static void test_only_a_holder_that_died_counts_as_a_crash(void **state)
{
    const int ttl_ms = 3 * BEAT_MS;
    struct sandbox sandbox;
    struct wakeup wakeup;
    struct store_claimed *claimed;

    (void)state;
    new_sandbox(&sandbox, &wakeup);
    sql("DELETE FROM processes");
    beat("holder");
    beat("heir");
    assert_int_equal(claim_as("holder", wakeup.job_id, &claimed, 60000), 1);
    store_claimed_free(claimed, 1);

    age("heir", 0, 60000); /* the holder lives, and was late */
    assert_takeover(wakeup.job_id, 0, 1);

    age("holder", ttl_ms + 1, 60000); /* the heir was there all the time: the holder died */
    assert_takeover(wakeup.job_id, 1, 2);

    /* PostgreSQL was away for 42 s: nobody's heartbeat came, and the heir is back first */
    age("holder", 42000, 90000);
    age("heir", 42000, 90000);
    assert_takeover(wakeup.job_id, 1, 2);
    beat("heir");
    assert_takeover(wakeup.job_id, 1, 2);
    age("heir", 0, ttl_ms - 500); /* the holder may still be on its way back */
    assert_takeover(wakeup.job_id, 1, 2);
    age("heir", 0, ttl_ms + 1);
    assert_takeover(wakeup.job_id, 2, 3);

    sql("DELETE FROM processes WHERE name = 'holder'"); /* stopped, or dead for an hour */
    assert_takeover(wakeup.job_id, 3, 4);
    sql("DELETE FROM processes"); /* a heir that never said it lives proves nothing */
    assert_takeover(wakeup.job_id, 3, 4);
}

static void test_a_heartbeat_tells_the_clock_and_its_gaps(void **state)
{
    struct store_process *live;
    size_t count;
    int64_t database_ms, offset_ms;

    (void)state;
    sql("DELETE FROM processes");
    OK(store_process_beat(store, STORE_ROLE_REAPER, "r", BEAT_MS, clock_wall_ms() - 600000, NULL,
                          &database_ms, &err));
    beat("w");
    OK(store_processes_live(store, &live, &count, &err));
    assert_int_equal(count, 2);
    assert_string_equal(live[0].name, "r");
    assert_int_equal(live[0].role, STORE_ROLE_REAPER);
    offset_ms = live[0].clock_offset_ms;
    assert_true(offset_ms > -605000 && offset_ms < -599000);
    assert_int_equal(live[1].role, STORE_ROLE_WORKER);
    free(live);

    /* a gap of more than two intervals begins anew, a shorter one does not */
    age("w", BEAT_MS, 60000);
    beat("w");
    assert_int_equal(sql("SELECT count(*) FROM processes WHERE name = 'w' AND "
                         "unbroken_since < clock_timestamp() - interval '59 s'"),
                     1);
    age("w", 2 * BEAT_MS + 1, 60000);
    beat("w");
    assert_int_equal(
        sql("SELECT count(*) FROM processes WHERE name = 'w' AND unbroken_since = seen_at"), 1);

    age("w", 4 * BEAT_MS, 60000); /* dead, and not forgotten yet */
    OK(store_processes_prune(store, 60000, &err));
    OK(store_process_end(store, "r", &err));
    OK(store_processes_live(store, &live, &count, &err));
    assert_int_equal(count, 0);
    free(live);
    assert_int_equal(sql("SELECT count(*) FROM processes"), 1);
    OK(store_processes_prune(store, 500, &err));
    assert_int_equal(sql("SELECT count(*) FROM processes"), 0);
}

static void test_finish_is_fenced_by_the_status(void **state)
{
    struct sandbox sandbox;
    struct wakeup wakeup;
    struct store_claimed *claimed;
    struct store_finish finish;

    (void)state;
    new_sandbox(&sandbox, &wakeup);
    assert_int_equal(claim(wakeup.job_id, &claimed, 10000), 1);
    finish = finish_of(claimed, JOB_STATE_DONE, SANDBOX_PAUSED);
    finish.from = SANDBOX_PAUSING;
    OK(store_jobs_finish(store, &finish, 1, "tester", &err));
    assert_true(finish.ret_fenced);
    store_claimed_free(claimed, 1);
}

static void test_order_and_successor(void **state)
{
    struct sandbox sandbox;
    struct wakeup pause, resume;
    struct store_claimed *claimed, *none;
    struct store_finish finish;
    bool joined;

    (void)state;
    create_running(&sandbox);
    accept_op(sandbox.id, JOB_PAUSE, true, &pause, &joined);
    assert_false(joined);
    accept_op(sandbox.id, JOB_RESUME, true, &resume, &joined);
    assert_false(joined);
    assert_int_equal(claim(resume.job_id, &none, 10000), 0);
    free(none);
    assert_int_equal(claim(pause.job_id, &claimed, 10000), 1);
    assert_int_equal(claimed->status_before, SANDBOX_RUNNING);
    assert_int_equal(claimed->sandbox.status, SANDBOX_PAUSING);
    finish = finish_of(claimed, JOB_STATE_DONE, SANDBOX_PAUSED);
    OK(store_jobs_finish(store, &finish, 1, "tester", &err));
    assert_true(finish.ret_has_next);
    assert_string_equal(finish.ret_next.job_id, resume.job_id);
    assert_int_equal(finish.ret_next.op, JOB_RESUME);
    store_claimed_free(claimed, 1);
    assert_int_equal(claim(resume.job_id, &claimed, 10000), 1);
    assert_int_equal(claimed->sandbox.status, SANDBOX_RESUMING);
    store_claimed_free(claimed, 1);
}

static void test_join_and_delete_supersedes(void **state)
{
    struct sandbox sandbox, row;
    struct wakeup first, second, gone;
    struct job jobs[1];
    struct store_claimed *claimed;
    struct store_finish finish;
    bool joined;

    (void)state;
    create_running(&sandbox);
    accept_op(sandbox.id, JOB_PAUSE, true, &first, &joined);
    accept_op(sandbox.id, JOB_PAUSE, true, &second, &joined);
    assert_true(joined);
    assert_string_equal(first.job_id, second.job_id);
    accept_op(sandbox.id, JOB_DELETE, true, &gone, &joined);
    assert_false(joined);
    memset(jobs, 0, sizeof(jobs));
    str_copy(jobs[0].id, sizeof(jobs[0].id), first.job_id);
    OK(store_jobs_poll(store, jobs, 1, &err));
    assert_int_equal(jobs[0].state, JOB_STATE_SUPERSEDED);
    job_done(&jobs[0]);
    assert_int_equal(claim(gone.job_id, &claimed, 10000), 1);
    assert_int_equal(claimed->sandbox.status, SANDBOX_DELETING);
    finish = finish_of(claimed, JOB_STATE_DONE, SANDBOX_DELETED);
    OK(store_jobs_finish(store, &finish, 1, "tester", &err));
    store_claimed_free(claimed, 1);
    assert_int_equal(store_sandbox_get(store, sandbox.id, "alice", false, &row, &err), -1);
    {
        struct store_accept accept = {.owner = "alice",
                                      .sandbox_id = sandbox.id,
                                      .op = JOB_PAUSE,
                                      .origin = "client",
                                      .max_attempts = 1};
        char id[UUID_BYTES];

        id_uuid(id);
        assert_int_equal(store_accept_job(store, &accept, id, &first, &joined, &err), -1);
        assert_int_equal(err.code, ERR_SANDBOX_NOT_FOUND);
    }
}

static void test_retry_wait_and_refund(void **state)
{
    struct sandbox sandbox;
    struct wakeup wakeup;
    struct store_claimed *claimed;
    struct store_finish finish;

    (void)state;
    new_sandbox(&sandbox, &wakeup);
    assert_int_equal(claim(wakeup.job_id, &claimed, 10000), 1);
    finish = finish_of(claimed, JOB_STATE_RETRY_WAIT, SANDBOX_CREATING);
    finish.change_status = false;
    finish.refund_attempt = true;
    finish.delay_ms = 600;
    finish.outcome = OUTCOME_RATE_LIMITED;
    finish.set = STORE_SET_SENT; /* create_sent_at_ms 0 */
    OK(store_jobs_finish(store, &finish, 1, "tester", &err));
    store_claimed_free(claimed, 1);
    assert_int_equal(claim(wakeup.job_id, &claimed, 10000), 0);
    free(claimed);
    clock_sleep_ms(650);
    assert_int_equal(claim(wakeup.job_id, &claimed, 10000), 1);
    assert_int_equal(claimed->job.attempt, 1);
    assert_false(claimed->create_maybe_sent);
    store_claimed_free(claimed, 1);
}

/* A holder may have sent a create since its claim, until its finish says when it did. */
static void test_when_a_create_may_have_been_sent(void **state)
{
    struct sandbox sandbox;
    struct wakeup wakeup;
    struct store_claimed claimed;
    struct store_finish finish;

    (void)state;
    new_sandbox(&sandbox, &wakeup);
    claim_one(wakeup.job_id, &claimed);
    assert_false(claimed.create_maybe_sent);
    assert_int_equal(claimed.sandbox.create_sent_at_ms, 0);
    assert_int_equal(sql("SELECT count(*) FROM sandboxes WHERE id = '%s' AND create_sent_at > "
                         "now() - interval '5 s'",
                         sandbox.id),
                     1);
    finish = finish_of(&claimed, JOB_STATE_RETRY_WAIT, SANDBOX_CREATING);
    finish.change_status = false;
    finish.set = STORE_SET_SENT;
    finish.values.create_sent_at_ms = claimed.claimed_at_ms - 60000;
    OK(store_jobs_finish(store, &finish, 1, "tester", &err));
    claimed_done(&claimed);

    claim_one(wakeup.job_id, &claimed);
    assert_true(claimed.create_maybe_sent);
    assert_int_equal(claimed.sandbox.create_sent_at_ms, finish.values.create_sent_at_ms);
    assert_int_equal(sql("SELECT count(*) FROM sandboxes WHERE id = '%s' AND create_sent_at > "
                         "now() - interval '5 s'",
                         sandbox.id),
                     1);
    claimed_done(&claimed);
}

/* One that is sent long after its claim says so, as long as the job is its holder's. */
static void test_a_create_is_about_to_be_sent(void **state)
{
    struct sandbox sandbox;
    struct wakeup wakeup;
    struct store_claimed claimed;
    bool ours;

    (void)state;
    new_sandbox(&sandbox, &wakeup);
    claim_one(wakeup.job_id, &claimed);
    (void)sql("UPDATE sandboxes SET create_sent_at = now() - interval '1 min' WHERE id = '%s' "
              "RETURNING 1",
              sandbox.id);
    OK(store_create_sending(store, wakeup.job_id, claimed.job.lease_token - 1, &ours, &err));
    assert_false(ours);
    assert_int_equal(sql("SELECT count(*) FROM sandboxes WHERE id = '%s' AND create_sent_at > "
                         "now() - interval '5 s'",
                         sandbox.id),
                     0);
    OK(store_create_sending(store, wakeup.job_id, claimed.job.lease_token, &ours, &err));
    assert_true(ours);
    assert_int_equal(sql("SELECT count(*) FROM sandboxes WHERE id = '%s' AND create_sent_at > "
                         "now() - interval '5 s'",
                         sandbox.id),
                     1);
    (void)sql("UPDATE jobs SET lease_until = now() WHERE id = '%s' RETURNING 1", wakeup.job_id);
    OK(store_create_sending(store, wakeup.job_id, claimed.job.lease_token, &ours, &err));
    assert_false(ours);
    claimed_done(&claimed);
}

/* A create goes to another provider with the commit that says so; not when a delete has come. */
static void test_a_create_moves(void **state)
{
    struct store_accept accept = {
        .owner = "alice", .op = JOB_DELETE, .origin = "client", .max_attempts = 1};
    struct sandbox sandbox;
    struct wakeup wakeup, gone;
    struct store_claimed claimed;
    struct store_event *events;
    struct store_finish finish;
    char delete_id[UUID_BYTES];
    size_t count;
    bool joined;

    (void)state;
    for (int round = 0; round < 3; round++) {
        bool overtaken = round == 1, unsettled = round == 2;

        new_sandbox(&sandbox, &wakeup);
        sql("UPDATE jobs SET params = '{\"places\": [{\"provider\": \"e2b\"}, {\"provider\": "
            "\"daytona\"}, {\"provider\": \"third\"}]}' WHERE id = '%s'",
            wakeup.job_id);
        claim_one(wakeup.job_id, &claimed);
        finish = finish_of(&claimed, JOB_STATE_RETRY_WAIT, SANDBOX_CREATING);
        finish.change_status = false;
        finish.set = STORE_SET_PLACE | STORE_SET_SENT | (unsettled ? STORE_DROP_PLACE : 0);
        finish.values.create_sent_at_ms = claimed.claimed_at_ms;
        str_copy(finish.values.provider, PROVIDER_BYTES, "daytona");
        str_copy(finish.values.template_id, TEMPLATE_BYTES, "snap");
        str_copy(finish.reason, REASON_BYTES, "because");
        if (overtaken) {
            accept.sandbox_id = sandbox.id;
            id_uuid(delete_id);
            OK(store_accept_job(store, &accept, delete_id, &gone, &joined, &err));
        }
        OK(store_jobs_finish(store, &finish, 1, "tester", &err));
        assert_false(finish.ret_fenced);
        claimed_done(&claimed);
        OK(store_sandbox_get(store, sandbox.id, NULL, true, &sandbox, &err));
        OK(store_events(store, sandbox.id, &(struct store_event_cursor){0}, 10, true, &events,
                        &count, &err));
        assert_int_equal(finish.ret_state, overtaken ? JOB_STATE_SUPERSEDED : JOB_STATE_RETRY_WAIT);
        assert_string_equal(sandbox.provider, overtaken ? "e2b" : "daytona");
        assert_string_equal(sandbox.provider_reason, overtaken ? "" : "because");
        assert_int_equal(sandbox.create_sent_at_ms != 0, overtaken);
        assert_int_equal(count, overtaken ? 1 : 2);
        assert_int_equal(sql("SELECT count(*) FROM jobs, jsonb_array_elements(params->'places') p "
                             "WHERE id = '%s' AND p->>'provider' IN ('e2b', 'daytona', 'third')",
                             wakeup.job_id),
                         unsettled ? 2 : 3);
        assert_int_equal(sql("SELECT count(*) FROM jobs WHERE id = '%s' AND params @> "
                             "'{\"places\": [{\"provider\": \"e2b\"}]}'",
                             wakeup.job_id),
                         !unsettled);
        if (!overtaken) {
            assert_string_equal(sandbox.template_id, "snap");
            assert_string_equal(events[1].from, "creating");
            assert_string_equal(events[1].to, "creating");
            assert_string_equal(events[1].reason, "because");
        }
        free(events);
        sandbox_done(&sandbox);
    }
}

static void test_outbox_finds_what_lost_its_wakeup(void **state)
{
    struct sandbox sandbox;
    struct wakeup wakeup, *found;
    size_t count, mine = 0;

    (void)state;
    new_sandbox(&sandbox, &wakeup);
    clock_sleep_ms(20);
    OK(store_outbox(store, 1000, 10, false, &found, &count, &err));
    for (size_t i = 0; i < count; i++) {
        mine += strcmp(found[i].job_id, wakeup.job_id) == 0;
    }
    free(found);
    assert_int_equal(mine, 1);
    OK(store_outbox(store, 1000, 60000, false, &found, &count, &err));
    for (size_t i = 0; i < count; i++) {
        assert_string_not_equal(found[i].job_id, wakeup.job_id);
    }
    free(found);
}

static void test_dead_letters_are_claimed_until_they_are_listed(void **state)
{
    struct store_dead_letter *letters;
    size_t count;
    struct sandbox sandbox;
    struct wakeup wakeup;
    const char *job = wakeup.job_id;

    (void)state;
    new_sandbox(&sandbox, &wakeup);
    sql("UPDATE jobs SET state = 'failed' WHERE state = 'dead'");
    sql("UPDATE jobs SET state = 'dead', error = 'three crashes', finished_at = now(), enqueued_at "
        "= NULL "
        "WHERE id = '%s'",
        job);
    OK(store_dead_claim(store, 10, 60000, &letters, &count, &err));
    assert_int_equal(count, 1);
    assert_string_equal(letters[0].wakeup.job_id, job);
    assert_string_equal(letters[0].error, "three crashes");
    struct store_dead_letter *again;
    OK(store_dead_claim(store, 10, 60000, &again, &count, &err));
    assert_int_equal(count, 0); /* one reaper at a time */
    free(again);
    sql("UPDATE jobs SET run_at = now() WHERE id = '%s'", job);
    OK(store_dead_claim(store, 10, 0, &again, &count, &err));
    assert_int_equal(count, 1); /* but not for ever */
    free(again);
    OK(store_dead_listed(store, letters, 1, &err));
    OK(store_dead_claim(store, 10, 0, &again, &count, &err));
    assert_int_equal(count, 0);
    free(again);
    OK(store_dead_relist(store, &err));
    OK(store_dead_claim(store, 10, 0, &again, &count, &err));
    assert_int_equal(count, 1);
    free(again);
    free(letters);
}

static void test_deadlines(void **state)
{
    struct sandbox sandbox;
    struct wakeup timeout, *found;
    struct store_claimed *claimed;
    struct store_finish finish;
    size_t count, mine = 0;
    char pause_id[UUID_BYTES] = "";
    bool joined;

    (void)state;
    create_running(&sandbox);
    accept_op(sandbox.id, JOB_TIMEOUT, false, &timeout, &joined);
    assert_int_equal(claim(timeout.job_id, &claimed, 10000), 1);
    finish = finish_of(claimed, JOB_STATE_DONE, SANDBOX_RUNNING);
    finish.change_status = false;
    finish.set = STORE_SET_EXPIRES;
    finish.values.timeout_mode = TIMEOUT_ABSOLUTE;
    finish.values.timeout_ms = 1;
    finish.values.expires_at_ms = clock_wall_ms() - 10;
    OK(store_jobs_finish(store, &finish, 1, "tester", &err));
    store_claimed_free(claimed, 1);
    for (int round = 0; round < 2; round++) {
        OK(store_reap_deadlines(store, 1000, &found, &count, &err));
        for (size_t i = 0; i < count; i++) {
            if (strcmp(found[i].sandbox_id, sandbox.id) == 0) {
                mine++;
                assert_int_equal(found[i].op, JOB_PAUSE);
                str_copy(pause_id, sizeof(pause_id), found[i].job_id);
            }
        }
        free(found);
    }
    assert_int_equal(mine, 1);

    /* a set-timeout that was accepted first moves the deadline: the pause must not happen */
    accept_op(sandbox.id, JOB_TIMEOUT, false, &timeout, &joined);
    assert_int_equal(claim(pause_id, &claimed, 10000), 1);
    assert_false(claimed->deadline_moved);
    finish = finish_of(claimed, JOB_STATE_DONE, SANDBOX_PAUSED);
    OK(store_jobs_finish(store, &finish, 1, "tester", &err));
    store_claimed_free(claimed, 1);
}

struct race {
    const char **ids;
    size_t count;
    _Atomic int *claims;
};

static void *race_thread(void *arg)
{
    struct race *race = arg;
    struct error local = ERROR_INIT;
    struct store_claimed *claimed;
    size_t count;

    for (size_t at = 0; at < race->count; at += 25) {
        if (store_jobs_claim(store, race->ids + at, 25, "racer", 60000, &claimed, &count, &local) ==
            0) {
            *race->claims += (int)count;
            store_claimed_free(claimed, count);
        }
    }
    return NULL;
}

static void test_eight_claimers_claim_each_job_once(void **state)
{
    enum { JOBS = 500, THREADS = 8 };
    static struct wakeup wakeups[JOBS];
    static const char *ids[JOBS];
    static _Atomic int claims;
    struct race race = {.ids = ids, .count = JOBS, .claims = &claims};
    pthread_t threads[THREADS];
    struct sandbox sandbox;
    int64_t start;

    (void)state;
    for (int i = 0; i < JOBS; i++) {
        new_sandbox(&sandbox, &wakeups[i]);
        ids[i] = wakeups[i].job_id;
    }
    start = clock_mono_ms();
    for (int i = 0; i < THREADS; i++) {
        pthread_create(&threads[i], NULL, race_thread, &race);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    print_message("500 jobs claimed by 8 threads in %lld ms\n",
                  (long long)(clock_mono_ms() - start));
    assert_int_equal(claims, JOBS);
}

static void test_batch_finish(void **state)
{
    enum { JOBS = 300 };
    static struct store_finish items[JOBS];
    static struct wakeup wakeups[JOBS];
    const char *ids[JOBS];
    struct store_claimed *claimed;
    struct sandbox sandbox;
    size_t count;

    (void)state;
    for (int i = 0; i < JOBS; i++) {
        new_sandbox(&sandbox, &wakeups[i]);
        ids[i] = wakeups[i].job_id;
    }
    OK(store_jobs_claim(store, ids, JOBS, "tester", 60000, &claimed, &count, &err));
    assert_int_equal(count, JOBS);
    for (int i = 0; i < JOBS; i++) {
        items[i] = finish_of(&claimed[i], JOB_STATE_DONE, SANDBOX_RUNNING);
    }
    items[7].lease_token += 1;
    OK(store_jobs_finish(store, items, JOBS, "tester", &err));
    for (int i = 0; i < JOBS; i++) {
        assert_int_equal(items[i].ret_fenced, i == 7);
    }
    store_claimed_free(claimed, count);
}

static void test_list_pages(void **state)
{
    struct store_list_filter filter = {.owner = "lister", .status = -1, .limit = 2};
    struct sandbox *rows;
    size_t count, seen = 0;
    int64_t next;
    char last[UUID_BYTES] = "";

    (void)state;
    for (int i = 0; i < 5; i++) {
        struct sandbox sandbox = {.timeout_ms = 1};
        struct store_accept accept = {.max_attempts = 1};
        struct wakeup wakeup;
        char job[UUID_BYTES];

        id_uuid(sandbox.id);
        id_uuid(job);
        str_copy(sandbox.owner, sizeof(sandbox.owner), "lister");
        OK(store_accept_create(store, &sandbox, &accept, job, &wakeup, &err));
    }
    for (;;) {

        OK(store_sandbox_list(store, &filter, &rows, &count, &next, &err));
        seen += count;
        if (count > 0) {
            str_copy(last, sizeof(last), rows[count - 1].id);
        }
        for (size_t i = 0; i < count; i++) {
            sandbox_done(&rows[i]);
        }
        free(rows);
        if (next == 0) {
            break;
        }
        filter.before_created_us = next;
        filter.before_id = last;
    }
    assert_int_equal(seen, 5);
}

static void test_users_and_tokens(void **state)
{
    struct store_user user = {.role = "user", .password_hash = "hash"}, found;

    (void)state;
    id_uuid(user.id);
    id_random_alnum(user.username, 12);
    OK(store_user_add(store, &user, &err));
    assert_int_equal(store_user_add(store, &user, &err), -1);
    assert_int_equal(err.code, ERR_EXISTS);
    OK(store_user_set_disabled(store, user.username, true, &err));
    OK(store_user_find(store, user.username, &found, &err));
    assert_true(found.disabled);
    assert_int_equal(store_user_find(store, "nobody", &found, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    OK(store_token_revoke(store, user.id, clock_wall_ms() + 60000, &err));
    OK(store_token_revoke(store, user.id, clock_wall_ms() + 60000, &err));
}

static void test_a_server_that_is_not_there(void **state)
{
    const struct store_options options = {.conninfo = "postgresql://nobody@127.0.0.1:1/none",
                                          .application = "t",
                                          .pool_size = 2,
                                          .connect_timeout_s = 1,
                                          .statement_timeout_ms = 1000,
                                          .pool_wait_ms = 100};
    struct store *away = store_new(&options);

    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(store_ping(away, &err), -1);
        assert_int_equal(err.code, ERR_DATABASE_DOWN);
    }
    store_free(away);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_migrate_twice_is_nothing),
        cmocka_unit_test(test_create_claim_finish),
        cmocka_unit_test(test_owners_are_separate),
        cmocka_unit_test(test_claim_is_exclusive_and_tells_a_takeover),
        cmocka_unit_test(test_only_a_holder_that_died_counts_as_a_crash),
        cmocka_unit_test(test_a_heartbeat_tells_the_clock_and_its_gaps),
        cmocka_unit_test(test_finish_is_fenced_by_the_status),
        cmocka_unit_test(test_order_and_successor),
        cmocka_unit_test(test_join_and_delete_supersedes),
        cmocka_unit_test(test_retry_wait_and_refund),
        cmocka_unit_test(test_when_a_create_may_have_been_sent),
        cmocka_unit_test(test_a_create_is_about_to_be_sent),
        cmocka_unit_test(test_a_create_moves),
        cmocka_unit_test(test_outbox_finds_what_lost_its_wakeup),
        cmocka_unit_test(test_dead_letters_are_claimed_until_they_are_listed),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_eight_claimers_claim_each_job_once),
        cmocka_unit_test(test_batch_finish),
        cmocka_unit_test(test_list_pages),
        cmocka_unit_test(test_users_and_tokens),
        cmocka_unit_test(test_a_server_that_is_not_there),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
