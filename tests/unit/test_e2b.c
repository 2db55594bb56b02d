/*
 * E2B's control plane, driven with literals: what each operation sends, and what every kind of
 * answer means. No socket.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/provider/e2b.h"

#define KEY "e2b_0123456789abcdef"
#define NOW 1700000000000LL

static struct provider *provider;
static struct http_request request;
static struct provider_step step;
static struct provider_call call;

static void clear_env(void)
{
    static const char *const names[] = {"E2B_API_KEY",     "E2B_DOMAIN",
                                        "E2B_API_URL",     "E2B_SANDBOX_URL",
                                        "E2B_TEMPLATE_ID", "E2B_MAX_TIMEOUT_SECONDS",
                                        "E2B_API_KEY_FILE"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unsetenv(names[i]);
}

static struct provider *open_e2b(void)
{
    struct error err = ERROR_INIT;
    setenv("E2B_API_KEY", KEY, 1);
    struct provider *p = e2b_provider_ops.open(&err);
    assert_string_equal(err.message, "");
    assert_non_null(p);
    return p;
}

static int setup(void **state)
{
    (void)state;
    clear_env();
    provider = open_e2b();
    provider_call_init(&call);
    call.deployment_id = "dep-1";
    call.sandbox_id = "11111111-2222-4333-8444-555555555555";
    call.job_id = "job-1";
    call.provider_sandbox_id = "";
    call.template_id = "";
    call.timeout_ms = 61500;
    call.now_ms = NOW;
    http_request_init(&request);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    http_request_done(&request);
    provider_call_done(&call);
    provider->ops->close(provider);
    return 0;
}

static void run_step(const struct http_response *last)
{
    http_request_done(&request);
    http_request_init(&request);
    provider->ops->step(provider, &call, last, &request, &step);
}

static void first(enum provider_op op)
{
    call.op = op;
    run_step(NULL);
}

static void answer_next(int status, const char *body, int64_t retry_after_ms, const char *next)
{
    struct http_response response = {.transport = HTTP_ANSWERED,
                                     .status = status,
                                     .body = body,
                                     .body_bytes = strlen(body),
                                     .retry_after_ms = retry_after_ms};
    snprintf(response.next_token, sizeof(response.next_token), "%s", next);
    run_step(&response);
}

static void answer(int status, const char *body)
{
    answer_next(status, body, 0, "");
}

static void lost(enum http_transport transport)
{
    struct http_response response = {
        .transport = transport, .error = "Recv failure: reset", .body = ""};
    run_step(&response);
}

static void expect_send(const char *method, const char *url)
{
    assert_int_equal(step.verdict, PROVIDER_SEND);
    assert_string_equal(request.method, method);
    assert_string_equal(request.url.data, url);
    assert_non_null(strstr(request.headers.data, "X-API-Key: " KEY "\n"));
    assert_true(request.timeout_ms == 20000);
}

static void expect_failed(enum outcome outcome)
{
    assert_int_equal(step.verdict, PROVIDER_FAILED);
    assert_string_equal(outcome_name(step.outcome), outcome_name(outcome));
}

static void expect_done(enum provider_state state)
{
    assert_int_equal(step.verdict, PROVIDER_DONE);
    assert_int_equal(call.result.state, state);
}

/* a body as E2B sends it with an error */
#define REFUSED(status) "{\"code\":" #status ",\"message\":\"no\"}"
#define API             "https://api.e2b.app"
#define LOOKUP                                                                                     \
    API "/v2/sandboxes?metadata=sandbox_deployment%3Ddep-1%26sandbox_id%3D"                        \
        "11111111-2222-4333-8444-555555555555&state=running,paused&limit=100"
#define LIST API "/v2/sandboxes?metadata=sandbox_deployment%3Ddep-1&state=running,paused&limit=50"
#define TAGS                                                                                       \
    "\"metadata\":{\"sandbox_deployment\":\"dep-1\",\"sandbox_id\":"                               \
    "\"11111111-2222-4333-8444-555555555555\"}"
#define SANDBOX                                                                                    \
    "{\"templateID\":\"t\",\"sandboxID\":\"iabc\",\"clientID\":\"6532622b\","                      \
    "\"envdVersion\":\"0.6.13\",\"envdAccessToken\":\"tok123\"}"

/* ---- configuration and URLs ------------------------------------------------------------------ */

static void check_urls(const char *api_url, const char *sandbox_url, const char *domain,
                       const char *row_domain, const char *envd, const char *port)
{
    struct error err = ERROR_INIT;
    clear_env();
    setenv("E2B_API_KEY", KEY, 1);
    setenv("E2B_API_URL", api_url, 1); /* empty counts as unset */
    setenv("E2B_SANDBOX_URL", sandbox_url, 1);
    setenv("E2B_DOMAIN", domain, 1);
    struct provider *p = e2b_provider_ops.open(&err);
    assert_non_null(p);
    const struct provider_target target = {.provider_sandbox_id = "iabc", .domain = row_domain};
    struct strbuf url;
    strbuf_init(&url, 1000);
    assert_int_equal(e2b_put_envd_base((struct e2b *)p, &target, &url), 0);
    assert_string_equal(url.data, envd);
    strbuf_reset(&url);
    assert_int_equal(p->ops->port_url(p, NULL, &target, 6060, &url, &err), 0);
    assert_string_equal(url.data, port);
    strbuf_done(&url);
    p->ops->close(p);
}

static void test_base_urls(void **state)
{
    (void)state;
    check_urls("", "", "", "", "https://sandbox.e2b.app", "https://6060-iabc.e2b.app");
    check_urls("", "", "e2b.dev", "", "https://sandbox.e2b.dev", "https://6060-iabc.e2b.dev");
    check_urls("", "", "my.cloud", "", "https://49983-iabc.my.cloud", "https://6060-iabc.my.cloud");
    check_urls("", "", "my.cloud", "eu.e2b.pro", "https://49983-iabc.eu.e2b.pro",
               "https://6060-iabc.eu.e2b.pro");
    check_urls("", "", "my.cloud", "e2b.pro", "https://sandbox.e2b.pro",
               "https://6060-iabc.e2b.pro");
    check_urls("", "http://10.0.0.1:9/", "", "other.net", "http://10.0.0.1:9",
               "https://6060-iabc.other.net");
    check_urls("http://127.0.0.1:3000/", "", "localhost:3000", "",
               "http://49983-iabc.localhost:3000", "http://6060-iabc.localhost:3000");
    check_urls("https://api.x.y", "", "x.y", "", "https://49983-iabc.x.y", "https://6060-iabc.x.y");
}

static void test_open(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    clear_env();
    assert_null(e2b_provider_ops.open(&err));
    assert_int_equal(err.code, ERR_NOT_FOUND);
    setenv("E2B_API_KEY", "", 1);
    assert_null(e2b_provider_ops.open(&err));
    assert_int_equal(err.code, ERR_NOT_FOUND);
    static const char *const bad[][2] = {{"E2B_API_URL", "ftp://x"},
                                         {"E2B_API_URL", "https://"},
                                         {"E2B_SANDBOX_URL", "sandbox.e2b.app"},
                                         {"E2B_DOMAIN", "e2b.app/x"},
                                         {"E2B_MAX_TIMEOUT_SECONDS", "soon"}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        clear_env();
        setenv("E2B_API_KEY", KEY, 1);
        setenv(bad[i][0], bad[i][1], 1);
        assert_null(e2b_provider_ops.open(&err));
        assert_int_equal(err.code, ERR_CONFIG);
        assert_non_null(strstr(err.message, bad[i][0]));
    }
    clear_env();
    setenv("E2B_API_KEY", "with\nnewline", 1);
    assert_null(e2b_provider_ops.open(&err));
    assert_int_equal(err.code, ERR_CONFIG);
    assert_null(strstr(err.message, "newline"));
}

static void test_registry(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    clear_env();
    assert_null(provider_set_open("e2b", &err));
    assert_int_equal(err.code, ERR_CONFIG);
    assert_non_null(strstr(err.message, "E2B_API_KEY"));
    setenv("E2B_API_KEY", KEY, 1);
    assert_null(provider_set_open("", &err));
    assert_null(provider_set_open("e2b,nope", &err));
    assert_non_null(strstr(err.message, "nope"));
    assert_null(provider_set_open("e2b, e2b", &err));
    struct provider_set *set = provider_set_open(" e2b ,", &err);
    assert_non_null(set);
    assert_string_equal(provider_set_default(set)->ops->name, "e2b");
    assert_ptr_equal(provider_set_find(set, "e2b"), provider_set_default(set));
    assert_null(provider_set_find(set, "x"));
    struct provider *p = provider_set_default(set);
    assert_true(p->ops->max_lifetime_ms(p) == 3600000);
    assert_string_equal(p->ops->default_template(p), "base");
    provider_set_close(set);
}

static void test_metadata_encoding(void **state)
{
    (void)state;
    struct strbuf out;
    strbuf_init(&out, 1000);
    const char *const pairs[][2] = {{"k \xc3\xa9", "a=b&c %"}};
    e2b_put_metadata_filter(&out, pairs, 1);
    assert_string_equal(out.data,
                        "metadata=k%252520%2525C3%2525A9%3Da%25253Db%252526c%252520%252525");
    strbuf_done(&out);
}

/* ---- create ---------------------------------------------------------------------------------- */

static void test_create_request(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    cJSON *envs = json_parse("{\"A\":\"1\"}", 9, &err);
    call.envs = envs;
    call.metadata_json = "{\"team\":\"x\",\"sandbox_id\":\"forged\",\"sandbox_job\":\"forged\"}";
    first(PROVIDER_CREATE);
    expect_send("POST", API "/sandboxes");
    assert_true(request.once);
    assert_true(request.has_body);
    assert_string_equal(
        request.body.data,
        "{\"templateID\":\"base\",\"metadata\":{\"team\":\"x\",\"sandbox_deployment\":\"dep-1\","
        "\"sandbox_id\":\"11111111-2222-4333-8444-555555555555\",\"sandbox_job\":\"job-1\"},"
        "\"envVars\":{\"A\":\"1\"},\"timeout\":62,\"secure\":true,\"autoPause\":true,"
        "\"allow_internet_access\":true}");
    cJSON_Delete(envs);
}

static void test_create_timeouts(void **state)
{
    (void)state;
    static const struct {
        int64_t ms;
        const char *text;
    } cases[] = {{0, "\"timeout\":1,"},           {-5, "\"timeout\":1,"},
                 {1, "\"timeout\":1,"},           {1000, "\"timeout\":1,"},
                 {1001, "\"timeout\":2,"},        {3600000, "\"timeout\":3600,"},
                 {INT64_MAX, "\"timeout\":3600,"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        call.timeout_ms = cases[i].ms;
        first(PROVIDER_CREATE);
        assert_non_null(strstr(request.body.data, cases[i].text));
    }
}

static void test_create_done(void **state)
{
    (void)state;
    call.template_id = "my-template:v1";
    first(PROVIDER_CREATE);
    assert_non_null(strstr(request.body.data, "\"templateID\":\"my-template:v1\""));
    answer(201, SANDBOX);
    expect_done(PROVIDER_STATE_RUNNING);
    assert_string_equal(call.result.provider_sandbox_id, "iabc");
    assert_string_equal(call.result.access_token, "tok123");
    assert_string_equal(call.result.domain, "");
    assert_true(call.result.expires_at_ms == NOW + 62000);
    assert_false(call.result.adopted);
}

static void test_create_nulls(void **state)
{
    (void)state;
    first(PROVIDER_CREATE);
    answer(201, "{\"sandboxID\":\"iabc\",\"alias\":null,\"domain\":null,\"envdAccessToken\":null,"
                "\"trafficAccessToken\":null}");
    expect_done(PROVIDER_STATE_RUNNING);
    assert_string_equal(call.result.access_token, "");
    first(PROVIDER_CREATE);
    answer(201, "{\"sandboxID\":\"iabc\",\"domain\":\"eu.e2b.dev\",\"trafficAccessToken\":\"t2\"}");
    expect_done(PROVIDER_STATE_RUNNING);
    assert_string_equal(call.result.domain, "eu.e2b.dev");
    assert_string_equal(call.result.traffic_token, "t2");
}

/* A 2xx that cannot be read may well have created something. */
static void test_create_garbage(void **state)
{
    (void)state;
    static const char *const bodies[] = {"",
                                         "<html>ok</html>",
                                         "{}",
                                         "[]",
                                         "null",
                                         "{\"sandboxID\":\"\"}",
                                         "{\"sandboxID\":7}",
                                         "{\"sandboxID\":\"../x\"}",
                                         "{\"sandboxID\":\"i\",\"domain\":\"a/b\"}",
                                         "{\"sandboxID\":\"i\",\"envdAccessToken\":\"a\\nb\"}",
                                         "{\"sandboxID\":\"iabc\""};
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        first(PROVIDER_CREATE);
        answer(201, bodies[i]);
        expect_failed(OUTCOME_AMBIGUOUS);
        assert_string_equal(call.result.provider_sandbox_id, "");
    }
}

static void test_create_failures(void **state)
{
    (void)state;
    static const struct {
        int status;
        int64_t retry_after_ms;
        const char *body;
        enum outcome outcome;
    } cases[] = {
        {400, 0, "{\"code\":400,\"message\":\"bad template\"}", OUTCOME_PERMANENT},
        {401, 0, "{\"code\":401,\"message\":\"no\"}", OUTCOME_AUTH},
        {403, 0, "{\"code\":403,\"message\":\"blocked\"}", OUTCOME_PERMANENT},
        {404, 0, "{\"code\":404,\"message\":\"template not found\"}", OUTCOME_PERMANENT},
        {408, 0, "", OUTCOME_AMBIGUOUS},
        {409, 0, "{\"code\":409,\"error_code\":\"sandbox_start_in_flight\"}", OUTCOME_AMBIGUOUS},
        {409, 0, "{\"code\":409}", OUTCOME_PERMANENT},
        {429, 0, "{\"code\":429,\"message\":\"max sandboxes\"}", OUTCOME_CAPACITY},
        {429, 7000, "{\"code\":429,\"message\":\"slow down\"}", OUTCOME_RATE_LIMITED},
        {500, 0, "oops", OUTCOME_AMBIGUOUS},
        {502, 0, "<html>bad gateway</html>", OUTCOME_AMBIGUOUS},
        {503, 0, "{\"code\":503,\"error_code\":\"sandbox_capacity_unavailable\"}",
         OUTCOME_CAPACITY},
        {503, 0, "{\"code\":503,\"error_code\":\"sandbox_no_compatible_node\"}", OUTCOME_CAPACITY},
        {503, 0, "{\"code\":503}", OUTCOME_AMBIGUOUS},
        {504, 0, "{\"code\":504,\"error_code\":\"sandbox_placement_timeout\"}", OUTCOME_AMBIGUOUS},
        {302, 0, "", OUTCOME_TRANSIENT},
        {404, 0, "<html>nothing here</html>", OUTCOME_TRANSIENT},
        {403, 0, "<html>blocked by a firewall</html>", OUTCOME_TRANSIENT},
        {403, 0, "{\"message\":\"no Route matched\"}", OUTCOME_TRANSIENT},
        {409, 0, "", OUTCOME_TRANSIENT},
        {413, 0, "<html>too large</html>", OUTCOME_PERMANENT},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        first(PROVIDER_CREATE);
        answer_next(cases[i].status, cases[i].body, cases[i].retry_after_ms, "");
        expect_failed(cases[i].outcome);
        assert_int_equal(step.http_status, cases[i].status);
        assert_true(step.retry_after_ms == cases[i].retry_after_ms);
    }
    first(PROVIDER_CREATE);
    lost(HTTP_NOT_SENT);
    expect_failed(OUTCOME_TRANSIENT);
    first(PROVIDER_CREATE);
    lost(HTTP_AMBIGUOUS);
    expect_failed(OUTCOME_AMBIGUOUS);
    assert_string_equal(step.error, "e2b create: Recv failure: reset");
}

static void test_error_text(void **state)
{
    (void)state;
    first(PROVIDER_CREATE);
    answer(400, "{\"code\":400,\"message\":\"key " KEY " is \\u0007 not\\nwelcome\"}");
    assert_string_equal(step.error, "e2b create: HTTP 400: key *** is   not welcome");
    char body[4096];
    memset(body, 'x', sizeof(body));
    memcpy(body, "{\"message\":\"", 12);
    memcpy(body + 190, KEY, strlen(KEY)); /* crosses the place where the text is cut */
    memcpy(body + sizeof(body) - 3, "\"}", 3);
    first(PROVIDER_CREATE);
    answer(500, body);
    assert_null(strstr(step.error, "e2b_0"));
    assert_true(strlen(step.error) < sizeof(step.error));
}

/* ---- create after one that may have been sent -------------------------------------------------
 */

static void maybe_sent(int64_t settle_in_ms)
{
    call.maybe_sent = true;
    call.settle_until_ms = NOW + settle_in_ms;
    first(PROVIDER_CREATE);
    expect_send("GET", LOOKUP);
}

static void test_lookup_none(void **state)
{
    (void)state;
    maybe_sent(10000);
    answer(200, "[]");
    expect_failed(OUTCOME_SNOOZE);
    assert_true(step.retry_after_ms == 2000);
    maybe_sent(500);
    answer(200, "[]");
    expect_failed(OUTCOME_SNOOZE);
    assert_true(step.retry_after_ms == 500);
    maybe_sent(0);
    answer(200, "[]");
    expect_send("POST", API "/sandboxes");
    assert_true(request.once);
    answer(201, SANDBOX);
    expect_done(PROVIDER_STATE_RUNNING);
    assert_false(call.result.adopted);
}

/* Settling an earlier create sends none of its own. */
static void test_settle_only(void **state)
{
    (void)state;
    call.settle_only = true;
    maybe_sent(1000);
    answer(200, "[]");
    expect_failed(OUTCOME_SNOOZE);
    maybe_sent(0);
    answer(200, "[]");
    expect_done(PROVIDER_STATE_ABSENT);
    assert_false(step.may_exist);
    maybe_sent(0);
    answer(500, "");
    expect_failed(OUTCOME_AMBIGUOUS);
}

#define LISTED(deployment)                                                                         \
    "[{\"sandboxID\":\"iother\",\"state\":\"running\",\"metadata\":{\"sandbox_deployment\":"       \
    "\"" deployment "\",\"sandbox_id\":\"22222222-2222-4222-8222-222222222222\"}}]"

/* An empty lookup may be another team's: it counts once a list has shown a sandbox of ours, or
 * after a longer time. */
static void test_settle_takes_proof(void **state)
{
    (void)state;
    static const char *const proves_nothing[] = {"[]", LISTED("another")};
    call.settle_only = true;
    call.unproven_until_ms = NOW + 1500;
    for (size_t i = 0; i < 2; i++) {
        maybe_sent(0);
        answer(200, "[]");
        expect_send("GET", LIST);
        answer(200, proves_nothing[i]);
        expect_failed(OUTCOME_SNOOZE);
        assert_true(step.retry_after_ms == 1500 && step.may_exist);
    }
    maybe_sent(0);
    answer(200, "[]");
    answer(503, "");
    expect_failed(OUTCOME_AMBIGUOUS);
    maybe_sent(0);
    answer(200, "[]");
    answer(200, LISTED("dep-1"));
    expect_send("GET", LOOKUP); /* the first one may have been another team's still */
    answer(200, "[]");
    expect_done(PROVIDER_STATE_ABSENT);
    call.unproven_until_ms = NOW;
    call.scratch = 0;
    maybe_sent(0);
    answer(200, "[]");
    expect_done(PROVIDER_STATE_ABSENT);
}

/* What an unproven lookup ends with must not say "without effect". */
static void test_lookup_undecided(void **state)
{
    (void)state;
    static const int statuses[] = {400, 403, 404, 500, 503};
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        maybe_sent(0);
        answer(statuses[i], "{}");
        expect_failed(OUTCOME_AMBIGUOUS);
        assert_true(step.may_exist);
    }
    /* a hold is the provider's, not the job's: it is kept, and proves nothing */
    maybe_sent(0);
    answer_next(429, "{}", 3000, "");
    expect_failed(OUTCOME_RATE_LIMITED);
    assert_true(step.retry_after_ms == 3000);
    assert_true(step.may_exist);
    maybe_sent(0);
    answer(401, "{}");
    expect_failed(OUTCOME_AUTH);
    assert_true(step.may_exist);
    maybe_sent(0);
    answer(200, "{\"not\":\"a list\"}");
    expect_failed(OUTCOME_AMBIGUOUS);
    maybe_sent(0);
    lost(HTTP_NOT_SENT);
    expect_failed(OUTCOME_AMBIGUOUS);
    /* once proved absent, a create that was not sent is plainly without effect */
    maybe_sent(0);
    answer(200, "[]");
    lost(HTTP_NOT_SENT);
    expect_failed(OUTCOME_TRANSIENT);
}

static void test_lookup_adopts_one(void **state)
{
    (void)state;
    maybe_sent(10000);
    answer(200, "[{\"sandboxID\":\"iother\",\"metadata\":{\"sandbox_deployment\":\"dep-1\","
                "\"sandbox_id\":\"someone else\"}},"
                "{\"sandboxID\":\"inone\"},"
                "{\"sandboxID\":\"iabc\",\"state\":\"running\",\"startedAt\":"
                "\"2026-01-01T00:00:00Z\"," TAGS "}]");
    expect_send("POST", API "/sandboxes/iabc/connect");
    assert_string_equal(request.body.data, "{\"timeout\":62}");
    assert_false(request.once);
    answer(200, SANDBOX);
    expect_done(PROVIDER_STATE_RUNNING);
    assert_true(call.result.adopted);
    assert_string_equal(call.result.provider_sandbox_id, "iabc");
    assert_string_equal(call.result.access_token, "tok123");
    assert_true(call.result.expires_at_ms == NOW + 62000);
}

#define ITEM(id, minute)                                                                           \
    "{\"sandboxID\":\"" id "\",\"state\":\"running\",\"startedAt\":\"2026-01-01T00:" minute        \
    ":00Z\"," TAGS "}"

static void test_lookup_pages_and_extras(void **state)
{
    (void)state;
    maybe_sent(0);
    answer_next(200, "[" ITEM("i3", "03") "]", 0, "page 2/x");
    expect_send("GET", LOOKUP "&nextToken=page%202%2Fx");
    answer_next(200, "[" ITEM("i1", "01") "," ITEM("i2", "02") "]", 0, "p3");
    expect_send("GET", LOOKUP "&nextToken=p3");
    answer(200, "[]");
    expect_send("DELETE", API "/sandboxes/i2");
    answer(204, "");
    expect_send("DELETE", API "/sandboxes/i3");
    answer(404, REFUSED(404));
    expect_send("POST", API "/sandboxes/i1/connect");
    answer(201, "{\"sandboxID\":\"i1\"}");
    expect_done(PROVIDER_STATE_RUNNING);
    assert_int_equal(call.result.extras_killed, 2);
    assert_true(call.result.adopted);

    void *none = NULL;
    teardown(&none);
    setup(&none);
    maybe_sent(0);
    answer_next(200, "[" ITEM("i3", "03") "]", 0, "p2");
    answer_next(200, "[]", 0, "p2"); /* a page that names itself would never end */
    expect_failed(OUTCOME_AMBIGUOUS);
}

static void test_lookup_many_extras(void **state)
{
    (void)state;
    maybe_sent(0);
    answer(200, "[" ITEM("i1", "01") "," ITEM("i2", "02") "," ITEM("i3", "03") "," ITEM(
                    "i4", "04") "," ITEM("i5", "05") "," ITEM("i6", "06") "]");
    for (int i = 0; i < 4; i++) {
        assert_int_equal(step.verdict, PROVIDER_SEND);
        assert_string_equal(request.method, "DELETE");
        assert_string_not_equal(request.url.data, API "/sandboxes/i1");
        answer(204, "");
    }
    expect_failed(OUTCOME_SNOOZE); /* the next look finds the rest */
}

/* A proxy's refusal, and a login page, say nothing of a sandbox: each is tried again. */
static void test_foreign_answers(void **state)
{
    static const enum provider_op ops[] = {PROVIDER_GET,    PROVIDER_PAUSE,   PROVIDER_RESUME,
                                           PROVIDER_DELETE, PROVIDER_TIMEOUT, PROVIDER_LIST};
    static const struct {
        int status;
        const char *body;
    } answers[] = {
        {404, ""},
        {404, "404 page not found"},
        {404, "<html>Not Found</html>"},
        {404, "{}"},
        {404, "{\"message\":\"no Route matched with those values\"}"},
        {404, "{\"code\":1003,\"message\":\"another code than its status\"}"},
        {404, "{\"code\":\"404\"}"},
        {404, "[404]"},
        {403, "<html>blocked</html>"},
        {403, ""},
        {400, "<html>bad request</html>"},
        {410, "<html>gone</html>"},
        {302, ""},
        {307, "<html>login</html>"},
        {200, "<html>login</html>"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        for (size_t j = 0; j < sizeof(answers) / sizeof(answers[0]); j++) {
            call.provider_sandbox_id = ops[i] == PROVIDER_LIST ? "" : "iabc";
            first(ops[i]);
            assert_int_equal(step.verdict, PROVIDER_SEND);
            answer(answers[j].status, answers[j].body);
            if (ops[i] == PROVIDER_TIMEOUT && answers[j].status == 400) {
                expect_send("GET", API "/sandboxes/iabc"); /* the sandbox is asked for either way */
                continue;
            }
            expect_failed(OUTCOME_TRANSIENT);
            assert_int_equal(step.http_status, answers[j].status);
        }
    }
    /* nor does a lookup that a proxy answered prove that an earlier create came to nothing */
    call.provider_sandbox_id = "";
    maybe_sent(0);
    answer(404, "<html>");
    expect_failed(OUTCOME_AMBIGUOUS);
    assert_true(step.may_exist);
}

/* ---- the other operations -------------------------------------------------------------------- */

static void known(enum provider_op op)
{
    call.provider_sandbox_id = "iabc";
    first(op);
}

static void test_pause(void **state)
{
    (void)state;
    known(PROVIDER_PAUSE);
    expect_send("POST", API "/sandboxes/iabc/pause");
    answer(204, "");
    expect_done(PROVIDER_STATE_PAUSED);
    known(PROVIDER_PAUSE);
    answer(404, REFUSED(404));
    expect_done(PROVIDER_STATE_ABSENT);
    known(PROVIDER_PAUSE);
    answer(409, REFUSED(409));
    expect_send("GET", API "/sandboxes/iabc");
    answer(200, "{\"sandboxID\":\"iabc\",\"state\":\"paused\",\"domain\":null}");
    expect_done(PROVIDER_STATE_PAUSED);
    known(PROVIDER_PAUSE);
    answer(409, REFUSED(409));
    answer(200, "{\"sandboxID\":\"iabc\",\"state\":\"running\"}");
    expect_failed(OUTCOME_SNOOZE);
    assert_true(step.retry_after_ms == 1000);
    known(PROVIDER_PAUSE);
    answer(409, REFUSED(409));
    answer(404, REFUSED(404));
    expect_done(PROVIDER_STATE_ABSENT);
    known(PROVIDER_PAUSE);
    lost(HTTP_AMBIGUOUS);
    expect_failed(OUTCOME_TRANSIENT);
    known(PROVIDER_PAUSE);
    answer(500, "");
    expect_failed(OUTCOME_TRANSIENT);
    call.provider_sandbox_id = "";
    first(PROVIDER_PAUSE);
    expect_failed(OUTCOME_PERMANENT);
}

static void test_resume(void **state)
{
    (void)state;
    static const int ok[] = {200, 201};
    for (size_t i = 0; i < 2; i++) {
        known(PROVIDER_RESUME);
        expect_send("POST", API "/sandboxes/iabc/connect");
        assert_string_equal(request.body.data, "{\"timeout\":62}");
        answer(ok[i], SANDBOX);
        expect_done(PROVIDER_STATE_RUNNING);
        assert_string_equal(call.result.access_token, "tok123");
        assert_true(call.result.expires_at_ms == NOW + 62000);
    }
    known(PROVIDER_RESUME);
    answer(404, REFUSED(404));
    expect_done(PROVIDER_STATE_ABSENT);
    known(PROVIDER_RESUME);
    answer(400, "{\"code\":400,\"message\":\"timeout too long\"}");
    expect_failed(OUTCOME_PERMANENT);
    known(PROVIDER_RESUME);
    answer(409, REFUSED(409));
    expect_failed(OUTCOME_TRANSIENT);
    known(PROVIDER_RESUME);
    answer(429, "");
    expect_failed(OUTCOME_CAPACITY);
    known(PROVIDER_RESUME);
    answer(503, "{\"error_code\":\"sandbox_placement_timeout\"}");
    expect_failed(OUTCOME_CAPACITY);
    known(PROVIDER_RESUME);
    answer(200, "garbage");
    expect_failed(OUTCOME_TRANSIENT);
}

static void test_delete(void **state)
{
    (void)state;
    static const int gone[] = {204, 404};
    for (size_t i = 0; i < 2; i++) {
        known(PROVIDER_DELETE);
        expect_send("DELETE", API "/sandboxes/iabc");
        assert_false(request.has_body);
        answer(gone[i], gone[i] == 204 ? "" : REFUSED(404));
        expect_done(PROVIDER_STATE_ABSENT);
    }
    known(PROVIDER_DELETE);
    answer(500, "");
    expect_failed(OUTCOME_TRANSIENT);
    known(PROVIDER_DELETE);
    answer(429, "");
    expect_failed(OUTCOME_RATE_LIMITED);
    assert_true(step.retry_after_ms > 0);
    known(PROVIDER_DELETE);
    lost(HTTP_AMBIGUOUS);
    expect_failed(OUTCOME_TRANSIENT);
}

static void test_delete_unknown(void **state)
{
    (void)state;
    first(PROVIDER_DELETE);
    expect_send("GET", LOOKUP);
    answer(200, "[]");
    expect_done(PROVIDER_STATE_ABSENT);
    call.maybe_sent = true;
    call.settle_until_ms = NOW + 5000;
    first(PROVIDER_DELETE);
    answer(200, "[]");
    expect_failed(OUTCOME_SNOOZE);
    first(PROVIDER_DELETE);
    answer(200, "[" ITEM("i2", "02") "," ITEM("i1", "01") "]");
    expect_send("DELETE", API "/sandboxes/i2");
    answer(204, "");
    expect_send("DELETE", API "/sandboxes/i1");
    answer(204, "");
    expect_done(PROVIDER_STATE_ABSENT);
}

static void test_timeout(void **state)
{
    (void)state;
    known(PROVIDER_TIMEOUT);
    expect_send("POST", API "/sandboxes/iabc/timeout");
    assert_string_equal(request.body.data, "{\"timeout\":62}");
    answer(204, "");
    expect_send("GET", API "/sandboxes/iabc");
    answer(200, "{\"sandboxID\":\"iabc\",\"state\":\"running\",\"endAt\":"
                "\"2023-11-14T22:14:20+00:00\",\"startedAt\":\"2023-11-14T22:13:20.5Z\"}");
    expect_done(PROVIDER_STATE_RUNNING);
    assert_true(call.result.expires_at_ms == 1700000060000LL);
    assert_true(call.result.started_at_ms == 1700000000500LL);
    known(PROVIDER_TIMEOUT);
    answer(404, REFUSED(404));
    expect_send("GET", API "/sandboxes/iabc");
    answer(200, "{\"sandboxID\":\"iabc\",\"state\":\"paused\",\"endAt\":\"2023-11-14T22:14:20Z\"}");
    expect_done(PROVIDER_STATE_PAUSED);
    assert_true(call.result.expires_at_ms == 0);
    known(PROVIDER_TIMEOUT);
    answer(404, REFUSED(404));
    answer(404, REFUSED(404));
    expect_done(PROVIDER_STATE_ABSENT);
    known(PROVIDER_TIMEOUT);
    answer(409, REFUSED(409));
    expect_failed(OUTCOME_SNOOZE);
    known(PROVIDER_TIMEOUT);
    answer(401, "");
    expect_failed(OUTCOME_AUTH);
}

static void test_get(void **state)
{
    (void)state;
    known(PROVIDER_GET);
    expect_send("GET", API "/sandboxes/iabc");
    answer(200, "{\"sandboxID\":\"iabc\",\"state\":\"running\",\"envdAccessToken\":\"tok\"}");
    expect_done(PROVIDER_STATE_RUNNING);
    assert_string_equal(call.result.access_token, "tok");
    known(PROVIDER_GET);
    answer(404, REFUSED(404));
    expect_done(PROVIDER_STATE_ABSENT);
    known(PROVIDER_GET);
    answer(200, "{\"sandboxID\":\"iabc\",\"state\":\"dreaming\"}");
    expect_failed(OUTCOME_TRANSIENT);
    known(PROVIDER_GET);
    answer(400, "{\"code\":400,\"message\":\"malformed\"}");
    expect_failed(OUTCOME_PERMANENT);
    call.provider_sandbox_id = "../../admin";
    first(PROVIDER_GET);
    expect_failed(OUTCOME_PERMANENT);
    call.provider_sandbox_id = "";
    first(PROVIDER_GET);
    expect_send("GET", LOOKUP);
    answer(200, "[" ITEM("i1", "01") "," ITEM("i2", "02") "]");
    expect_send("GET", API "/sandboxes/i1");
}

/* ---- a start command, a port ---------------------------------------------------------------- */

#define ENVELOPE(length, text) "\0\0\0\0" length text
#define END_OK                 "\2\0\0\0\2{}"

static int check_start(int status, const char *body, size_t bytes, struct error *err)
{
    struct error open_err = ERROR_INIT;
    const struct provider_target target = {.provider_sandbox_id = "iabc", .domain = ""};
    const struct http_response response = {
        .transport = HTTP_ANSWERED, .status = status, .body = body, .body_bytes = bytes};
    setenv("E2B_API_KEY", KEY, 1);
    struct provider *p = e2b_provider_ops.open(&open_err);
    assert_non_null(p);
    int rc = p->ops->start_check(p, &target, &response, err);
    p->ops->close(p);
    return rc;
}

static void test_start_command(void **state)
{
    static const char good[] = ENVELOPE("\x1e", "{\"event\":{\"end\":{\"exited\":1}}}") END_OK;
    static const char bad[] = ENVELOPE("\x22", "{\"event\":{\"end\":{\"exitCode\":127}}}") END_OK;
    static const char no_end[] = ENVELOPE("\x1d", "{\"event\":{\"start\":{\"pid\":4}}}") END_OK;
    struct error err = ERROR_INIT;
    const struct provider_target target = {
        .provider_sandbox_id = "iabc", .domain = "", .access_token = "tok"};
    struct http_request sent;

    (void)state;
    clear_env();
    setenv("E2B_API_KEY", KEY, 1);
    struct provider *p = e2b_provider_ops.open(&err);
    assert_non_null(p);
    http_request_init(&sent);
    assert_int_equal(p->ops->start_request(p, &target, "echo 'a b'", &sent, &err), 0);
    assert_string_equal(sent.url.data, "https://sandbox.e2b.app/process.Process/Start");
    assert_non_null(strstr(sent.headers.data, "X-Access-Token: tok\n"));
    assert_true(sent.once);
    /* the command is an argument of its own: no quoting of ours that it could break out of */
    assert_non_null(memmem(sent.body.data, sent.body.length, "\"echo 'a b'\"]", 13));
    http_request_done(&sent);
    p->ops->close(p);

    assert_int_equal(check_start(200, good, sizeof(good) - 1, &err), 0);
    assert_int_equal(check_start(200, bad, sizeof(bad) - 1, &err), -1);
    assert_int_equal(check_start(200, no_end, sizeof(no_end) - 1, &err), -1);
    assert_int_equal(check_start(200, "<html>", 6, &err), -1);
    assert_int_equal(check_start(502, "{}", 2, &err), -1);
}

static void check_port(const char *sandbox_url, const char *traffic_token, const char *url,
                       const char *headers)
{
    struct error err = ERROR_INIT;
    const struct provider_target target = {
        .provider_sandbox_id = "iabc", .domain = "", .traffic_token = traffic_token};
    struct http_request sent;

    clear_env();
    setenv("E2B_API_KEY", KEY, 1);
    setenv("E2B_SANDBOX_URL", sandbox_url, 1);
    struct provider *p = e2b_provider_ops.open(&err);
    assert_non_null(p);
    http_request_init(&sent);
    assert_int_equal(p->ops->port_request(p, NULL, &target, 6060, "/health", &sent, &err), 0);
    assert_string_equal(sent.method, "GET");
    assert_string_equal(sent.url.data, url);
    assert_string_equal(sent.headers.data, headers);
    http_request_done(&sent);
    p->ops->close(p);
}

static void test_port_request(void **state)
{
    (void)state;
    check_port("", "", "https://6060-iabc.e2b.app/health",
               "E2b-Sandbox-Id: iabc\nE2b-Sandbox-Port: 6060\n");
    check_port("http://10.0.0.1:9", "t", "http://10.0.0.1:9/health",
               "E2b-Sandbox-Id: iabc\nE2b-Sandbox-Port: 6060\nE2b-Traffic-Access-Token: t\n");
}

/* Its times are put on our clock by the Date of the answer that told them. */
static void test_the_providers_clock(void **state)
{
    static const int64_t shifts_ms[] = {-7200000, -600000, -3500, 0, 600000, 7200000};
    (void)state;
    provider_call_done(&call);
    provider_call_init(&call);
    provider_call_tick(&call, NOW, NULL);
    assert_false(call.clock_told);
    assert_true(provider_call_time(&call, NOW + 5000) == NOW + 5000);
    for (size_t i = 0; i < sizeof(shifts_ms) / sizeof(shifts_ms[0]); i++) {
        int64_t theirs_ms = NOW + shifts_ms[i];
        struct http_response last = {.date_ms = theirs_ms - theirs_ms % 1000};
        provider_call_tick(&call, NOW, &last);
        assert_true(call.clock_told);
        assert_in_range(provider_call_time(&call, theirs_ms + 60000), NOW + 59000, NOW + 61000);
        assert_true(provider_call_time(&call, 0) == 0);
    }
    /* what the precision of a Date and a slow answer explain is no difference */
    for (int64_t behind_ms = -1000; behind_ms <= 3000; behind_ms += 1000) {
        struct http_response last = {.date_ms = NOW - behind_ms};
        provider_call_tick(&call, NOW, &last);
        assert_true(call.clock_ahead_ms == 0);
    }
    provider_call_tick(&call, NOW, &(struct http_response){.date_ms = 0}); /* as last told */
    assert_true(call.clock_told);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_base_urls),
        T(test_open),
        T(test_registry),
        T(test_metadata_encoding),
        T(test_create_request),
        T(test_create_timeouts),
        T(test_create_done),
        T(test_create_nulls),
        T(test_create_garbage),
        T(test_create_failures),
        T(test_error_text),
        T(test_lookup_none),
        T(test_settle_only),
        T(test_settle_takes_proof),
        T(test_lookup_undecided),
        T(test_lookup_adopts_one),
        T(test_lookup_pages_and_extras),
        T(test_lookup_many_extras),
        T(test_foreign_answers),
        T(test_pause),
        T(test_resume),
        T(test_delete),
        T(test_delete_unknown),
        T(test_timeout),
        T(test_get),
        T(test_the_providers_clock),
        T(test_start_command),
        T(test_port_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
