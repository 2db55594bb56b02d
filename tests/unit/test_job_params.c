/* jobs.params: what is written is read back, and what nobody writes is refused by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/domain/job_params.h"

static struct error err;

static void test_nothing_given_is_all_defaults(void **state)
{
    static const char *const empty[] = {NULL, "", "{}", "{\"unknown\":[1,2]}"};

    (void)state;
    for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++) {
        struct job_params params;

        assert_int_equal(job_params_parse(empty[i], &params, &err), 0);
        assert_int_equal(params.timeout_ms, 0);
        assert_false(params.has_on_timeout);
        assert_false(params.extend_provider);
        assert_false(params.only_extend || params.ends_deadline);
        assert_string_equal(params.reason, "");
        assert_null(params.envs);
        job_params_done(&params);
    }
}

static void test_round_trip(void **state)
{
    struct job_params params = {.timeout_ms = 86400000,
                                .has_on_timeout = true,
                                .on_timeout = ON_TIMEOUT_DELETE,
                                .extend_provider = true,
                                .only_extend = true,
                                .ends_deadline = true,
                                .envs = cJSON_CreateObject(),
                                .places = {{"e2b", "py"}, {"daytona", ""}},
                                .place_count = 2},
                      back;
    char *text;

    (void)state;
    str_copy(params.reason, sizeof(params.reason), "why \"not\" \xc3\xa9");
    cJSON_AddStringToObject(params.envs, "A", "1\n2");
    cJSON_AddStringToObject(params.envs, "EMPTY", "");
    text = job_params_format(&params);
    assert_int_equal(job_params_parse(text, &back, &err), 0);
    assert_int_equal(back.timeout_ms, params.timeout_ms);
    assert_true(back.has_on_timeout);
    assert_int_equal(back.on_timeout, ON_TIMEOUT_DELETE);
    assert_true(back.extend_provider && back.only_extend && back.ends_deadline);
    assert_string_equal(back.reason, params.reason);
    assert_true(cJSON_Compare(back.envs, params.envs, true));
    assert_int_equal(back.place_count, 2);
    assert_memory_equal(back.places, params.places, sizeof(params.places));
    free(text);
    job_params_done(&params);
    job_params_done(&back);
    job_params_done(&back);
}

static void test_defaults_are_not_written(void **state)
{
    struct job_params params = {0};
    char *text = job_params_format(&params);

    (void)state;
    assert_string_equal(text, "{}");
    free(text);
}

static void test_wrong_ones_are_refused_by_name(void **state)
{
    static const struct {
        const char *text, *field;
    } cases[] = {
        {"{\"timeout_ms\":\"1\"}", "timeout_ms"},
        {"{\"timeout_ms\":-1}", "timeout_ms"},
        {"{\"timeout_ms\":1.5}", "timeout_ms"},
        {"{\"timeout_ms\":86400001}", "timeout_ms"},
        {"{\"on_timeout\":\"explode\"}", "on_timeout"},
        {"{\"on_timeout\":1}", "on_timeout"},
        {"{\"extend_provider\":\"yes\"}", "extend_provider"},
        {"{\"reason\":7}", "reason"},
        {"{\"envs\":[]}", "envs"},
        {"{\"envs\":{\"A\":1}}", "envs"},
        {"{\"envs\":{\"\":\"x\"}}", "envs"},
        {"{\"places\":{}}", "places"},
        {"{\"places\":[{}]}", "places"},
        {"{\"places\":[\"e2b\"]}", "places"},
        {"{\"places\":[{\"provider\":\"\"}]}", "places"},
        {"{\"places\":[{\"provider\":\"e2b\",\"template\":1}]}", "places"},
        {"{\"places\":[1,2,3,4,5,6,7,8,9]}", "places"},
        {"[]", "params"},
        {"3", "params"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct job_params params = {.timeout_ms = 77};

        assert_int_equal(job_params_parse(cases[i].text, &params, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_non_null(strstr(err.message, cases[i].field));
        assert_int_equal(params.timeout_ms, 77);
    }
}

static void test_broken_json_is_refused(void **state)
{
    static const char *const broken[] = {"{", "{}x", "{\"envs\":{\"A\":\"\\u0000\"}}",
                                         "{\"reason\":\"a\",\"reason\":\"b\"}"};

    (void)state;
    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
        struct job_params params;

        assert_int_equal(job_params_parse(broken[i], &params, &err), -1);
        assert_int_equal(err.code, ERR_JSON);
    }
}

static void test_limits_of_envs(void **state)
{
    char *text = xmalloc(40000);
    struct job_params params;

    (void)state;
    memset(text, 'v', 40000);
    memcpy(text, "{\"envs\":{\"A\":\"", 14);
    strncpy(text + 14 + 32768, "\"}}", 4);
    assert_int_equal(job_params_parse(text, &params, &err), 0);
    assert_int_equal(strlen(cJSON_GetObjectItem(params.envs, "A")->valuestring), 32768);
    job_params_done(&params);
    memset(text + 14 + 32768, 'v', 1);
    strncpy(text + 14 + 32769, "\"}}", 4);
    assert_int_equal(job_params_parse(text, &params, &err), -1);
    assert_non_null(strstr(err.message, "envs"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_given_is_all_defaults),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_defaults_are_not_written),
        cmocka_unit_test(test_wrong_ones_are_refused_by_name),
        cmocka_unit_test(test_broken_json_is_refused),
        cmocka_unit_test(test_limits_of_envs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
