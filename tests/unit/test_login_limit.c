/*
 * test_login_limit - sliding windows of failed logins, with a clock moved by hand.
 *
 * Failure: cmocka.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <sodium.h>

#include "common/base/clock.h"
#include "gateway/login_limit.h"

enum { USER_MAX = 5, ADDRESS_MAX = 20, WINDOW_S = 60 };

static int fresh(void **state)
{
    *state = login_limit_new(USER_MAX, ADDRESS_MAX, WINDOW_S);
    return sodium_init() < 0;
}

static int done(void **state)
{
    login_limit_free(*state);
    return 0;
}

static void test_user_is_limited(void **state)
{
    struct login_limit *limit = *state;
    char address[32];

    for (int i = 0; i < USER_MAX; i++) {
        snprintf(address, sizeof(address), "10.0.0.%d", i);
        assert_int_equal(login_limit_take(limit, "alice", address), 0);
    }
    assert_in_range(login_limit_take(limit, "alice", "10.0.0.99"), WINDOW_S - 1, WINDOW_S);
    assert_int_equal(login_limit_take(limit, "bob", "10.0.0.99"), 0);
}

static void test_address_is_limited(void **state)
{
    struct login_limit *limit = *state;
    char user[32];

    for (int i = 0; i < ADDRESS_MAX; i++) {
        snprintf(user, sizeof(user), "user%d", i);
        assert_int_equal(login_limit_take(limit, user, "10.0.0.1"), 0);
    }
    assert_true(login_limit_take(limit, "somebody", "10.0.0.1") > 0);
    assert_int_equal(login_limit_take(limit, "somebody", "10.0.0.2"), 0);
}

/* A user named like an address shares nothing with it. */
static void test_names_and_addresses_are_apart(void **state)
{
    struct login_limit *limit = *state;

    for (int i = 0; i < USER_MAX; i++)
        assert_int_equal(login_limit_take(limit, "10.0.0.1", "10.0.0.7"), 0);
    assert_int_equal(login_limit_take(limit, "alice", "10.0.0.1"), 0);
}

static void test_window_slides(void **state)
{
    struct login_limit *limit = *state;

    for (int i = 0; i < USER_MAX; i++) {
        assert_int_equal(login_limit_take(limit, "alice", "10.0.0.1"), 0);
        clock_test_advance_ms(10000);
    }
    /* the first is 50 s old */
    assert_in_range(login_limit_take(limit, "alice", "10.0.0.1"), 9, 10);
    clock_test_advance_ms(10100);
    assert_int_equal(login_limit_take(limit, "alice", "10.0.0.1"), 0);
    assert_in_range(login_limit_take(limit, "alice", "10.0.0.1"), 9, 10);
    /* refused attempts were not counted: after a quiet window all is open again */
    clock_test_advance_ms(WINDOW_S * 1000);
    for (int i = 0; i < USER_MAX; i++)
        assert_int_equal(login_limit_take(limit, "alice", "10.0.0.1"), 0);
    assert_true(login_limit_take(limit, "alice", "10.0.0.1") > 0);
}

static void test_success_forgets(void **state)
{
    struct login_limit *limit = *state;

    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < USER_MAX - 1; i++)
            assert_int_equal(login_limit_take(limit, "alice", "10.0.1.1"), 0);
        assert_int_equal(login_limit_take(limit, "alice", "10.0.1.1"), 0);
        login_limit_give_back(limit, "alice", "10.0.1.1", LOGIN_LIMIT_SUCCESS);
        clock_test_advance_ms(WINDOW_S * 1000 + 1);
    }
}

/* The address keeps the failures of other names: one's own account cannot wash it clean. */
static void test_success_does_not_clear_the_address(void **state)
{
    struct login_limit *limit = *state;
    char user[32];
    int refused = 0;

    for (int i = 0; i < ADDRESS_MAX + 5; i++) {
        snprintf(user, sizeof(user), "victim%d", i);
        refused += login_limit_take(limit, user, "10.0.0.1") > 0;
        if (login_limit_take(limit, "mallory", "10.0.0.1") == 0)
            login_limit_give_back(limit, "mallory", "10.0.0.1", LOGIN_LIMIT_SUCCESS);
    }
    assert_int_equal(refused, 5);
}

static void test_not_tried_gives_back_one(void **state)
{
    struct login_limit *limit = *state;

    for (int i = 0; i < USER_MAX; i++)
        assert_int_equal(login_limit_take(limit, "alice", "10.0.0.1"), 0);
    login_limit_give_back(limit, "alice", "10.0.0.1", LOGIN_LIMIT_NOT_TRIED);
    assert_int_equal(login_limit_take(limit, "alice", "10.0.0.1"), 0);
    assert_true(login_limit_take(limit, "alice", "10.0.0.1") > 0);
    login_limit_give_back(limit, "unseen", "10.9.9.9", LOGIN_LIMIT_NOT_TRIED);
}

/* Far more keys than places: memory stays, fresh keys are served, a key in use is not the one
 * forgotten. */
static void test_table_is_bounded(void **state)
{
    struct login_limit *limit = login_limit_new(USER_MAX, 1000000, WINDOW_S);
    char user[32];

    (void)state;
    for (int i = 0; i < 50000; i++) {
        snprintf(user, sizeof(user), "user%d", i);
        assert_int_equal(login_limit_take(limit, user, "10.0.0.1"), 0);
        clock_test_advance_ms(i % 10 == 0);
    }
    for (int i = 0; i < USER_MAX; i++)
        assert_int_equal(login_limit_take(limit, "alice", "10.0.0.1"), 0);
    assert_true(login_limit_take(limit, "alice", "10.0.0.1") > 0);
    login_limit_free(limit);
}

static _Atomic int let_in;

static void *try_many(void *arg)
{
    for (int i = 0; i < 200; i++)
        if (login_limit_take(arg, "alice", "10.0.0.1") == 0)
            atomic_fetch_add(&let_in, 1);
    return NULL;
}

static void test_threads_share_one_count(void **state)
{
    pthread_t threads[8];

    atomic_store(&let_in, 0);
    for (int i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, try_many, *state), 0);
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&let_in), USER_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_user_is_limited, fresh, done),
        cmocka_unit_test_setup_teardown(test_address_is_limited, fresh, done),
        cmocka_unit_test_setup_teardown(test_names_and_addresses_are_apart, fresh, done),
        cmocka_unit_test_setup_teardown(test_window_slides, fresh, done),
        cmocka_unit_test_setup_teardown(test_success_forgets, fresh, done),
        cmocka_unit_test_setup_teardown(test_success_does_not_clear_the_address, fresh, done),
        cmocka_unit_test_setup_teardown(test_not_tried_gives_back_one, fresh, done),
        cmocka_unit_test(test_table_is_bounded),
        cmocka_unit_test_setup_teardown(test_threads_share_one_count, fresh, done),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
