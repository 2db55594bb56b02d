/*
 * test_login_limit - failed logins slow down what follows them, with a clock moved by hand.
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
#include "gateway/auth/login_limit.h"

enum { PAIR_MAX = 5, ADDRESS_MAX = 20, WINDOW_S = 60, DELAY_MAX_S = 8 };

static int fresh(void **state)
{
    *state = login_limit_new(PAIR_MAX, ADDRESS_MAX, WINDOW_S, DELAY_MAX_S);
    return sodium_init() < 0;
}

static int done(void **state)
{
    login_limit_free(*state);
    return 0;
}

/* A stranger's failures slow down the stranger, not the user elsewhere. */
static void test_pair_is_limited(void **state)
{
    struct login_limit *limit = *state;

    for (int i = 0; i < PAIR_MAX; i++)
        assert_int_equal(login_limit_take(limit, "alice", "10.0.0.1"), 0);
    assert_int_equal(login_limit_take(limit, "alice", "10.0.0.1"), 1);
    assert_int_equal(login_limit_take(limit, "alice", "10.0.0.2"), 0);
    assert_int_equal(login_limit_take(limit, "bob", "10.0.0.1"), 0);
}

/* Each attempt at the limit doubles the wait for the next, up to the maximum; none is locked out.
 */
static void test_attempts_are_spaced(void **state)
{
    static const int waits_s[] = {1, 2, 4, 8, 8, 8};
    struct login_limit *limit = *state;

    for (int i = 0; i < PAIR_MAX; i++)
        assert_int_equal(login_limit_take(limit, "alice", "10.0.0.1"), 0);
    for (size_t i = 0; i < sizeof(waits_s) / sizeof(waits_s[0]); i++) {
        assert_int_equal(login_limit_take(limit, "alice", "10.0.0.1"), waits_s[i]);
        clock_test_advance_ms(waits_s[i] * 1000 - 10);
        assert_int_equal(login_limit_take(limit, "alice", "10.0.0.1"), 1);
        clock_test_advance_ms(10);
        assert_int_equal(login_limit_take(limit, "alice", "10.0.0.1"), 0);
    }
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

static void test_a_64_is_one_address(void **state)
{
    struct login_limit *limit = *state;
    char address[64];

    for (int i = 0; i < ADDRESS_MAX; i++) {
        char user[32];

        snprintf(user, sizeof(user), "user%d", i);
        snprintf(address, sizeof(address), "2001:db8:0:1:%x::%x", i, i);
        assert_int_equal(login_limit_take(limit, user, address), 0);
    }
    assert_true(login_limit_take(limit, "somebody", "2001:db8:0:1::1") > 0);
    assert_int_equal(login_limit_take(limit, "somebody", "2001:db8:0:2::1"), 0);
}

/* A user named like an address shares nothing with it. */
static void test_names_and_addresses_are_apart(void **state)
{
    struct login_limit *limit = *state;

    for (int i = 0; i < ADDRESS_MAX; i++)
        (void)login_limit_take(limit, "10.0.0.1", "10.0.0.7");
    assert_int_equal(login_limit_take(limit, "alice", "10.0.0.1"), 0);
    assert_int_equal(login_limit_take(limit, "0.0.7", "10."), 0);
}

static void test_window_slides(void **state)
{
    struct login_limit *limit = *state;

    for (int i = 0; i < PAIR_MAX; i++) {
        assert_int_equal(login_limit_take(limit, "alice", "10.0.0.1"), 0);
        clock_test_advance_ms(i < PAIR_MAX - 1 ? 10000 : 0);
    }
    assert_int_equal(login_limit_take(limit, "alice", "10.0.0.1"), 1);
    clock_test_advance_ms(32000);
    /* the first two are over 60 s old */
    for (int i = 0; i < 2; i++)
        assert_int_equal(login_limit_take(limit, "alice", "10.0.0.1"), 0);
    assert_true(login_limit_take(limit, "alice", "10.0.0.1") > 0);
    /* after a quiet window all is open again, and the first wait is the shortest */
    clock_test_advance_ms(WINDOW_S * 1000);
    for (int i = 0; i < PAIR_MAX; i++)
        assert_int_equal(login_limit_take(limit, "alice", "10.0.0.1"), 0);
    assert_int_equal(login_limit_take(limit, "alice", "10.0.0.1"), 1);
}

/* Made in spite of the limit and wrong: it lengthens the wait like any other. */
static void test_forced_attempts_count(void **state)
{
    struct login_limit *limit = *state;

    for (int i = 0; i < PAIR_MAX; i++)
        assert_int_equal(login_limit_take(limit, "alice", "10.0.0.1"), 0);
    assert_int_equal(login_limit_take(limit, "alice", "10.0.0.1"), 1);
    login_limit_count(limit, "alice", "10.0.0.1");
    assert_int_equal(login_limit_take(limit, "alice", "10.0.0.1"), 2);
    login_limit_count(limit, "alice", "10.0.0.1");
    login_limit_give_back(limit, "alice", "10.0.0.1", LOGIN_LIMIT_SUCCESS);
    assert_int_equal(login_limit_take(limit, "alice", "10.0.0.1"), 0);
}

static void test_success_forgets(void **state)
{
    struct login_limit *limit = *state;

    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < PAIR_MAX - 1; i++)
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
    assert_int_equal(refused, 5); /* the clock stands still: none of their waits ends */
}

static void test_not_tried_gives_back_one(void **state)
{
    struct login_limit *limit = *state;

    for (int i = 0; i < PAIR_MAX; i++)
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
    struct login_limit *limit = login_limit_new(PAIR_MAX, 1000000, WINDOW_S, DELAY_MAX_S);
    char user[32];

    (void)state;
    for (int i = 0; i < 50000; i++) {
        snprintf(user, sizeof(user), "user%d", i);
        assert_int_equal(login_limit_take(limit, user, "10.0.0.1"), 0);
        clock_test_advance_ms(i % 10 == 0);
    }
    for (int i = 0; i < PAIR_MAX; i++)
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
    assert_int_equal(atomic_load(&let_in), PAIR_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_pair_is_limited, fresh, done),
        cmocka_unit_test_setup_teardown(test_attempts_are_spaced, fresh, done),
        cmocka_unit_test_setup_teardown(test_address_is_limited, fresh, done),
        cmocka_unit_test_setup_teardown(test_a_64_is_one_address, fresh, done),
        cmocka_unit_test_setup_teardown(test_names_and_addresses_are_apart, fresh, done),
        cmocka_unit_test_setup_teardown(test_window_slides, fresh, done),
        cmocka_unit_test_setup_teardown(test_forced_attempts_count, fresh, done),
        cmocka_unit_test_setup_teardown(test_success_forgets, fresh, done),
        cmocka_unit_test_setup_teardown(test_success_does_not_clear_the_address, fresh, done),
        cmocka_unit_test_setup_teardown(test_not_tried_gives_back_one, fresh, done),
        cmocka_unit_test(test_table_is_bounded),
        cmocka_unit_test_setup_teardown(test_threads_share_one_count, fresh, done),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
