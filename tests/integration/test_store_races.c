/*
 * The store under concurrency: the interleavings that would run a job twice, out of order, or lose
 * a wake-up. Each test races real connections against each other and then asks the tables.
 */
#include "tests/integration/store_fixture.h"

#include <stdatomic.h>

static int setup(void **state)
{
    (void)state;
    fixture_open("test_store_races");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_close();
    return 0;
}

/* Lets two threads begin a round together. */
static void meet(atomic_int *count, int all)
{
    atomic_fetch_add(count, 1);
    while (atomic_load(count) < all) {
        clock_sleep_ms(0);
    }
}

/* ---- order and fencing under leases that run out ------------------------------------------- */

enum { CHAOS_BOXES = 40, CHAOS_JOBS = 10, CHAOS_THREADS = 6, CHAOS_LEASE_MS = 25 };

struct chaos {
    const char *ids[CHAOS_BOXES * CHAOS_JOBS];
    atomic_int committed, fenced, failures;
};

static enum sandbox_status after(const struct store_claimed *claimed)
{
    switch (claimed->job.op) {
    case JOB_PAUSE:
        return SANDBOX_PAUSED;
    case JOB_RESUME:
        return SANDBOX_RUNNING;
    case JOB_CREATE:
    case JOB_DELETE:
    case JOB_TIMEOUT:
    case JOB_RECONCILE:
    case JOB_OP_COUNT:
        break;
    }
    return claimed->sandbox.status;
}

static void chaos_round(struct chaos *chaos, const char *const *ids, size_t count)
{
    struct error local = ERROR_INIT;
    struct store_claimed *claimed;
    struct store_finish *items;
    size_t got;

    if (store_jobs_claim(store, ids, count, "chaos", CHAOS_LEASE_MS, &claimed, &got, &local) < 0) {
        atomic_fetch_add(&chaos->failures, 1);
        print_error("claim: %s\n", local.message);
        return;
    }
    items = xcalloc(got, sizeof(*items));
    for (size_t i = 0; i < got; i++) {
        items[i] = finish_of(&claimed[i], JOB_STATE_DONE, after(&claimed[i]));
    }
    /* now and then longer than the lease */
    clock_sleep_ms(id_random_below(8) == 0 ? 2 * CHAOS_LEASE_MS : id_random_below(4));
    if (got > 0 && store_jobs_finish(store, items, got, "chaos", &local) < 0) {
        atomic_fetch_add(&chaos->failures, 1);
        print_error("finish: %s\n", local.message);
    }
    for (size_t i = 0; i < got; i++) {
        atomic_fetch_add(items[i].ret_fenced ? &chaos->fenced : &chaos->committed, 1);
    }
    free(items);
    store_claimed_free(claimed, got);
}

static void *chaos_thread(void *arg)
{
    enum { BATCH = 30 };
    struct chaos *chaos = arg;
    const int all = CHAOS_BOXES * CHAOS_JOBS;
    int64_t end = clock_mono_ms() + 60000;

    while (atomic_load(&chaos->committed) < all && atomic_load(&chaos->failures) == 0 &&
           clock_mono_ms() < end) {
        const char *ids[BATCH];

        for (int i = 0; i < BATCH; i++) {
            ids[i] = chaos->ids[id_random_below((uint32_t)all)];
        }
        chaos_round(chaos, ids, BATCH);
    }
    return NULL;
}

static void test_one_at_a_time_in_order_each_once(void **state)
{
    static struct chaos chaos;
    static struct wakeup wakeups[CHAOS_BOXES * CHAOS_JOBS];
    pthread_t threads[CHAOS_THREADS];
    int at = 0;

    (void)state;
    for (int box = 0; box < CHAOS_BOXES; box++) {
        struct sandbox sandbox;

        create_running(&sandbox);
        for (int i = 0; i < CHAOS_JOBS; i++, at++) {
            bool joined;

            accept_op(sandbox.id, i % 2 == 0 ? JOB_PAUSE : JOB_RESUME, false, &wakeups[at],
                      &joined);
            chaos.ids[at] = wakeups[at].job_id;
        }
    }
    for (int i = 0; i < CHAOS_THREADS; i++) {
        pthread_create(&threads[i], NULL, chaos_thread, &chaos);
    }
    for (int i = 0; i < CHAOS_THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    print_message("%d jobs, %d late finishes fenced\n", at, chaos.fenced);
    assert_int_equal(chaos.failures, 0);
    assert_int_equal(chaos.committed, at);
    assert_true(chaos.fenced > 0);
    assert_int_equal(sql("SELECT count(*) FROM jobs WHERE state <> 'done'"), 0);
    assert_int_equal(sql("SELECT count(*) FROM (SELECT seq, lag(seq) OVER (PARTITION BY sandbox_id "
                         "ORDER BY finished_at, seq) AS before FROM jobs) t WHERE before > seq"),
                     0);
    assert_int_equal(sql("SELECT count(*) FROM (SELECT from_status, lag(to_status, 1, '') OVER "
                         "(PARTITION BY sandbox_id ORDER BY id) AS before FROM events) t "
                         "WHERE from_status <> before"),
                     0);
    assert_int_equal(sql("SELECT count(*) FROM sandboxes WHERE status <> 'running'"), 0);
}

/* ---- each job to one claimer ---------------------------------------------------------------- */

struct race {
    const char **ids;
    size_t count;
    atomic_int claims;
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
            atomic_fetch_add(&race->claims, (int)count);
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
    static struct race race = {.ids = ids, .count = JOBS};
    pthread_t threads[THREADS];
    struct sandbox sandbox;

    (void)state;
    for (int i = 0; i < JOBS; i++) {
        new_sandbox(&sandbox, &wakeups[i]);
        ids[i] = wakeups[i].job_id;
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_create(&threads[i], NULL, race_thread, &race);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(race.claims, JOBS);
    assert_int_equal(sql("SELECT max(lease_token) FROM jobs WHERE lease_owner = 'racer'"), 1);
}

/* ---- a job accepted while its predecessor ends ---------------------------------------------- */

struct successor {
    struct sandbox sandbox;
    struct store_finish finish;
    struct wakeup accepted;
    enum job_op op;
    atomic_int ready;
    bool claimed, ok;
};

static void *finish_thread(void *arg)
{
    struct successor *round = arg;
    struct error local = ERROR_INIT;

    meet(&round->ready, 2);
    round->ok = store_jobs_finish(store, &round->finish, 1, "tester", &local) == 0;
    return NULL;
}

/* As a gateway and a worker do: accept, send, claim, forget what cannot be claimed. */
static void *accept_thread(void *arg)
{
    struct successor *round = arg;
    struct error local = ERROR_INIT;
    struct store_claimed *claimed;
    const char *id = round->accepted.job_id;
    size_t count;
    bool joined;

    meet(&round->ready, 2);
    if (try_accept(round->sandbox.id, round->op, true, &round->accepted, &joined, &local) == 0 &&
        store_jobs_claim(store, &id, 1, "tester", 60000, &claimed, &count, &local) == 0) {
        round->claimed = count == 1;
        store_claimed_free(claimed, count);
    }
    return NULL;
}

static void race_successor(struct successor *round, enum job_op op, enum job_state end)
{
    struct store_claimed claimed;
    struct wakeup wakeup;
    pthread_t threads[2];
    bool joined;

    memset(round, 0, sizeof(*round));
    create_running(&round->sandbox);
    accept_op(round->sandbox.id, JOB_PAUSE, true, &wakeup, &joined);
    claim_one(wakeup.job_id, &claimed);
    round->op = op;
    round->finish = finish_of(&claimed, end, SANDBOX_PAUSED);
    if (end == JOB_STATE_RETRY_WAIT) {
        round->finish.change_status = false;
        round->finish.delay_ms = 60000;
    }
    claimed_done(&claimed);
    pthread_create(&threads[0], NULL, finish_thread, round);
    pthread_create(&threads[1], NULL, accept_thread, round);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    assert_true(round->ok);
    assert_false(round->finish.ret_fenced);
}

/* Either the accepted job was claimable when its wake-up came, or the finish wakes it. */
static void test_no_successor_is_left_sleeping(void **state)
{
    enum { ROUNDS = 300 };
    static struct successor round;
    int by_finish = 0;

    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        race_successor(&round, JOB_RESUME, JOB_STATE_DONE);
        if (!round.claimed) {
            assert_true(round.finish.ret_has_next);
            assert_string_equal(round.finish.ret_next.job_id, round.accepted.job_id);
            by_finish++;
        }
    }
    print_message("%d of %d woken by the finish\n", by_finish, ROUNDS);
}

/* However a delete and the end of the running job interleave, no retry runs before the delete. */
static void test_no_delete_waits_for_a_retry(void **state)
{
    enum { ROUNDS = 300 };
    static struct successor round;
    int by_finish = 0;

    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        race_successor(&round, JOB_DELETE, JOB_STATE_RETRY_WAIT);
        if (!round.claimed) {
            assert_int_equal(round.finish.ret_state, JOB_STATE_SUPERSEDED);
            assert_true(round.finish.ret_has_next);
            assert_string_equal(round.finish.ret_next.job_id, round.accepted.job_id);
            assert_true(is_claimable(round.accepted.job_id));
            by_finish++;
        }
    }
    print_message("%d of %d superseded by the finish\n", by_finish, ROUNDS);
    assert_int_equal(sql("SELECT count(*) FROM jobs d JOIN jobs p USING (sandbox_id) WHERE "
                         "d.op = 'delete' AND p.seq < d.seq AND p.state = 'retry_wait'"),
                     0);
}

/* ---- set-timeout against the deadline ------------------------------------------------------- */

enum { DEADLINE_BOXES = 200 };

struct deadlines {
    struct sandbox boxes[DEADLINE_BOXES];
    struct wakeup found[DEADLINE_BOXES];
    atomic_int found_count;
    atomic_bool stop;
    atomic_int failures;
};

static void *reaper_thread(void *arg)
{
    struct deadlines *d = arg;

    while (!atomic_load(&d->stop)) {
        struct error local = ERROR_INIT;
        struct wakeup *wakeups;
        size_t count;

        if (store_reap_deadlines(store, 7, &wakeups, &count, &local) < 0) {
            atomic_fetch_add(&d->failures, 1);
            continue;
        }
        for (size_t i = 0; i < count; i++) {
            int at = atomic_fetch_add(&d->found_count, 1);

            if (at < DEADLINE_BOXES) {
                d->found[at] = wakeups[i];
            }
        }
        free(wakeups);
    }
    return NULL;
}

/* Activity and reapers meet at the deadline: a pause is begun only at a passed deadline, and every
 * sandbox whose deadline passed is paused. */
static void test_activity_against_the_deadline(void **state)
{
    static struct deadlines d;
    pthread_t reapers[2];
    int paused = 0, moved = 0;

    (void)state;
    for (int i = 0; i < DEADLINE_BOXES; i++) {
        create_running(&d.boxes[i]);
    }
    sql("UPDATE sandboxes SET expires_at = now() + interval '1 hour'");
    for (int i = 0; i < DEADLINE_BOXES; i++) {
        sql("UPDATE sandboxes SET expires_at = now() + interval '1 millisecond' * %d WHERE id = "
            "'%s'",
            50 + i, d.boxes[i].id);
    }
    for (int i = 0; i < 2; i++) {
        pthread_create(&reapers[i], NULL, reaper_thread, &d);
    }
    for (int i = 0; i < DEADLINE_BOXES; i++) {
        const char *id = d.boxes[i].id;

        if (i % 2 == 0) {
            OK(store_sandbox_touch(store, &id, 1, &err));
        }
    }
    clock_sleep_ms(600);
    atomic_store(&d.stop, true);
    for (int i = 0; i < 2; i++) {
        pthread_join(reapers[i], NULL);
    }
    assert_int_equal(d.failures, 0);
    assert_int_equal(sql("SELECT count(*) FROM (SELECT sandbox_id FROM jobs WHERE origin = "
                         "'deadline' GROUP BY 1 HAVING count(*) > 1) t"),
                     0);
    for (int i = 0; i < d.found_count; i++) {
        struct store_claimed claimed;

        claim_one(d.found[i].job_id, &claimed);
        if (claimed.deadline_moved) {
            assert_int_equal(claimed.sandbox.status, SANDBOX_RUNNING);
            assert_true(claimed.sandbox.expires_at_ms > clock_wall_ms());
            moved++;
        } else {
            assert_int_equal(claimed.sandbox.status, SANDBOX_PAUSING);
            assert_true(claimed.sandbox.expires_at_ms <= clock_wall_ms());
            paused++;
        }
        claimed_done(&claimed);
    }
    print_message("%d paused, %d moved in time after the reaper had seen them\n", paused, moved);
    assert_int_equal(
        sql("SELECT count(*) FROM sandboxes WHERE status = 'running' AND expires_at <= now()"), 0);
}

/* A deadline job that was inserted first still yields to a later set-timeout's activity. */
static void test_a_deadline_that_moved_does_nothing(void **state)
{
    struct sandbox sandbox, row;
    struct wakeup *found;
    struct store_claimed claimed;
    struct store_finish finish;
    const char *id = sandbox.id;
    size_t count;

    (void)state;
    sql("UPDATE sandboxes SET expires_at = now() + interval '1 hour'");
    create_running(&sandbox);
    sql("UPDATE sandboxes SET expires_at = now() WHERE id = '%s'", sandbox.id);
    OK(store_reap_deadlines(store, 10, &found, &count, &err));
    assert_int_equal(count, 1);
    OK(store_sandbox_touch(store, &id, 1, &err));
    claim_one(found[0].job_id, &claimed);
    assert_true(claimed.deadline_moved);
    finish = finish_of(&claimed, JOB_STATE_SUPERSEDED, SANDBOX_RUNNING);
    finish.change_status = false;
    OK(store_jobs_finish(store, &finish, 1, "tester", &err));
    assert_int_equal(finish.ret_state, JOB_STATE_SUPERSEDED);
    claimed_done(&claimed);
    free(found);
    OK(store_sandbox_get(store, sandbox.id, NULL, true, &row, &err));
    assert_int_equal(row.status, SANDBOX_RUNNING);
    sandbox_done(&row);
    OK(store_reap_deadlines(store, 10, &found, &count, &err));
    assert_int_equal(count, 0);
    free(found);
}

/* ---- throughput ----------------------------------------------------------------------------- */

enum { LOAD_JOBS = 4000, LOAD_THREADS = 4, LOAD_BATCH = 50 };

struct load {
    struct wakeup wakeups[LOAD_JOBS];
    atomic_int next, done;
    atomic_llong claim_us, finish_us;
};

static void *load_thread(void *arg)
{
    struct load *load = arg;

    for (;;) {
        int at = atomic_fetch_add(&load->next, LOAD_BATCH);
        struct error local = ERROR_INIT;
        struct store_claimed *claimed;
        struct store_finish *items;
        const char *ids[LOAD_BATCH];
        size_t count;
        int64_t start;

        if (at >= LOAD_JOBS) {
            return NULL;
        }
        for (int i = 0; i < LOAD_BATCH; i++) {
            ids[i] = load->wakeups[at + i].job_id;
        }
        start = clock_mono_us();
        if (store_jobs_claim(store, ids, LOAD_BATCH, "load", 60000, &claimed, &count, &local) < 0) {
            return NULL;
        }
        atomic_fetch_add(&load->claim_us, clock_mono_us() - start);
        items = xcalloc(count, sizeof(*items));
        for (size_t i = 0; i < count; i++) {
            items[i] = finish_of(&claimed[i], JOB_STATE_DONE, SANDBOX_RUNNING);
        }
        start = clock_mono_us();
        if (store_jobs_finish(store, items, count, "load", &local) == 0) {
            atomic_fetch_add(&load->done, (int)count);
        }
        atomic_fetch_add(&load->finish_us, clock_mono_us() - start);
        free(items);
        store_claimed_free(claimed, count);
    }
}

static void test_throughput(void **state)
{
    static struct load load;
    pthread_t threads[LOAD_THREADS];
    struct sandbox sandbox;
    int64_t start = clock_mono_ms(), accepted;

    (void)state;
    for (int i = 0; i < LOAD_JOBS; i++) {
        new_sandbox(&sandbox, &load.wakeups[i]);
    }
    accepted = clock_mono_ms() - start;
    start = clock_mono_ms();
    for (int i = 0; i < LOAD_THREADS; i++) {
        pthread_create(&threads[i], NULL, load_thread, &load);
    }
    for (int i = 0; i < LOAD_THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    start = clock_mono_ms() - start;
    assert_int_equal(load.done, LOAD_JOBS);
    print_message("accepted %lld/s on 1 connection; claimed and finished %lld/s on %d (batch of "
                  "%d: claim %.1f ms, finish %.1f ms)\n",
                  (long long)LOAD_JOBS * 1000 / (long long)(accepted + 1),
                  (long long)LOAD_JOBS * 1000 / (long long)(start + 1), LOAD_THREADS, LOAD_BATCH,
                  (double)load.claim_us / 1000 / ((double)LOAD_JOBS / LOAD_BATCH),
                  (double)load.finish_us / 1000 / ((double)LOAD_JOBS / LOAD_BATCH));
}

/* ---- combined reads ------------------------------------------------------------------------ */

enum { READ_THREADS = 16, READ_ROUNDS = 150, READ_BOXES = 4 };

struct readers {
    const struct sandbox *sandboxes; /* READ_BOXES of alice's */
    char deleted[UUID_BYTES];
    atomic_int ready, next, wrong;
};

static bool read_is(const char *id, const char *owner, bool admin, enum error_code expected)
{
    struct error local = ERROR_INIT;
    struct sandbox row;
    bool right;

    if (store_sandbox_get(store, id, owner, admin, &row, &local) < 0) {
        return local.code == expected;
    }
    right = expected == 0 && strcmp(row.id, id) == 0 && strcmp(row.owner, "alice") == 0 &&
            row.metadata_json != NULL && strstr(row.metadata_json, "\"v\"") != NULL;
    free(row.metadata_json);
    return right;
}

static void *read_thread(void *arg)
{
    struct readers *readers = arg;
    int self = atomic_fetch_add(&readers->next, 1);

    meet(&readers->ready, READ_THREADS);
    for (int i = 0; i < READ_ROUNDS; i++) {
        const char *id = readers->sandboxes[(self + i) % READ_BOXES].id;
        bool right = false;

        switch ((self + i) % 5) {
        case 0:
            right = read_is(id, "alice", false, 0);
            break;
        case 1:
            right = read_is(id, "bob", false, ERR_SANDBOX_NOT_FOUND);
            break;
        case 2:
            right = read_is(id, "bob", true, 0);
            break;
        case 3:
            right = read_is(readers->deleted, NULL, true, ERR_SANDBOX_NOT_FOUND);
            break;
        default:
            right = read_is("no-uuid", "alice", false, ERR_INVALID);
            break;
        }
        if (!right) {
            atomic_fetch_add(&readers->wrong, 1);
        }
    }
    return NULL;
}

/* Another's sandbox, a deleted one and a malformed id fail their own read and nobody else's. */
static void test_combined_reads_give_each_caller_its_own_answer(void **state)
{
    struct sandbox sandboxes[READ_BOXES], deleted;
    struct readers readers = {.sandboxes = sandboxes};
    pthread_t threads[READ_THREADS];
    struct wakeup wakeup;

    (void)state;
    for (int i = 0; i < READ_BOXES; i++) {
        new_sandbox(&sandboxes[i], &wakeup);
    }
    new_sandbox(&deleted, &wakeup);
    str_copy(readers.deleted, sizeof(readers.deleted), deleted.id);
    sql("UPDATE sandboxes SET status = 'deleted' WHERE id = '%s'", deleted.id);
    for (int i = 0; i < READ_THREADS; i++) {
        pthread_create(&threads[i], NULL, read_thread, &readers);
    }
    for (int i = 0; i < READ_THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(readers.wrong, 0);
}

/* A read that is asked for after a commit sees it, whichever statement it shares. */
static void *read_own_write_thread(void *arg)
{
    atomic_int *stale = arg;
    struct error local = ERROR_INIT;
    struct sandbox sandbox, row;
    struct wakeup wakeup;

    for (int i = 0; i < 20; i++) {
        if (try_new_sandbox(&sandbox, &wakeup, &local) < 0 ||
            store_sandbox_get(store, sandbox.id, "alice", false, &row, &local) < 0) {
            atomic_fetch_add(stale, 1);
            continue;
        }
        free(row.metadata_json);
    }
    return NULL;
}

static void test_combined_reads_see_what_their_caller_committed(void **state)
{
    pthread_t threads[READ_THREADS];
    atomic_int stale = 0;

    (void)state;
    for (int i = 0; i < READ_THREADS; i++) {
        pthread_create(&threads[i], NULL, read_own_write_thread, &stale);
    }
    for (int i = 0; i < READ_THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(stale, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_at_a_time_in_order_each_once),
        cmocka_unit_test(test_eight_claimers_claim_each_job_once),
        cmocka_unit_test(test_no_successor_is_left_sleeping),
        cmocka_unit_test(test_no_delete_waits_for_a_retry),
        cmocka_unit_test(test_activity_against_the_deadline),
        cmocka_unit_test(test_a_deadline_that_moved_does_nothing),
        cmocka_unit_test(test_combined_reads_give_each_caller_its_own_answer),
        cmocka_unit_test(test_combined_reads_see_what_their_caller_committed),
        cmocka_unit_test(test_throughput),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
