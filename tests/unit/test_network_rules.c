/* What `network` of a create may say, and which providers keep it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "gateway/data/network_rules.h"

static struct provider_set *providers;

static int setup(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    setenv("E2B_API_KEY", "e2b_0123", 1);
    setenv("DAYTONA_API_KEY", "dtn_0123", 1);
    providers = provider_set_open("daytona,e2b", &err);
    return providers == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    provider_set_close(providers);
    return 0;
}

/* Reads {"network": `rules`}. */
static int read_rules(const char *rules, struct job_params *params, struct error *err)
{
    cJSON *body = cJSON_CreateObject();
    int status;

    cJSON_AddItemToObject(body, "network", cJSON_Parse(rules));
    status = network_rules_read(body, params, err);
    cJSON_Delete(body);
    return status;
}

static void assert_read(const char *rules, const char *network, bool no_internet)
{
    struct job_params params = {.timeout_ms = 0};
    struct error err = ERROR_INIT;
    char *text;

    assert_int_equal(read_rules(rules, &params, &err), 0);
    assert_int_equal(params.no_internet, no_internet);
    text = params.network != NULL ? cJSON_PrintUnformatted(params.network) : NULL;
    assert_string_equal(text != NULL ? text : "", network);
    free(text);
    job_params_done(&params);
}

static void test_rules_become_e2bs_form(void **state)
{
    (void)state;
    assert_read("null", "", false);
    assert_read("{}", "", false);
    assert_read("{\"allow_internet\":true,\"allow_out\":[],\"deny_out\":null}", "", false);
    assert_read("{\"allow_internet\":false}", "", true);
    assert_read("{\"allow_internet\":false,\"allow_out\":[\"1.1.1.1\",\"2001:db8::/32\","
                "\"*.example.com\",\"pypi.org\"]}",
                "{\"allowOut\":[\"1.1.1.1\",\"2001:db8::/32\",\"*.example.com\",\"pypi.org\"]}",
                true);
    assert_read("{\"deny_out\":[\"10.0.0.0/8\"],\"allow_out\":[\"10.1.0.0/16\"]}",
                "{\"allowOut\":[\"10.1.0.0/16\"],\"denyOut\":[\"10.0.0.0/8\"]}", false);
}

static void test_what_is_no_rule_is_refused(void **state)
{
    static const char *const bad[] = {
        "[]",
        "\"none\"",
        "{\"allow_internet\":\"no\"}",
        "{\"allowOut\":[]}",             /* a misspelt rule */
        "{\"allow_out\":[\"1.1.1.1\"]}", /* closes nothing */
        "{\"deny_out\":\"10.0.0.0/8\"}",
        "{\"deny_out\":[7]}",
        "{\"deny_out\":[\"example.com\"]}", /* names cannot be denied */
        "{\"deny_out\":[\"10.0.0.0/33\"]}",
        "{\"deny_out\":[\"10.0.0\"]}",
        "{\"deny_out\":[\"::/129\"]}",
        "{\"deny_out\":[\"::/\"]}",
        "{\"deny_out\":[\"::/+1\"]}",
        "{\"allow_internet\":false,\"allow_out\":[\"\"]}",
        "{\"allow_internet\":false,\"allow_out\":[\"localhost\"]}",
        "{\"allow_internet\":false,\"allow_out\":[\"1.2.3.256\"]}",
        "{\"allow_internet\":false,\"allow_out\":[\"a..b\"]}",
        "{\"allow_internet\":false,\"allow_out\":[\"-a.com\"]}",
        "{\"allow_internet\":false,\"allow_out\":[\"*.*.com\"]}",
        "{\"allow_internet\":false,\"allow_out\":[\"http://a.com\"]}",
        "{\"allow_internet\":false,\"allow_out\":[\"a.com \"]}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct job_params params = {.timeout_ms = 0};
        struct error err = ERROR_INIT;

        if (read_rules(bad[i], &params, &err) == 0) {
            fail_msg("%s was taken", bad[i]);
        }
        assert_int_equal(err.code, ERR_INVALID);
        assert_non_null(strstr(err.message, "network"));
        assert_null(params.network);
    }
}

static void test_a_list_has_a_bound(void **state)
{
    (void)state;
    for (int more = 0; more < 2; more++) {
        struct job_params params = {.timeout_ms = 0};
        struct error err = ERROR_INIT;
        cJSON *body = cJSON_CreateObject();
        cJSON *list = cJSON_AddArrayToObject(cJSON_AddObjectToObject(body, "network"), "deny_out");

        for (int i = 0; i < NETWORK_RULES_MAX + more; i++) {
            cJSON_AddItemToArray(list, cJSON_CreateString("10.0.0.0/8"));
        }
        assert_int_equal(network_rules_read(body, &params, &err), -more);
        job_params_done(&params);
        cJSON_Delete(body);
    }
}

/* Where a create with these rules may be made: the first letters of the providers. */
static void assert_kept(const char *rules, const char *places, const char *expected)
{
    struct job_params params = {.timeout_ms = 0};
    struct error err = ERROR_INIT;
    char text[8] = "";

    for (const char *at = places; *at != '\0'; at++) {
        struct job_place *place = &params.places[params.place_count++];

        str_copy(place->provider, sizeof(place->provider), *at == 'e' ? "e2b" : "daytona");
    }
    assert_int_equal(read_rules(rules, &params, &err), 0);
    if (network_rules_place(providers, &params, &err) < 0) {
        assert_int_equal(err.code, ERR_UNSUPPORTED);
        assert_non_null(strstr(err.message, "daytona"));
    } else {
        for (int i = 0; i < params.place_count; i++) {
            text[i] = params.places[i].provider[0];
        }
    }
    assert_string_equal(text, expected);
    job_params_done(&params);
}

static void test_only_providers_that_keep_the_rules_are_left(void **state)
{
    (void)state;
    assert_kept("{}", "de", "de");
    assert_kept("{\"allow_internet\":false}", "de", "de");
    assert_kept("{\"allow_internet\":false,\"allow_out\":[\"1.1.1.1\"]}", "de", "de");
    assert_kept("{\"deny_out\":[\"0.0.0.0/0\"],\"allow_out\":[\"1.1.1.0/24\"]}", "de", "de");
    assert_kept("{\"allow_internet\":false,\"allow_out\":[\"pypi.org\"]}", "de", "e");
    assert_kept("{\"allow_internet\":false,\"allow_out\":[\"2001:db8::1\"]}", "ed", "e");
    assert_kept("{\"deny_out\":[\"10.0.0.0/8\"]}", "de", "e");
    assert_kept("{\"deny_out\":[\"10.0.0.0/8\"]}", "d", "");
    assert_kept("{\"allow_internet\":false,\"allow_out\":[\"1.1.1.1\",\"1.1.1.2\",\"1.1.1.3\","
                "\"1.1.1.4\",\"1.1.1.5\",\"1.1.1.6\",\"1.1.1.7\",\"1.1.1.8\",\"1.1.1.9\","
                "\"1.1.1.10\",\"1.1.1.11\"]}",
                "d", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules_become_e2bs_form),
        cmocka_unit_test(test_what_is_no_rule_is_refused),
        cmocka_unit_test(test_a_list_has_a_bound),
        cmocka_unit_test(test_only_providers_that_keep_the_rules_are_left),
    };
    return cmocka_run_group_tests_name("network_rules", tests, setup, teardown);
}
