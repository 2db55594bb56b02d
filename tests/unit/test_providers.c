/* The list of providers: names, lifetimes, the syntax of SANDBOX_PROVIDERS. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/domain/providers.h"
#include "common/domain/types.h"

static void test_every_name_parses_back(void **state)
{
    (void)state;
    for (int i = 0; i < PROVIDER_KIND_COUNT; i++) {
        enum provider_kind kind = PROVIDER_KIND_COUNT;
        assert_int_equal(provider_kind_parse(provider_kind_name((enum provider_kind)i), &kind), 0);
        assert_int_equal(kind, i);
        assert_true(strlen(provider_kind_name(kind)) < PROVIDER_BYTES);
    }
    enum provider_kind kind;
    assert_int_equal(provider_kind_parse("e2", &kind), -1);
    assert_int_equal(provider_kind_parse("", &kind), -1);
}

static void test_lifetimes_come_from_the_environment(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct provider_lifetimes lifetimes;
    unsetenv("DAYTONA_MAX_TIMEOUT_SECONDS");
    setenv("E2B_MAX_TIMEOUT_SECONDS", "86400", 1);
    assert_int_equal(config_load(provider_lifetime_config, PROVIDER_KIND_COUNT, &lifetimes, &err),
                     0);
    assert_int_equal(lifetimes.max_s[PROVIDER_KIND_e2b], 86400);
    assert_true(lifetimes.max_s[PROVIDER_KIND_daytona] > INT64_C(3600) * 24 * 365);
    setenv("E2B_MAX_TIMEOUT_SECONDS", "1", 1);
    assert_int_equal(config_load(provider_lifetime_config, PROVIDER_KIND_COUNT, &lifetimes, &err),
                     -1);
    assert_non_null(strstr(err.message, "E2B_MAX_TIMEOUT_SECONDS"));
    unsetenv("E2B_MAX_TIMEOUT_SECONDS");
}

static void test_labels_come_from_the_environment(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct provider_labels labels;
    unsetenv("DAYTONA_NAME");
    unsetenv("E2B_NAME");
    assert_int_equal(provider_labels_load(&labels, &err), 0);
    assert_string_equal(labels.of[PROVIDER_KIND_e2b], "e2b");
    provider_labels_free(&labels);
    setenv("E2B_NAME", "local", 1);
    assert_int_equal(provider_labels_load(&labels, &err), 0);
    assert_string_equal(labels.of[PROVIDER_KIND_e2b], "local");
    assert_string_equal(labels.of[PROVIDER_KIND_daytona], "daytona");
    provider_labels_free(&labels);
    const char *const malformed[] = {"Local", "a b", "a\"b", "12345678901234567890123456789012"};
    for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++) {
        setenv("E2B_NAME", malformed[i], 1);
        assert_int_equal(provider_labels_load(&labels, &err), -1);
        assert_non_null(strstr(err.message, "E2B_NAME"));
    }
    setenv("E2B_NAME", "daytona", 1);
    assert_int_equal(provider_labels_load(&labels, &err), -1);
    assert_non_null(strstr(err.message, "DAYTONA_NAME"));
    unsetenv("E2B_NAME");
}

static void test_list(void **state)
{
    (void)state;
    const char *cursor = " e2b ,, daytona\t,";
    char name[8];
    assert_int_equal(provider_list_next(&cursor, name, sizeof(name)), 1);
    assert_string_equal(name, "e2b");
    assert_int_equal(provider_list_next(&cursor, name, sizeof(name)), 1);
    assert_string_equal(name, "daytona");
    assert_int_equal(provider_list_next(&cursor, name, sizeof(name)), 0);
    cursor = "12345678,e2b";
    assert_int_equal(provider_list_next(&cursor, name, sizeof(name)), -1);
    assert_int_equal(provider_list_next(&cursor, name, sizeof(name)), 1);
    assert_string_equal(name, "e2b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_name_parses_back),
        cmocka_unit_test(test_lifetimes_come_from_the_environment),
        cmocka_unit_test(test_labels_come_from_the_environment),
        cmocka_unit_test(test_list),
    };
    return cmocka_run_group_tests_name("providers", tests, NULL, NULL);
}
