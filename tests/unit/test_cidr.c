/* Sets of IPv4 networks, as the sandbox host's egress rules are computed with them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/cidr.h"
#include "common/base/id.h"

static struct cidr network(const char *text)
{
    struct cidr parsed = {.bits = -1};

    assert_true(cidr_parse(text, strlen(text), &parsed));
    return parsed;
}

static void test_parse(void **state)
{
    static const char *const bad[] = {"",           "1.2.3",       "1.2.3.4/",  "1.2.3.4/33",
                                      "1.2.3.4/-1", "a.b.c.d",     "1.2.3.256", "1.2.3.4/1x",
                                      "::1",        "1.2.3.4/100", " 1.2.3.4",  "example.com"};
    struct cidr parsed;

    (void)state;
    parsed = network("10.1.2.3/8");
    assert_int_equal(parsed.address, 0x0a000000);
    assert_int_equal(parsed.bits, 8);
    parsed = network("1.2.3.4");
    assert_int_equal(parsed.address, 0x01020304);
    assert_int_equal(parsed.bits, 32);
    assert_int_equal(network("9.9.9.9/0").address, 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(cidr_parse(bad[i], strlen(bad[i]), &parsed));
    }
}

static bool in_set(const struct cidr_set *set, uint32_t address)
{
    for (size_t i = 0; i < set->count; i++) {
        if (cidr_contains(set->list[i], (struct cidr){.address = address, .bits = 32})) {
            return true;
        }
    }
    return false;
}

/* What is left after taking networks out, address by address, against the plain definition. */
static void test_subtract_leaves_exactly_the_rest(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    for (int round = 0; round < 300; round++) {
        struct cidr_set set = {.list = NULL};
        struct cidr put[4], taken[4];

        for (int i = 0; i < 4; i++) {
            put[i] = (struct cidr){.bits = (int)id_random_below(9) + 24};
            taken[i] = (struct cidr){.bits = (int)id_random_below(9) + 24};
            put[i].address =
                (0x0a000000 + id_random_below(512)) & (UINT32_MAX << (32 - put[i].bits));
            taken[i].address =
                (0x0a000000 + id_random_below(512)) & (UINT32_MAX << (32 - taken[i].bits));
            assert_int_equal(cidr_set_add(&set, put[i], &err), 0);
        }
        for (int i = 0; i < 4; i++) {
            assert_int_equal(cidr_set_subtract(&set, taken[i], &err), 0);
        }
        for (uint32_t address = 0x0a000000; address < 0x0a000000 + 768; address++) {
            const struct cidr one = {.address = address, .bits = 32};
            bool wanted = false;

            for (int i = 0; i < 4; i++) {
                wanted = wanted || cidr_contains(put[i], one);
            }
            for (int i = 0; i < 4; i++) {
                wanted = wanted && !cidr_contains(taken[i], one);
            }
            assert_int_equal(in_set(&set, address), wanted);
        }
        cidr_set_done(&set);
    }
}

static void test_the_whole_internet_but_one(void **state)
{
    struct error err = ERROR_INIT;
    struct cidr_set set = {.list = NULL};

    (void)state;
    assert_int_equal(cidr_set_add(&set, network("0.0.0.0/0"), &err), 0);
    assert_int_equal(cidr_set_subtract(&set, network("8.8.8.8"), &err), 0);
    assert_int_equal(set.count, 32);
    assert_false(in_set(&set, 0x08080808));
    assert_true(in_set(&set, 0x08080809) && in_set(&set, 0) && in_set(&set, UINT32_MAX));
    assert_int_equal(cidr_set_subtract(&set, network("0.0.0.0/0"), &err), 0);
    assert_int_equal(set.count, 0);
    cidr_set_done(&set);
}

static void test_lists_and_bounds(void **state)
{
    struct error err = ERROR_INIT;
    struct cidr_set set = {.list = NULL};

    (void)state;
    assert_int_equal(cidr_set_add_list(&set, " 10.0.0.0/8,, 192.168.0.0/16 10.1.0.0/16 ", &err), 0);
    assert_int_equal(set.count, 2); /* the third lies in the first */
    assert_int_equal(cidr_set_add_list(&set, "1.2.3.4,nonsense", &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_non_null(strstr(err.message, "nonsense"));
    for (uint32_t i = 0; i < CIDR_SET_MAX - 3; i++) {
        const struct cidr one = {.address = 0xc0000000 + i, .bits = 32};

        assert_int_equal(cidr_set_add(&set, one, &err), 0);
    }
    assert_int_equal(cidr_set_add(&set, network("200.0.0.1"), &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    cidr_set_done(&set);
}

static void test_a_client_is_an_ipv4_address_or_an_ipv6_64(void **state)
{
    static const char *const table[][2] = {
        {"192.0.2.7", "192.0.2.7"},
        {"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"},
        {"2001:db8:1:2::", "2001:db8:1:2::/64"},
        {"2001:db8:1:3::1", "2001:db8:1:3::/64"},
        {"::ffff:192.0.2.7", "192.0.2.7"},
        {"::1", "::/64"},
        {"unix", "unix"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char client[CIDR_CLIENT_BYTES];

        cidr_client(table[i][0], client);
        assert_string_equal(client, table[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_subtract_leaves_exactly_the_rest),
        cmocka_unit_test(test_the_whole_internet_but_one),
        cmocka_unit_test(test_lists_and_bounds),
        cmocka_unit_test(test_a_client_is_an_ipv4_address_or_an_ipv6_64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
