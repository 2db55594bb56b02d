/* The statements of a sweep, against a real PostgreSQL: who sweeps, what is remembered, what jobs
 * follow. */
#include "tests/integration/store_fixture.h"

#include "common/store/store_events.h"

static int open_fixture(void **state)
{
    (void)state;
    fixture_open("t_store_reconcile");
    return 0;
}

static int close_fixture(void **state)
{
    (void)state;
    fixture_close();
    return 0;
}

static const char nobody[] = "00000000-0000-4000-8000-000000000000"; /* no row has this id */

static void ask(const char *provider, int64_t interval_ms, struct wakeup *wakeup, bool expected)
{
    bool asked = !expected;

    OK(store_sweep_ask(store, provider, interval_ms, wakeup, &asked, &err));
    assert_int_equal(asked, expected);
}

static void claim_sweep(const char *provider, int64_t lease_ms, struct wakeup *ret)
{
    char named[PROVIDER_BYTES];

    ask(provider, 0, ret, true);
    OK(store_sweep_claim(store, ret->job_id, "tester", lease_ms, named, &err));
    assert_string_equal(named, provider);
}

static void *ask_in_a_thread(void *arg)
{
    struct wakeup wakeup;
    bool asked;
    struct error e = ERROR_INIT;
    intptr_t won = 0;

    for (int i = 0; i < 20; i++) {
        if (store_sweep_ask(store, arg, 3600000, &wakeup, &asked, &e) < 0) {
            return (void *)-1;
        }
        won += asked;
    }
    return (void *)won;
}

static void test_of_many_reapers_one_asks(void **state)
{
    pthread_t threads[6];
    char provider[] = "racy";
    intptr_t total = 0;

    (void)state;
    for (int i = 0; i < 6; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, ask_in_a_thread, provider), 0);
    }
    for (int i = 0; i < 6; i++) {
        void *won;

        pthread_join(threads[i], &won);
        assert_true((intptr_t)won >= 0);
        total += (intptr_t)won;
    }
    assert_int_equal(total, 1);
}

static void test_one_sweep_at_a_time(void **state)
{
    struct wakeup first, second;
    char named[PROVIDER_BYTES];

    (void)state;
    ask("one", 60000, &first, true);
    assert_int_equal(first.op, JOB_RECONCILE);
    assert_string_equal(first.sandbox_id, "");
    ask("one", 60000, &second, false);
    ask("one", 0, &second, true); /* the wake-up may have been lost: the same again */
    assert_string_equal(second.job_id, first.job_id);
    OK(store_sweep_claim(store, second.job_id, "tester", 60000, named, &err));
    FAILS(store_sweep_claim(store, second.job_id, "other", 60000, named, &err), ERR_NOT_FOUND);
    ask("one", 0, &first, false); /* it is under way */
    OK(store_sweep_end(store, second.job_id, NULL, &err));
    assert_int_equal(
        sql("SELECT count(*) FROM provider_sweeps WHERE provider = 'one' AND state = 'done' "
            "AND done_at IS NOT NULL AND error = ''"),
        1);
    ask("one", 0, &first, true);
    assert_string_not_equal(second.job_id, first.job_id);
    FAILS(store_sweep_claim(store, second.job_id, "tester", 60000, named, &err), ERR_NOT_FOUND);

    OK(store_sweep_claim(store, first.job_id, "tester", 30, named, &err));
    clock_sleep_ms(60); /* its holder died */
    ask("one", 0, &second, true);
    OK(store_sweep_end(store, first.job_id, "late", &err)); /* is nothing any more */
    OK(store_sweep_claim(store, second.job_id, "other", 60000, named, &err));
    OK(store_sweep_end(store, second.job_id, "no list", &err));
    assert_int_equal(
        sql("SELECT count(*) FROM provider_sweeps WHERE provider = 'one' AND state = 'failed' "
            "AND error = 'no list'"),
        1);
}

static void test_sightings_count_in_a_row(void **state)
{
    struct store_sighting items[] = {
        {.provider_sandbox_id = "a", .finding = "orphan", .sandbox_id = nobody},
        {.provider_sandbox_id = "b", .finding = "absent", .sandbox_id = nobody},
        {.provider_sandbox_id = "c", .finding = "orphan", .sandbox_id = nobody}};
    struct wakeup sweep;

    (void)state;
    for (int round = 1; round <= 3; round++) {
        claim_sweep("seen", 60000, &sweep);
        if (round == 3) {
            items[1].finding = "mismatch"; /* something else: counted anew */
        }
        OK(store_sweep_note(store, sweep.job_id, "seen", items, round == 2 ? 2 : 3, &err));
        assert_int_equal(items[0].times, round);
        assert_int_equal(items[1].times, round == 3 ? 1 : round);
        OK(store_sweep_end(store, sweep.job_id, NULL, &err));
        clock_sleep_ms(5);
    }
    assert_true(items[0].age_ms >= 5 && items[1].age_ms < items[0].age_ms);
    assert_int_equal(items[2].times, 1); /* it was away in the second round */
    claim_sweep("seen", 60000, &sweep);
    OK(store_sweep_note(store, sweep.job_id, "seen", NULL, 0, &err));
    assert_int_equal(sql("SELECT count(*) FROM provider_sightings WHERE provider = 'seen'"), 0);
}

static void test_a_sweep_without_its_lease_notes_nothing(void **state)
{
    struct store_sighting item = {
        .provider_sandbox_id = "z", .finding = "orphan", .sandbox_id = nobody};
    struct wakeup sweep, newer;

    (void)state;
    claim_sweep("slow", 30, &sweep);
    clock_sleep_ms(60);
    FAILS(store_sweep_note(store, sweep.job_id, "slow", &item, 1, &err), ERR_FENCED);
    claim_sweep("slow", 60000, &newer);
    FAILS(store_sweep_note(store, sweep.job_id, "slow", &item, 1, &err), ERR_FENCED);
    OK(store_sweep_note(store, newer.job_id, "slow", &item, 1, &err));
    FAILS(store_sweep_note(store, sweep.job_id, "slow", NULL, 0, &err), ERR_FENCED);
    assert_int_equal(item.times, 1);
    assert_int_equal(sql("SELECT count(*) FROM provider_sightings WHERE provider = 'slow'"), 1);
}

/* All of them, so many at a time. */
static size_t read_rows(const char *sweep_id, int limit, struct store_sweep_row *ret, size_t max)
{
    struct store_sweep_cursor cursor = {0};
    struct store_sweep_row *rows;
    size_t count, total = 0;

    do {
        OK(store_sweep_rows(store, sweep_id, "rows", 60000, &cursor, limit, &rows, &count, &err));
        assert_true(count <= (size_t)limit && total + count <= max);
        memcpy(ret + total, rows, count * sizeof(*rows));
        total += count;
        free(rows);
    } while (count == (size_t)limit);
    return total;
}

static void test_rows_of_one_provider(void **state)
{
    enum { MAX = 200 };
    static struct store_sweep_row rows[MAX], again[MAX];
    struct sandbox running, creating, gone;
    struct wakeup wakeup, sweep;
    size_t count;
    bool joined;

    (void)state;
    create_running(&running);
    new_sandbox(&creating, &wakeup);
    create_running(&gone);
    accept_op(gone.id, JOB_DELETE, false, &wakeup, &joined);
    run_job(wakeup.job_id, SANDBOX_DELETED);
    sql("UPDATE sandboxes SET provider = 'rows' WHERE id IN ('%s', '%s', '%s')", running.id,
        creating.id, gone.id);
    sql("UPDATE sandboxes SET created_at = (SELECT created_at FROM sandboxes WHERE id = '%s') "
        "WHERE id = '%s'",
        running.id, creating.id); /* two of one moment */
    claim_sweep("rows", 60000, &sweep);
    count = read_rows(sweep.job_id, MAX, rows, MAX);
    size_t own = 0;
    for (size_t i = 0; i < count; i++) {
        assert_true(!rows[i].elsewhere || rows[i].status == SANDBOX_CREATING);
        if (rows[i].elsewhere) {
            continue;
        }
        own++;
        bool is_running = strcmp(rows[i].sandbox_id, running.id) == 0;

        assert_int_equal(rows[i].status, is_running ? SANDBOX_RUNNING : SANDBOX_CREATING);
        assert_int_equal(rows[i].busy, !is_running);
        assert_string_equal(rows[i].provider_sandbox_id, is_running ? running.id : "");
    }
    assert_int_equal(own, 2);
    for (int limit = 1; limit <= 3; limit++) {
        assert_int_equal(read_rows(sweep.job_id, limit, again, MAX), count);
        for (size_t i = 0; i < count; i++) {
            assert_string_equal(again[i].sandbox_id, rows[i].sandbox_id);
        }
    }
    OK(store_sweep_end(store, sweep.job_id, NULL, &err));
}

/* By their id at the provider or by the sandbox they are tagged with; no others. */
static void test_rows_of_a_page(void **state)
{
    struct sandbox named, tagged, creating, gone, other;
    struct wakeup wakeup, sweep;
    struct store_sweep_row *rows;
    size_t count;
    bool joined;

    (void)state;
    create_running(&named);
    create_running(&tagged);
    new_sandbox(&creating, &wakeup);
    create_running(&gone);
    accept_op(gone.id, JOB_DELETE, false, &wakeup, &joined);
    run_job(wakeup.job_id, SANDBOX_DELETED);
    create_running(&other);
    sql("UPDATE sandboxes SET provider = 'paged' WHERE id IN ('%s', '%s', '%s', '%s')", named.id,
        tagged.id, gone.id, other.id);
    const char *ids[] = {named.id, "p2", "p3", gone.id, "p5"};
    const char *boxes[] = {nobody, tagged.id, creating.id, gone.id, nobody};

    claim_sweep("paged", 60000, &sweep);
    OK(store_sweep_page(store, sweep.job_id, "paged", 60000, ids, boxes, 5, &rows, &count, &err));
    assert_int_equal(count, 3);
    for (size_t i = 0; i < count; i++) {
        bool is_creating = strcmp(rows[i].sandbox_id, creating.id) == 0;

        assert_true(is_creating || strcmp(rows[i].sandbox_id, named.id) == 0 ||
                    strcmp(rows[i].sandbox_id, tagged.id) == 0);
        assert_int_equal(rows[i].elsewhere, is_creating);
        assert_int_equal(rows[i].busy, is_creating);
    }
    free(rows);
    ids[0] = "p1"; /* and none is an answer, too */
    boxes[1] = boxes[2] = nobody;
    OK(store_sweep_page(store, sweep.job_id, "paged", 60000, ids, boxes, 5, &rows, &count, &err));
    assert_int_equal(count, 0);
    free(rows);
    OK(store_sweep_end(store, sweep.job_id, NULL, &err));
}

static void test_each_page_prolongs_the_lease(void **state)
{
    struct store_sweep_cursor cursor = {0};
    struct store_sweep_row *rows;
    struct wakeup sweep;
    size_t count;

    (void)state;
    claim_sweep("long", 5000, &sweep);
    OK(store_sweep_page(store, sweep.job_id, "long", 60000, NULL, NULL, 0, &rows, &count, &err));
    free(rows);
    assert_int_equal(sql("SELECT count(*) FROM provider_sweeps WHERE provider = 'long' AND "
                         "lease_until > now() + interval '30 seconds'"),
                     1);
    OK(store_sweep_rows(store, sweep.job_id, "long", 30, &cursor, 1, &rows, &count, &err));
    free(rows);
    clock_sleep_ms(60); /* and one that has run out is over */
    FAILS(store_sweep_page(store, sweep.job_id, "long", 60000, NULL, NULL, 0, &rows, &count, &err),
          ERR_FENCED);
    FAILS(store_sweep_rows(store, sweep.job_id, "long", 60000, &cursor, 1, &rows, &count, &err),
          ERR_FENCED);
}

/* A job may have taken up the sandbox after its page was read: then it is no orphan any more. */
static void test_what_a_row_names_by_now_is_wanted(void **state)
{
    struct sandbox running, creating;
    struct wakeup wakeup, sweep;

    (void)state;
    create_running(&running);
    new_sandbox(&creating, &wakeup);
    sql("UPDATE sandboxes SET provider = 'now' WHERE id IN ('%s', '%s')", running.id, creating.id);
    struct store_sighting items[] = {
        {.provider_sandbox_id = running.id, .finding = "orphan", .sandbox_id = running.id},
        {.provider_sandbox_id = "copy", .finding = "orphan", .sandbox_id = running.id},
        {.provider_sandbox_id = "made", .finding = "orphan", .sandbox_id = creating.id},
        {.provider_sandbox_id = "none", .finding = "orphan", .sandbox_id = nobody}};
    claim_sweep("now", 60000, &sweep);
    OK(store_sweep_note(store, sweep.job_id, "now", items, 4, &err));
    assert_true(items[0].wanted && !items[1].wanted && items[2].wanted && !items[3].wanted);
}

static void test_a_check_is_a_job_in_the_sandboxes_order(void **state)
{
    struct sandbox quiet, busy, moved;
    struct wakeup pause, *wakeups;
    size_t count;
    bool joined;

    (void)state;
    create_running(&quiet);
    create_running(&busy);
    create_running(&moved);
    accept_op(busy.id, JOB_PAUSE, false, &pause, &joined);
    const char *sandboxes[] = {quiet.id, busy.id, moved.id};
    const char *providers[] = {quiet.id, busy.id, "another"};
    const char *evidence[] = {"proven", "none", "none"};
    struct store_claimed claimed;
    OK(store_sweep_check(store, sandboxes, providers, evidence, 3, &wakeups, &count, &err));
    assert_int_equal(count, 1);
    assert_string_equal(wakeups[0].sandbox_id, quiet.id);
    assert_int_equal(wakeups[0].op, JOB_RECONCILE);
    claim_one(wakeups[0].job_id, &claimed);
    assert_string_equal(claimed.job.params_json, "{\"absent\": \"proven\"}");
    claimed_done(&claimed);
    free(wakeups);
    OK(store_sweep_check(store, sandboxes, providers, evidence, 3, &wakeups, &count, &err));
    assert_int_equal(count, 0); /* one check at a time */
    free(wakeups);
}

static void test_adopting_wakes_the_create_that_waits(void **state)
{
    struct sandbox waiting, running, stuck;
    struct wakeup job, *wakeups;
    struct store_claimed claimed;
    struct store_finish finish;
    size_t count;

    (void)state;
    new_sandbox(&waiting, &job);
    claim_one(job.job_id, &claimed);
    finish = finish_of(&claimed, JOB_STATE_RETRY_WAIT, SANDBOX_CREATING);
    finish.change_status = false;
    finish.delay_ms = 3600000;
    finish.set = STORE_SET_SENT; /* "certainly without effect", it was told */
    OK(store_jobs_finish(store, &finish, 1, "tester", &err));
    claimed_done(&claimed);
    create_running(&running);
    const char *ids[] = {waiting.id, running.id};
    OK(store_sweep_adopt(store, ids, 2, &wakeups, &count, &err));
    assert_int_equal(count, 1);
    assert_string_equal(wakeups[0].job_id, job.job_id);
    free(wakeups);
    claim_one(job.job_id, &claimed);
    assert_true(claimed.create_maybe_sent); /* so it looks before it sends */
    OK(store_sweep_adopt(store, ids, 2, &wakeups, &count, &err));
    assert_int_equal(count, 0); /* it is at it */
    free(wakeups);
    claimed_done(&claimed);

    new_sandbox(&stuck, &job);
    sql("UPDATE jobs SET state = 'dead' WHERE id = '%s'", job.job_id);
    const char *only[] = {stuck.id};
    OK(store_sweep_adopt(store, only, 1, &wakeups, &count, &err));
    assert_int_equal(count, 1);
    assert_int_equal(wakeups[0].op, JOB_CREATE);
    claim_one(wakeups[0].job_id, &claimed);
    assert_true(claimed.create_maybe_sent);
    assert_string_equal(claimed.job.origin, "reconcile");
    claimed_done(&claimed);
    free(wakeups);
}

static void test_a_killed_orphan_leaves_a_line_and_no_sighting(void **state)
{
    struct store_sighting item = {
        .provider_sandbox_id = "copy", .finding = "orphan", .sandbox_id = nobody};
    struct sandbox sandbox;
    struct store_event *events;
    struct wakeup sweep;
    size_t count;
    char unknown[UUID_BYTES];

    (void)state;
    create_running(&sandbox);
    id_uuid(unknown);
    for (int expected = 1; expected <= 2; expected++) {
        claim_sweep("killed", 60000, &sweep);
        OK(store_sweep_note(store, sweep.job_id, "killed", &item, 1, &err));
        assert_int_equal(item.times, expected);
        OK(store_sweep_end(store, sweep.job_id, NULL, &err));
    }
    OK(store_sweep_killed(store, "killed", "copy", sandbox.id, "orphan copy killed", "tester",
                          &err));
    OK(store_sweep_killed(store, "killed", "other", unknown, "orphan other killed", "tester",
                          &err));
    claim_sweep("killed", 60000, &sweep);
    OK(store_sweep_note(store, sweep.job_id, "killed", &item, 1, &err));
    assert_int_equal(item.times, 1); /* the list lags: counted from the beginning */
    OK(store_events(store, sandbox.id, &(struct store_event_cursor){0}, 100, true, &events, &count,
                    &err));
    assert_string_equal(events[count - 1].reason, "orphan copy killed");
    assert_string_equal(events[count - 1].from, "running");
    assert_string_equal(events[count - 1].to, "running");
    free(events);
    assert_int_equal(
        sql("SELECT count(*) FROM events WHERE sandbox_id IS NULL AND from_status = '' "
            "AND reason = 'orphan other killed'"),
        1);
}

/* A create that went on while its first provider said nothing. */
static void test_a_copy_of_what_came_up_elsewhere_is_told_apart(void **state)
{
    struct sandbox running, creating;
    struct wakeup sweep, job;

    (void)state;
    create_running(&running);
    new_sandbox(&creating, &job);
    struct store_sighting items[] = {
        {.provider_sandbox_id = "its-copy", .finding = "orphan", .sandbox_id = running.id},
        {.provider_sandbox_id = "unsure", .finding = "orphan", .sandbox_id = creating.id},
        {.provider_sandbox_id = "foreign", .finding = "orphan", .sandbox_id = nobody}};
    claim_sweep("first", 60000, &sweep);
    OK(store_sweep_note(store, sweep.job_id, "first", items, 3, &err));
    assert_true(items[0].copy);
    assert_false(items[1].copy);
    assert_false(items[2].copy);
    OK(store_sweep_end(store, sweep.job_id, NULL, &err));
    /* what is at the provider that the row names is no copy, whatever else may be wrong with it */
    claim_sweep(running.provider, 60000, &sweep);
    OK(store_sweep_note(store, sweep.job_id, running.provider, items, 1, &err));
    assert_false(items[0].copy);
    assert_int_equal(items[0].times, 1);
}

/* A job's end that says what the provider knows of the sandbox. */
static void finish_look(const char *sandbox_id, unsigned set, enum sandbox_status to)
{
    struct wakeup wakeup;
    struct store_claimed claimed;
    struct store_finish finish;
    bool joined;

    accept_op(sandbox_id, JOB_RECONCILE, false, &wakeup, &joined);
    claim_one(wakeup.job_id, &claimed);
    finish = finish_of(&claimed, JOB_STATE_DONE, to);
    finish.change_status = finish.to != finish.from;
    finish.set = set;
    str_copy(finish.reason, sizeof(finish.reason), "provider_lost");
    OK(store_jobs_finish(store, &finish, 1, "tester", &err));
    assert_false(finish.ret_fenced);
    claimed_done(&claimed);
}

static int64_t missing_since(const char *sandbox_id)
{
    struct sandbox sandbox;
    int64_t ms;

    OK(store_sandbox_get(store, sandbox_id, NULL, true, &sandbox, &err));
    ms = sandbox.missing_since_ms;
    sandbox_done(&sandbox);
    return ms;
}

static void test_missing_counts_from_the_first_look_and_ends_with_a_sighting(void **state)
{
    struct sandbox sandbox;
    int64_t first;
    const char *id = sandbox.id;

    (void)state;
    create_running(&sandbox);
    assert_int_equal(missing_since(id), 0);
    finish_look(id, STORE_SET_MISSING, SANDBOX_RUNNING);
    first = missing_since(id);
    assert_true(first > 0);
    clock_sleep_ms(5);
    finish_look(id, STORE_SET_MISSING, SANDBOX_RUNNING);
    assert_true(missing_since(id) == first);
    sql("UPDATE sandboxes SET deadline_job_at = now() WHERE id = '%s'", id);
    finish_look(id, STORE_SET_SEEN, SANDBOX_RUNNING);
    assert_int_equal(missing_since(id), 0);
    assert_int_equal(
        sql("SELECT count(*) FROM sandboxes WHERE id = '%s' AND deadline_job_at IS NULL", id), 1);
    finish_look(id, STORE_SET_SEEN,
                SANDBOX_RUNNING); /* it was seen all the while: no line of history */
    assert_int_equal(sql("SELECT count(*) FROM events WHERE sandbox_id = '%s' AND reason = "
                         "'missing_at_provider' "
                         "AND from_status = 'running' AND to_status = 'running'",
                         id),
                     1);
    assert_int_equal(
        sql("SELECT count(*) FROM events WHERE sandbox_id = '%s' AND reason = 'seen_at_provider'",
            id),
        1);
}

static void test_only_what_ended_as_lost_is_given_back(void **state)
{
    struct sandbox lost, deleted, other, asked;
    struct wakeup wakeup, sweep, *wakeups;
    struct sandbox back;
    size_t count;
    bool joined;

    (void)state;
    create_running(&lost);
    create_running(&deleted);
    create_running(&other);
    create_running(&asked);
    finish_look(lost.id, STORE_SET_MISSING, SANDBOX_RUNNING);
    sql("UPDATE sandboxes SET expires_at = '2040-01-01' WHERE id = '%s'", lost.id);
    finish_look(lost.id, STORE_SET_LOST, SANDBOX_DELETED);
    finish_look(other.id, STORE_SET_LOST, SANDBOX_DELETED);
    finish_look(asked.id, STORE_SET_LOST, SANDBOX_DELETED);
    /* accepted just before the row ended as lost, and done without a call */
    sql("INSERT INTO jobs (id, sandbox_id, seq, op, state, origin, max_attempts) "
        "VALUES (gen_random_uuid(), '%s', 99, 'delete', 'done', 'client', 1)",
        asked.id);
    finish_look(deleted.id, STORE_SET_MISSING, SANDBOX_RUNNING);
    accept_op(deleted.id, JOB_DELETE, false, &wakeup, &joined);
    run_job(wakeup.job_id, SANDBOX_DELETED);
    assert_int_equal(
        sql("SELECT count(*) FROM sandboxes WHERE id = '%s' AND missing_since IS NOT NULL",
            deleted.id),
        0);
    FAILS(store_sandbox_get(store, lost.id, NULL, true, &back, &err), ERR_SANDBOX_NOT_FOUND);

    struct store_sighting items[] = {
        {.provider_sandbox_id = lost.id, .finding = "orphan", .sandbox_id = lost.id},
        {.provider_sandbox_id = deleted.id, .finding = "orphan", .sandbox_id = deleted.id},
        {.provider_sandbox_id = "another-copy", .finding = "orphan", .sandbox_id = other.id},
        {.provider_sandbox_id = "foreign", .finding = "orphan", .sandbox_id = nobody},
        {.provider_sandbox_id = asked.id, .finding = "orphan", .sandbox_id = asked.id}};
    sql("UPDATE sandboxes SET deleted_at = now() - interval '90 seconds' WHERE id = '%s'",
        deleted.id);
    claim_sweep(lost.provider, 60000, &sweep);
    OK(store_sweep_note(store, sweep.job_id, lost.provider, items, 5, &err));
    assert_true(items[0].lost);
    assert_false(items[1].lost);
    assert_false(items[2].lost); /* another one than the row had */
    assert_false(items[3].lost);
    assert_false(items[4].lost); /* somebody asked for its end */
    assert_true(items[0].ended_ms >= 0 && items[0].ended_ms < 60000);
    assert_true(items[1].ended_ms >= 90000 && items[1].ended_ms < 150000);
    assert_true(items[3].ended_ms == -1);
    OK(store_sweep_end(store, sweep.job_id, NULL, &err));

    const char *sandboxes[] = {lost.id, deleted.id, other.id, asked.id};
    const char *providers[] = {lost.id, deleted.id, "another-copy", asked.id};
    const char *states[] = {"paused", "running", "running", "running"};
    OK(store_sweep_give_back(store, lost.provider, sandboxes, providers, states, 4, "tester",
                             &wakeups, &count, &err));
    assert_int_equal(count, 1);
    assert_string_equal(wakeups[0].sandbox_id, lost.id);
    assert_int_equal(wakeups[0].op, JOB_RECONCILE);
    free(wakeups);
    OK(store_sandbox_get(store, lost.id, "alice", false, &back, &err));
    assert_int_equal(back.status, SANDBOX_PAUSED);
    assert_string_equal(back.provider_sandbox_id, lost.id);
    assert_string_equal(back.access_token, "token"); /* or nobody could reach it */
    assert_true(back.expires_at_ms == 2208988800000);
    assert_int_equal(back.deleted_at_ms, 0);
    assert_int_equal(back.missing_since_ms, 0);
    sandbox_done(&back);
    assert_int_equal(
        sql("SELECT count(*) FROM events WHERE sandbox_id = '%s' AND reason = 'given_back' "
            "AND from_status = 'deleted' AND to_status = 'paused' AND actor = 'tester'",
            lost.id),
        1);
    OK(store_sweep_give_back(store, lost.provider, sandboxes, providers, states, 4, "tester",
                             &wakeups, &count, &err));
    assert_int_equal(count, 0); /* once */
    free(wakeups);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_missing_counts_from_the_first_look_and_ends_with_a_sighting),
        cmocka_unit_test(test_only_what_ended_as_lost_is_given_back),
        cmocka_unit_test(test_of_many_reapers_one_asks),
        cmocka_unit_test(test_one_sweep_at_a_time),
        cmocka_unit_test(test_sightings_count_in_a_row),
        cmocka_unit_test(test_a_sweep_without_its_lease_notes_nothing),
        cmocka_unit_test(test_rows_of_one_provider),
        cmocka_unit_test(test_rows_of_a_page),
        cmocka_unit_test(test_each_page_prolongs_the_lease),
        cmocka_unit_test(test_what_a_row_names_by_now_is_wanted),
        cmocka_unit_test(test_a_check_is_a_job_in_the_sandboxes_order),
        cmocka_unit_test(test_adopting_wakes_the_create_that_waits),
        cmocka_unit_test(test_a_killed_orphan_leaves_a_line_and_no_sighting),
        cmocka_unit_test(test_a_copy_of_what_came_up_elsewhere_is_told_apart),
    };
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
