/*
 * test_waiters - waiting without Redis: the poll of PostgreSQL finds every job that has ended,
 * however many others are waited for.
 */
#include "tests/integration/store_fixture.h"

#include "gateway/work/waiter.h"

enum { ENDED = 6, UNFINISHED = 2000, PATIENCE_MS = 30000 };

static void test_each_waiter_has_its_turn(void **state)
{
    /* nothing listens there: no reply ever comes */
    const struct queue_options redis = {.host = "127.0.0.1", .port = 1};
    struct waiters *waiters = waiters_start(&redis, store, "test_waiters", &err);
    struct waiter *others = xcalloc(UNFINISHED, sizeof(*others));
    struct waiter ended[ENDED];

    (void)state;
    assert_non_null(waiters);
    for (int i = 0; i < UNFINISHED; i++) {
        char job_id[UUID_BYTES];

        id_uuid(job_id); /* of no job: never ends */
        waiter_add(waiters, &others[i], job_id);
        waiter_change_job(waiters, &others[i], job_id);
    }
    for (int i = 0; i < ENDED; i++) {
        struct sandbox sandbox;
        struct wakeup wakeup;

        new_sandbox(&sandbox, &wakeup);
        run_job(wakeup.job_id, SANDBOX_RUNNING);
        waiter_add(waiters, &ended[i], wakeup.job_id);
        waiter_change_job(waiters, &ended[i], wakeup.job_id);
    }
    for (int i = 0; i < ENDED; i++) {
        assert_true(waiter_wait(waiters, &ended[i], PATIENCE_MS));
        waiter_remove(waiters, &ended[i]);
    }
    assert_int_equal(waiters_count(waiters), UNFINISHED);
    for (int i = 0; i < UNFINISHED; i++) {
        assert_false(others[i].done);
        waiter_remove(waiters, &others[i]);
    }
    waiters_stop(waiters);
    free(others);
}

static int open_fixture(void **state)
{
    (void)state;
    fixture_open("test_waiters");
    return 0;
}

static int close_fixture(void **state)
{
    (void)state;
    fixture_close();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_waiter_has_its_turn),
    };

    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
