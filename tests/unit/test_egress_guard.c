/* egress_guard: a caller's URL reaches public addresses and what the operator names, nothing else.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/egress_guard.h"

static bool allows(const struct egress_guard *guard, const char *text)
{
    struct sockaddr_storage address = {0};
    struct sockaddr_in four = {.sin_family = AF_INET};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6};

    if (inet_pton(AF_INET, text, &four.sin_addr) == 1) {
        memcpy(&address, &four, sizeof(four));
    } else {
        assert_int_equal(inet_pton(AF_INET6, text, &six.sin6_addr), 1);
        memcpy(&address, &six, sizeof(six));
    }
    return egress_guard_allows(guard, (const struct sockaddr *)&address);
}

static void test_only_public_addresses_are_reached(void **state)
{
    static const char *const refused[] = {
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.1.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "192.0.2.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::a00:1",
        "fc00::1",
        "fd12::1",
        "fe80::1",
        "ff02::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2001::1",
        "3fff:1::1",
    };
    static const char *const reached[] = {"1.1.1.1",        "9.255.255.255",   "11.0.0.1",
                                          "172.32.0.1",     "100.128.0.1",     "223.255.255.255",
                                          "::ffff:8.8.8.8", "2606:4700::1111", "2a00::1"};
    struct error err = ERROR_INIT;
    struct egress_guard guard;

    (void)state;
    assert_int_equal(egress_guard_init(&guard, "", &err), 0);
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        if (allows(&guard, refused[i])) {
            fail_msg("%s must not be reached", refused[i]);
        }
    }
    for (size_t i = 0; i < sizeof(reached) / sizeof(reached[0]); i++) {
        if (!allows(&guard, reached[i])) {
            fail_msg("%s is public", reached[i]);
        }
    }
    egress_guard_done(&guard);
}

static void test_the_operator_names_networks(void **state)
{
    struct error err = ERROR_INIT;
    struct egress_guard guard;

    (void)state;
    assert_int_equal(egress_guard_init(&guard, "127.0.0.0/8, 10.1.0.0/16", &err), 0);
    assert_true(allows(&guard, "127.0.0.1") && allows(&guard, "::ffff:10.1.2.3"));
    assert_false(allows(&guard, "10.2.0.1") || allows(&guard, "::1"));
    egress_guard_done(&guard);
    assert_int_equal(egress_guard_init(&guard, "10.0.0.0/33", &err), -1);
    assert_int_equal(err.code, ERR_CONFIG);
}

static void test_what_is_no_ip_address_is_refused(void **state)
{
    const struct sockaddr local = {.sa_family = AF_UNIX};
    struct error err = ERROR_INIT;
    struct egress_guard guard;

    (void)state;
    assert_int_equal(egress_guard_init(&guard, NULL, &err), 0);
    assert_false(egress_guard_allows(&guard, &local));
    egress_guard_done(&guard);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_public_addresses_are_reached),
        cmocka_unit_test(test_the_operator_names_networks),
        cmocka_unit_test(test_what_is_no_ip_address_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
