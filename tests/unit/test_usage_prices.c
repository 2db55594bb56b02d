/* USAGE_PRICES: what is a list of prices, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/work/usage_prices.h"

static void test_prices_become_json(void **state)
{
    static const struct {
        const char *list, *json;
    } cases[] = {{NULL, "{}"},
                 {"", "{}"},
                 {"e2b:0.000028/s", "{\"e2b\":0.000028}"},
                 {" e2b:1/s , e2b.paused:0/s,daytona:12.50/s",
                  "{\"e2b\":1,\"e2b.paused\":0,\"daytona\":12.50}"}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error err = ERROR_INIT;
        struct strbuf json;

        strbuf_init(&json, USAGE_PRICES_BYTES);
        assert_int_equal(usage_prices_json(cases[i].list, &json, &err), 0);
        assert_string_equal(json.data, cases[i].json);
        strbuf_done(&json);
    }
}

static void test_anything_else_is_refused(void **state)
{
    static const char *const wrong[] = {"e2b",
                                        "e2b:1",
                                        "e2b:1/h",
                                        "e2b:-1/s",
                                        "e2b:1./s",
                                        "e2b:.5/s",
                                        "nobody:1/s",
                                        "e2b.running:1/s",
                                        "e2b:1e3/s",
                                        "e2b:01/s",
                                        "e2b:1/s/s",
                                        "e2b:\"/s",
                                        ":1/s",
                                        ".paused:1/s",
                                        "e2b:/s",
                                        "e2b:1/s,,x:1",
                                        "e2b:1/s;daytona:1/s"};

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct error err = ERROR_INIT;
        struct strbuf json;

        strbuf_init(&json, USAGE_PRICES_BYTES);
        assert_int_equal(usage_prices_json(wrong[i], &json, &err), -1);
        assert_int_equal(err.code, ERR_CONFIG);
        strbuf_done(&json);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_prices_become_json),
                                       cmocka_unit_test(test_anything_else_is_refused)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
