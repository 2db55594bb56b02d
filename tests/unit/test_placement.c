/* Where a sandbox may be made, and what its template is called there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/data/placement.h"

static struct provider_set *providers;
static struct error err;

static int setup(void **state)
{
    (void)state;
    setenv("E2B_API_KEY", "e2b_0123", 1);
    setenv("E2B_TEMPLATE_ID", "base", 1);
    setenv("DAYTONA_API_KEY", "dtn_0123", 1);
    unsetenv("DAYTONA_SNAPSHOT");
    providers = provider_set_open("e2b,daytona", &err);
    return providers == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    provider_set_close(providers);
    return 0;
}

static void assert_places(const char *templates, const char *template_id, const char *pinned,
                          const char *expected)
{
    struct placement *placement = placement_open(templates, providers, &err);
    struct job_params params = {.timeout_ms = 0};
    char text[512] = "";

    assert_non_null(placement);
    if (placement_choose(placement, template_id, pinned, &params, &err) == 0) {
        for (int i = 0; i < params.place_count; i++) {
            size_t used = strlen(text);
            snprintf(text + used, sizeof(text) - used, "%s%s:%s", i > 0 ? " " : "",
                     params.places[i].provider, params.places[i].template_id);
        }
    } else {
        assert_int_equal(err.code, ERR_INVALID);
        snprintf(text, sizeof(text), "%s", err.message);
    }
    assert_string_equal(text, expected);
    placement_close(placement);
}

#define MAP " python = e2b:py, daytona:python:3.12 ;only=daytona:ns/one:2\n; "

static void test_choices(void **state)
{
    (void)state;
    assert_places(NULL, "", NULL, "e2b:base daytona:");
    assert_places("", "", "daytona", "daytona:");
    assert_places(MAP, "python", NULL, "e2b:py daytona:python:3.12");
    assert_places(MAP, "python", "daytona", "daytona:python:3.12");
    assert_places(MAP, "only", NULL, "daytona:ns/one:2");
    assert_places(MAP, "only", "e2b", "sandbox_template_id has no template at e2b");
    /* a provider's own name */
    assert_places(MAP, "raw", NULL, "e2b:raw");
    assert_places(MAP, "raw", "daytona", "daytona:raw");
    assert_places(MAP, "", "elsewhere", "provider is not one of those configured here");
}

static void test_bad_maps_are_refused_by_name(void **state)
{
    static const char *const bad[] = {
        "x",           "x=",       "=e2b:y",        "x=e2b",           "x=e2b:",
        "x=nowhere:y", "x=e2b:a,", "x=e2b:a,e2b:b", "x=e2b:a;x=e2b:b", "x=:y",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_null(placement_open(bad[i], providers, &err));
        assert_int_equal(err.code, ERR_CONFIG);
        assert_non_null(strstr(err.message, "SANDBOX_TEMPLATES"));
    }
}

static void test_too_long_a_name(void **state)
{
    char text[400];
    (void)state;
    memset(text, 'a', sizeof(text));
    memcpy(text + TEMPLATE_BYTES, "=e2b:y", 7);
    assert_null(placement_open(text, providers, &err));
    memset(text, 'a', sizeof(text));
    memcpy(text, "x=e2b:", 6);
    text[6 + TEMPLATE_BYTES] = '\0';
    assert_null(placement_open(text, providers, &err));
    text[6 + TEMPLATE_BYTES - 1] = '\0';
    struct placement *placement = placement_open(text, providers, &err);
    assert_non_null(placement);
    placement_close(placement);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choices),
        cmocka_unit_test(test_bad_maps_are_refused_by_name),
        cmocka_unit_test(test_too_long_a_name),
    };
    return cmocka_run_group_tests_name("placement", tests, setup, teardown);
}
