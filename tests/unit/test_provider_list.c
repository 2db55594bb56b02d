/*
 * The list of a deployment's sandboxes, driven with literals against both backends: what is asked,
 * what is taken, and that a list that broke off is never one that is done. No socket.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/provider/daytona.h"
#include "common/provider/e2b.h"

#define DEP "99999999-2222-4333-8444-555555555555"
#define SBX "11111111-2222-4333-8444-555555555555"
#define E2B_URL                                                                                    \
    "https://api.e2b.app/v2/sandboxes?metadata=sandbox_deployment%3D" DEP                          \
    "&state=running,paused&limit=50"
#define DTN_URL                                                                                    \
    "https://d.example/api/sandbox?limit=50&labels="                                               \
    "%7B%22sandbox_deployment%22%3A%22" DEP "%22%7D"

static struct provider *provider;
static struct http_request request;
static struct provider_step step;
static struct provider_call call;

static void begin(const struct provider_ops *ops)
{
    struct error err = ERROR_INIT;
    setenv("E2B_API_KEY", "e2b_00", 1);
    setenv("DAYTONA_API_KEY", "dtn_00", 1);
    setenv("DAYTONA_API_URL", "https://d.example/api", 1);
    provider = ops->open(&err);
    assert_string_equal(err.message, "");
    provider_call_init(&call);
    call.op = PROVIDER_LIST;
    call.deployment_id = DEP;
    http_request_init(&request);
    provider->ops->step(provider, &call, NULL, &request, &step);
}

static void end(void)
{
    http_request_done(&request);
    provider_call_done(&call);
    provider->ops->close(provider);
}

static void respond(const struct http_response *last)
{
    http_request_done(&request);
    http_request_init(&request);
    provider->ops->step(provider, &call, last, &request, &step);
}

static void answer(int status, const char *body, const char *next)
{
    struct http_response response = {
        .transport = HTTP_ANSWERED, .status = status, .body = body, .body_bytes = strlen(body)};
    snprintf(response.next_token, sizeof(response.next_token), "%s", next);
    respond(&response);
}

static void expect_send(const char *url)
{
    assert_int_equal(step.verdict, PROVIDER_SEND);
    assert_string_equal(request.method, "GET");
    assert_string_equal(request.url.data, url);
    assert_false(request.has_body);
    /* 64 entries of 1024 + 128 bytes in each of 50 sandboxes, all of it escaped six bytes for one
     */
    assert_true(request.max_response_bytes >= (size_t)50 * 64 * (1024 + 128) * 6);
}

static void expect_failed(enum outcome outcome)
{
    assert_int_equal(step.verdict, PROVIDER_FAILED);
    assert_string_equal(outcome_name(step.outcome), outcome_name(outcome));
    assert_false(step.may_exist);
}

static void expect_item(size_t at, const char *id, enum provider_state state)
{
    assert_true(at < call.listed_count);
    assert_string_equal(call.listed[at].provider_sandbox_id, id);
    assert_string_equal(call.listed[at].sandbox_id, SBX);
    assert_int_equal(call.listed[at].state, state);
}

#define E2B_ITEM(id, state, dep, sbx)                                                              \
    "{\"sandboxID\":\"" id "\",\"state\":\"" state "\",\"startedAt\":\"2026-01-01T00:00:01Z\","    \
    "\"metadata\":{\"sandbox_deployment\":\"" dep "\",\"sandbox_id\":\"" sbx "\"}}"
#define DTN_ITEM(id, state, dep, sbx)                                                              \
    "{\"id\":\"" id "\",\"state\":\"" state "\",\"createdAt\":\"2026-01-01T00:00:01Z\","           \
    "\"labels\":{\"sandbox_deployment\":\"" dep "\",\"sandbox_id\":\"" sbx "\"}}"

static void test_e2b_takes_every_page(void **state)
{
    (void)state;
    begin(&e2b_provider_ops);
    expect_send(E2B_URL);
    answer(200, "[" E2B_ITEM("i1", "running", DEP, SBX) "," E2B_ITEM("i2", "paused", DEP, SBX) "]",
           "p 2");
    expect_send(E2B_URL "&nextToken=p%202");
    assert_int_equal(call.listed_count, 2);
    expect_item(0, "i1", PROVIDER_STATE_RUNNING);
    expect_item(1, "i2", PROVIDER_STATE_PAUSED);
    answer(200, "[" E2B_ITEM("i3", "melting", DEP, SBX) "]", "");
    assert_int_equal(step.verdict, PROVIDER_DONE);
    assert_int_equal(call.listed_count, 1);
    expect_item(0, "i3", PROVIDER_STATE_UNKNOWN);
    end();
}

static void test_daytona_takes_every_page(void **state)
{
    (void)state;
    begin(&daytona_provider_ops);
    expect_send(DTN_URL);
    answer(200,
           "{\"items\":[" DTN_ITEM("d1", "started", DEP, SBX) "," DTN_ITEM(
               "d2", "archived", DEP, SBX) "],\"nextCursor\":\"a/b\"}",
           "");
    expect_send(DTN_URL "&cursor=a%2Fb");
    assert_int_equal(call.listed_count, 2);
    expect_item(0, "d1", PROVIDER_STATE_RUNNING);
    expect_item(1, "d2", PROVIDER_STATE_PAUSED);
    answer(200,
           "{\"items\":[" DTN_ITEM("d3", "starting", DEP, SBX) "," DTN_ITEM(
               "d4", "destroying", DEP, SBX) "," DTN_ITEM("d5", "error", DEP, SBX) "],"
                                                                                   "\"nextCursor\":"
                                                                                   "null}",
           "");
    assert_int_equal(step.verdict, PROVIDER_DONE);
    assert_int_equal(call.listed_count, 2);
    expect_item(0, "d3", PROVIDER_STATE_UNKNOWN);
    expect_item(1, "d5", PROVIDER_STATE_PAUSED);
    end();

    begin(&daytona_provider_ops); /* servers before 0.180 */
    answer(200, "[" DTN_ITEM("d1", "started", DEP, SBX) "]", "");
    assert_int_equal(step.verdict, PROVIDER_DONE);
    assert_int_equal(call.listed_count, 1);
    end();
}

/* A server that ignores the filter must not make us kill what is not ours. */
static void test_what_is_not_ours_is_passed_over(void **state)
{
    (void)state;
    begin(&e2b_provider_ops);
    answer(200,
           "[" E2B_ITEM("i1", "running", "other", SBX) "," E2B_ITEM(
               "i2", "running", DEP,
               "") "," E2B_ITEM("i3", "running", "",
                                SBX) "," E2B_ITEM("i4", "running", DEP,
                                                  "Not-An-Id") ","
                                                               "{\"sandboxID\":\"i5\",\"metadata\":"
                                                               "null},{\"sandboxID\":\"i6\"},"
                                                               "{\"sandboxID\":\"i7\",\"metadata\":"
                                                               "{\"sandbox_deployment\":7,"
                                                               "\"sandbox_id\":[]}},"
                                                               "null,[],\"x\"]",
           "");
    assert_int_equal(step.verdict, PROVIDER_DONE);
    assert_int_equal(call.listed_count, 0);
    end();
    begin(&daytona_provider_ops);
    answer(200,
           "{\"items\":[" DTN_ITEM("d1", "started", "other", SBX) "," DTN_ITEM(
               "d2", "started", DEP, "") ",{\"id\":\"d3\",\"state\":\"started\"},null]}",
           "");
    assert_int_equal(step.verdict, PROVIDER_DONE);
    assert_int_equal(call.listed_count, 0);
    end();
}

static void second_page(const struct provider_ops *ops)
{
    begin(ops);
    if (ops == &e2b_provider_ops) {
        answer(200, "[" E2B_ITEM("i1", "running", DEP, SBX) "]", "p2");
    } else {
        answer(200, "{\"items\":[" DTN_ITEM("d1", "started", DEP, SBX) "],\"nextCursor\":\"p2\"}",
               "");
    }
    assert_int_equal(step.verdict, PROVIDER_SEND);
}

static void test_a_list_that_breaks_off_is_not_done(void **state)
{
    static const struct {
        int status;
        const char *body;
        enum outcome outcome;
    } cases[] = {
        {401, "{}", OUTCOME_AUTH},
        {403, "{\"code\":403,\"statusCode\":403,\"message\":\"no\"}", OUTCOME_PERMANENT},
        {404, "{\"code\":404,\"statusCode\":404,\"message\":\"no\"}", OUTCOME_PERMANENT},
        {403, "{}", OUTCOME_TRANSIENT},
        {404, "<html>", OUTCOME_TRANSIENT},
        {429, "{}", OUTCOME_RATE_LIMITED},
        {500, "", OUTCOME_TRANSIENT},
        {503, "<html>", OUTCOME_TRANSIENT},
        {302, "", OUTCOME_TRANSIENT},
        {200, "", OUTCOME_TRANSIENT},
        {204, "", OUTCOME_TRANSIENT},
        {200, "<html>login</html>", OUTCOME_TRANSIENT},
        {200, "null", OUTCOME_TRANSIENT},
        {200, "{\"message\":\"ok\"}", OUTCOME_TRANSIENT},
        {200, "{\"items\":{}}", OUTCOME_TRANSIENT},
        {200, "[" E2B_ITEM("i2", "running", DEP, SBX), OUTCOME_TRANSIENT},
    };
    static const struct provider_ops *const backends[] = {&e2b_provider_ops, &daytona_provider_ops};
    (void)state;
    for (size_t b = 0; b < 2; b++) {
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
            second_page(backends[b]);
            answer(cases[i].status, cases[i].body, "");
            expect_failed(cases[i].outcome);
            end();
        }
        static const enum http_transport losses[] = {HTTP_NOT_SENT, HTTP_AMBIGUOUS};
        for (size_t i = 0; i < 2; i++) {
            struct http_response lost = {.transport = losses[i], .body = "", .error = "reset"};
            second_page(backends[b]);
            respond(&lost);
            expect_failed(OUTCOME_TRANSIENT);
            end();
        }
        second_page(backends[b]); /* a page that names itself would never end */
        answer(200, b == 0 ? "[]" : "{\"items\":[],\"nextCursor\":\"p2\"}", "p2");
        expect_failed(OUTCOME_TRANSIENT);
        end();
    }
    /* an id that is ours by its tags and cannot be put into a URL: the list cannot be trusted */
    second_page(&e2b_provider_ops);
    answer(200, "[" E2B_ITEM("../i2", "running", DEP, SBX) "]", "");
    expect_failed(OUTCOME_TRANSIENT);
    end();
    second_page(&daytona_provider_ops);
    answer(200, "[" DTN_ITEM("../d2", "started", DEP, SBX) "]", "");
    expect_failed(OUTCOME_TRANSIENT);
    end();
    begin(&daytona_provider_ops);
    answer(200, "{\"items\":[],\"nextCursor\":7}", "");
    expect_failed(OUTCOME_TRANSIENT);
    end();
}

/* Of a list of any length one page is held: memory does not grow with the fleet. */
static void test_a_long_list_is_held_page_by_page(void **state)
{
    enum { PAGES = 2000 };
    struct strbuf body;
    char token[16];
    (void)state;
    strbuf_init(&body, PROVIDER_PAGE_MAX_BYTES);
    strbuf_puts(&body, "[");
    for (int i = 0; i < PROVIDER_PAGE_ITEMS; i++) {
        strbuf_printf(&body, "%s" E2B_ITEM("i", "running", DEP, SBX), i > 0 ? "," : "");
    }
    strbuf_puts(&body, "]");
    begin(&e2b_provider_ops);
    for (int page = 1; page <= PAGES; page++) {
        snprintf(token, sizeof(token), "p%d", page);
        answer(200, body.data, page < PAGES ? token : "");
        assert_int_equal(step.verdict, page < PAGES ? PROVIDER_SEND : PROVIDER_DONE);
        assert_int_equal(call.listed_count, PROVIDER_PAGE_ITEMS);
    }
    assert_true(call.listed_capacity <= 4 * PROVIDER_PAGE_ITEMS);
    end();
    strbuf_done(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_e2b_takes_every_page),
        cmocka_unit_test(test_daytona_takes_every_page),
        cmocka_unit_test(test_what_is_not_ours_is_passed_over),
        cmocka_unit_test(test_a_list_that_breaks_off_is_not_done),
        cmocka_unit_test(test_a_long_list_is_held_page_by_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
