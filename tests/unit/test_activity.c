/*
 * test_activity - what is owed while the database is away.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/work/activity.h"

/* A port on which nothing listens: every write fails. */
static struct store *absent_store(void)
{
    const struct store_options options = {.conninfo = "host=127.0.0.1 port=1 dbname=none",
                                          .application = "test_activity",
                                          .pool_size = 1,
                                          .connect_timeout_s = 2,
                                          .statement_timeout_ms = 1000,
                                          .pool_wait_ms = 1000};

    return store_new(&options);
}

static void test_nothing_is_owed_without_a_call(void **state)
{
    struct store *store = absent_store();
    struct activity *activity = activity_new(store);
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(activity_flush(activity, &err), 0);
    activity_free(activity);
    store_free(store);
}

/* A call that has ended is written when the database is back, however long that takes. */
static void test_what_could_not_be_written_stays_owed(void **state)
{
    const struct sandbox sandbox = {.id = "29ef1923-20e4-4e41-9d76-1fffafbaaaeb",
                                    .timeout_mode = TIMEOUT_ABSOLUTE,
                                    .timeout_ms = 60000};
    struct store *store = absent_store();
    struct activity *activity = activity_new(store);
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(activity_begin(activity, &sandbox, &err), 0);
    activity_end(activity, sandbox.id);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(activity_flush(activity, &err), -1);
        assert_int_equal(err.code, ERR_DATABASE_DOWN);
    }
    activity_free(activity);
    store_free(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_owed_without_a_call),
        cmocka_unit_test(test_what_could_not_be_written_stays_owed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
