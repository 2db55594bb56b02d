/*
 * Daytona's API, driven with literals: what each operation sends, and what every kind of answer
 * means. No socket.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/provider/daytona.h"

#define KEY  "dtn_0123456789abcdef"
#define NOW  1700000000000LL
#define SBX  "11111111-2222-4333-8444-555555555555"
#define ID   "aaaaaaaa-2222-4333-8444-555555555555"
#define API  "https://api.example/api"
#define TAGS "\"labels\":{\"sandbox_deployment\":\"dep-1\",\"sandbox_id\":\"" SBX "\"}"

static struct provider *provider;
static struct http_request request;
static struct provider_step step;
static struct provider_call call;

static void clear_env(void)
{
    static const char *const names[] = {
        "DAYTONA_API_KEY", "DAYTONA_API_URL",  "DAYTONA_SERVER_URL",       "DAYTONA_API_KEY_FILE",
        "DAYTONA_TARGET",  "DAYTONA_SNAPSHOT", "DAYTONA_CREATE_TIMEOUT_MS"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unsetenv(names[i]);
}

static int setup(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    clear_env();
    setenv("DAYTONA_API_KEY", KEY, 1);
    setenv("DAYTONA_API_URL", API "/", 1);
    provider = daytona_provider_ops.open(&err);
    assert_string_equal(err.message, "");
    provider_call_init(&call);
    call.deployment_id = "dep-1";
    call.sandbox_id = SBX;
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
    struct provider_call fresh = call;
    provider_call_done(&call);
    provider_call_init(&call);
    fresh.page = call.page;
    fresh.phase = fresh.scratch = 0;
    fresh.listed = NULL;
    fresh.listed_count = fresh.listed_capacity = 0;
    memset(&fresh.result, 0, sizeof(fresh.result));
    call = fresh;
    call.op = op;
    run_step(NULL);
}

static void first_by_id(enum provider_op op)
{
    call.provider_sandbox_id = ID;
    first(op);
}

static void answer_after(int status, const char *body, int64_t retry_after_ms)
{
    struct http_response response = {.transport = HTTP_ANSWERED,
                                     .status = status,
                                     .body = body,
                                     .body_bytes = strlen(body),
                                     .retry_after_ms = retry_after_ms};
    run_step(&response);
}

static void answer(int status, const char *body)
{
    answer_after(status, body, 0);
}

/* 200 with a sandbox in this state. */
static void answer_box(const char *state, const char *more)
{
    char body[1024];
    snprintf(body, sizeof(body),
             "{\"id\":\"" ID "\",\"name\":\"" SBX "\",\"state\":\"%s\"," TAGS
             ",\"toolboxProxyUrl\":\"https://proxy.example/toolbox/\",\"autoStopInterval\":2%s}",
             state, more);
    answer(200, body);
}

/* A body as the API sends it with an error. */
#define REFUSED(status, text)                                                                      \
    "{\"path\":\"/api/sandbox\",\"statusCode\":" #status ",\"error\":\"no\",\"message\":\"" text   \
    "\"}"
#define NOT_FOUND REFUSED(404, "Sandbox with ID or name x not found")

static void lost(enum http_transport transport)
{
    struct http_response response = {
        .transport = transport, .error = "Recv failure: reset", .body = ""};
    run_step(&response);
}

static void expect_send(const char *method, const char *path)
{
    char url[256];
    snprintf(url, sizeof(url), API "%s", path);
    assert_int_equal(step.verdict, PROVIDER_SEND);
    assert_string_equal(request.method, method);
    assert_string_equal(request.url.data, url);
    assert_non_null(strstr(request.headers.data, "Authorization: Bearer " KEY "\n"));
}

/* A wait, after which this is sent. */
static void expect_wait_then(const char *method, const char *path)
{
    assert_int_equal(step.verdict, PROVIDER_WAIT);
    assert_true(step.retry_after_ms >= 50 && step.retry_after_ms <= 2000);
    run_step(NULL);
    expect_send(method, path);
}

static void expect_failed(enum outcome outcome)
{
    assert_int_equal(step.verdict, PROVIDER_FAILED);
    assert_string_equal(outcome_name(step.outcome), outcome_name(outcome));
    assert_null(strstr(step.error, KEY));
}

static void expect_done(enum provider_state state)
{
    assert_int_equal(step.verdict, PROVIDER_DONE);
    assert_int_equal(call.result.state, state);
}

#define BY_NAME "/sandbox/" SBX
#define BY_ID   "/sandbox/" ID

/* ---- configuration and parsing --------------------------------------------------------------- */

static void test_open(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    clear_env();
    assert_null(daytona_provider_ops.open(&err));
    assert_int_equal(err.code, ERR_NOT_FOUND);
    static const char *const bad[][2] = {{"DAYTONA_API_URL", "ftp://x"},
                                         {"DAYTONA_API_URL", "https://key@host/api"},
                                         {"DAYTONA_SERVER_URL", "app.daytona.io/api"},
                                         {"DAYTONA_CREATE_TIMEOUT_MS", "soon"}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        clear_env();
        setenv("DAYTONA_API_KEY", KEY, 1);
        setenv(bad[i][0], bad[i][1], 1);
        assert_null(daytona_provider_ops.open(&err));
        assert_int_equal(err.code, ERR_CONFIG);
        assert_non_null(strstr(err.message, bad[i][0]));
    }
    /* the newer name wins, the older one counts, the cloud is the default */
    static const char *const urls[][3] = {{"", "", "https://app.daytona.io/api"},
                                          {"", "http://old/api/", "http://old/api"},
                                          {"http://new/api", "http://old/api", "http://new/api"}};
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        clear_env();
        setenv("DAYTONA_API_KEY", KEY, 1);
        setenv("DAYTONA_API_URL", urls[i][0], 1);
        setenv("DAYTONA_SERVER_URL", urls[i][1], 1);
        struct provider *p = daytona_provider_ops.open(&err);
        assert_non_null(p);
        assert_string_equal(((struct daytona *)p)->api_base, urls[i][2]);
        p->ops->close(p);
    }
}

static void test_states(void **state)
{
    (void)state;
    static const char *const changing[] = {
        "creating",      "restoring",        "starting", "stopping",
        "pending_build", "resizing",         "forking",  "resuming",
        "snapshotting",  "pulling_snapshot", "pausing",  "building_snapshot"};
    for (size_t i = 0; i < sizeof(changing) / sizeof(changing[0]); i++)
        assert_int_equal(daytona_kind_of(changing[i]), DAYTONA_CHANGING);
    assert_int_equal(daytona_kind_of("started"), DAYTONA_STARTED);
    assert_int_equal(daytona_kind_of("stopped"), DAYTONA_STOPPED);
    assert_int_equal(daytona_kind_of("archived"), DAYTONA_STOPPED);
    assert_int_equal(daytona_kind_of("archiving"), DAYTONA_STOPPED);
    assert_int_equal(daytona_kind_of("paused"), DAYTONA_STOPPED);
    assert_int_equal(daytona_kind_of("error"), DAYTONA_FAILED);
    assert_int_equal(daytona_kind_of("build_failed"), DAYTONA_FAILED);
    assert_int_equal(daytona_kind_of("destroying"), DAYTONA_GONE);
    assert_int_equal(daytona_kind_of("destroyed"), DAYTONA_GONE);
    assert_int_equal(daytona_kind_of("unknown"), DAYTONA_UNKNOWN);
    assert_int_equal(daytona_kind_of("levitating"), DAYTONA_UNKNOWN);
    assert_int_equal(daytona_kind_of(""), DAYTONA_UNKNOWN);
}

static int take(const char *json, struct daytona_box *box)
{
    struct error err = ERROR_INIT;
    cJSON *root = json_parse(json, strlen(json), &err);
    int rc = daytona_box_take(root, "dep-1", SBX, box);
    cJSON_Delete(root);
    return rc;
}

static void test_box_take(void **state)
{
    (void)state;
    struct daytona_box box;
    assert_int_equal(take("{\"id\":\"a-1\",\"state\":\"started\"," TAGS
                          ",\"toolboxProxyUrl\":\"https://p/toolbox//\",\"recoverable\":true,"
                          "\"sandboxClass\":\"linux-vm\",\"autoStopInterval\":15,"
                          "\"createdAt\":\"2024-10-01T12:00:00Z\",\"news\":[1]}",
                          &box),
                     0);
    assert_string_equal(box.id, "a-1");
    assert_string_equal(box.toolbox_url, "https://p/toolbox");
    assert_true(box.ours && box.recoverable && box.is_vm);
    assert_int_equal(box.autostop_minutes, 15);
    assert_true(box.created_at_ms == 1727784000000LL);
    assert_int_equal(take("{\"id\":\"a-1\"}", &box), 0);
    assert_false(box.ours);
    assert_int_equal(box.autostop_minutes, -1);
    static const char *const bad[] = {"[]",
                                      "{}",
                                      "{\"id\":\"\"}",
                                      "{\"id\":\"a/../b\"}",
                                      "{\"id\":7}",
                                      "{\"id\":\"a\",\"toolboxProxyUrl\":\"file:///etc\"}",
                                      "{\"id\":\"a\",\"toolboxProxyUrl\":\"http://h/?q\"}",
                                      "{\"id\":\"a\",\"toolboxProxyUrl\":\"http://u@h/\"}"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(take(bad[i], &box), -1);
    assert_int_equal(daytona_box_take(NULL, "d", "s", &box), -1);
}

/* ---- create ---------------------------------------------------------------------------------- */

static void test_create_request(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    call.template_id = "snap";
    call.metadata_json = "{\"who\":\"me\",\"sandbox_id\":\"forged\"}";
    first(PROVIDER_CREATE);
    expect_send("POST", "/sandbox");
    assert_true(request.once);
    cJSON *body = json_parse(request.body.data, request.body.length, &err);
    assert_non_null(body);
    assert_string_equal(cJSON_GetObjectItem(body, "name")->valuestring, SBX);
    assert_string_equal(cJSON_GetObjectItem(body, "snapshot")->valuestring, "snap");
    assert_int_equal(cJSON_GetObjectItem(body, "autoStopInterval")->valueint, 2);
    assert_int_equal(cJSON_GetObjectItem(body, "autoDeleteInterval")->valueint, -1);
    assert_int_equal(cJSON_GetObjectItem(body, "autoArchiveInterval")->valueint, 10080);
    assert_null(cJSON_GetObjectItem(body, "target"));
    assert_null(cJSON_GetObjectItem(body, "cpu"));
    cJSON *labels = cJSON_GetObjectItem(body, "labels");
    assert_string_equal(cJSON_GetObjectItem(labels, "who")->valuestring, "me");
    assert_string_equal(cJSON_GetObjectItem(labels, "sandbox_id")->valuestring, SBX);
    assert_string_equal(cJSON_GetObjectItem(labels, "sandbox_deployment")->valuestring, "dep-1");
    assert_string_equal(cJSON_GetObjectItem(labels, "sandbox_job")->valuestring, "job-1");
    cJSON_Delete(body);
}

/* The create's body has this text about outgoing traffic, or, if NULL, none. */
static void assert_network(const char *rules, bool no_internet, const char *expected)
{
    cJSON *network = cJSON_Parse(rules);

    call.network = network;
    call.no_internet = no_internet;
    first(PROVIDER_CREATE);
    if (expected != NULL) {
        assert_non_null(strstr(request.body.data, expected));
    } else {
        assert_null(strstr(request.body.data, "network"));
    }
    call.network = NULL;
    call.no_internet = false;
    cJSON_Delete(network);
}

static void test_create_has_the_rules_of_outgoing_traffic(void **state)
{
    (void)state;
    assert_network("{\"allowPublicTraffic\":false}", false, NULL);
    assert_network("{\"allowOut\":[\"1.1.1.1\"]}", false, NULL); /* everything is allowed */
    assert_network("null", true, "\"networkBlockAll\":true");
    assert_network("{\"denyOut\":[\"0.0.0.0/0\"]}", false, "\"networkBlockAll\":true");
    assert_network("{\"allowOut\":[\"1.1.1.1\",\"10.0.0.0/8\"]}", true,
                   "\"networkAllowList\":\"1.1.1.1/32,10.0.0.0/8\"");
}

static void test_create_polls_until_started(void **state)
{
    (void)state;
    first(PROVIDER_CREATE);
    answer_box("creating", "");
    expect_wait_then("GET", BY_ID);
    answer_box("pulling_snapshot", "");
    expect_wait_then("GET", BY_ID);
    answer_box("started", "");
    expect_done(PROVIDER_STATE_RUNNING);
    assert_string_equal(call.result.provider_sandbox_id, ID);
    assert_string_equal(call.result.domain, "https://proxy.example/toolbox");
    assert_true(call.result.expires_at_ms == NOW + 120000);
    assert_false(call.result.adopted);
}

static void test_create_without_toolbox_url(void **state)
{
    (void)state;
    first(PROVIDER_CREATE);
    answer(201, "{\"id\":\"" ID "\",\"state\":\"started\",\"autoStopInterval\":2}");
    expect_send("GET", BY_ID "/toolbox-proxy-url");
    answer(200, "{\"url\":\"https://p.example/toolbox/\"}");
    expect_done(PROVIDER_STATE_RUNNING);
    assert_string_equal(call.result.domain, "https://p.example/toolbox");
}

static void test_create_lost_answer_is_adopted_by_name(void **state)
{
    (void)state;
    static const int statuses[] = {0, 408, 409, 500, 502, 503, 504, 200};
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        first(PROVIDER_CREATE);
        if (statuses[i] == 0)
            lost(HTTP_AMBIGUOUS);
        else
            answer(statuses[i], "<html>");
        expect_send("GET", BY_NAME);
        answer_box("started", "");
        expect_done(PROVIDER_STATE_RUNNING);
        assert_true(call.result.adopted);
    }
    /* adopted ones may be asleep */
    first(PROVIDER_CREATE);
    answer(409, "{\"message\":\"Sandbox with name x already exists\"}");
    answer_box("stopped", "");
    expect_send("POST", BY_ID "/start");
    answer_box("starting", "");
    expect_send("GET", BY_ID);
    answer_box("started", "");
    expect_done(PROVIDER_STATE_RUNNING);
}

static void test_create_unknown_end_claims_nothing(void **state)
{
    (void)state;
    first(PROVIDER_CREATE);
    lost(HTTP_AMBIGUOUS);
    answer(404, "{\"statusCode\":404,\"message\":\"not found\"}");
    expect_failed(OUTCOME_AMBIGUOUS);
    assert_true(step.may_exist);
    first(PROVIDER_CREATE);
    lost(HTTP_AMBIGUOUS);
    answer(500, "");
    expect_failed(OUTCOME_AMBIGUOUS);
    first(PROVIDER_CREATE);
    lost(HTTP_AMBIGUOUS);
    answer_after(429, "", 9000);
    expect_failed(OUTCOME_RATE_LIMITED);
    assert_true(step.may_exist);
    assert_true(step.retry_after_ms == 9000);
    first(PROVIDER_CREATE);
    answer(409, "{}");
    answer(404, NOT_FOUND);
    expect_failed(OUTCOME_SNOOZE);
    assert_true(step.may_exist);
    first(PROVIDER_CREATE);
    lost(HTTP_NOT_SENT);
    expect_failed(OUTCOME_TRANSIENT);
    assert_false(step.may_exist);
}

static void test_create_again_looks_by_name_first(void **state)
{
    (void)state;
    call.maybe_sent = true;
    call.settle_until_ms = NOW + 60000;
    first(PROVIDER_CREATE);
    expect_send("GET", BY_NAME);
    answer(404, NOT_FOUND);
    expect_send("POST", "/sandbox"); /* the name makes a second one impossible */
    answer_box("started", "");
    expect_done(PROVIDER_STATE_RUNNING);
    first(PROVIDER_CREATE);
    answer(503, "");
    expect_failed(OUTCOME_AMBIGUOUS);
    first(PROVIDER_CREATE);
    answer(401, "");
    expect_failed(OUTCOME_AUTH);
    assert_true(step.may_exist);
    call.settle_only = true;
    first(PROVIDER_CREATE);
    answer(404, NOT_FOUND);
    expect_failed(OUTCOME_SNOOZE);
    call.settle_until_ms = NOW;
    first(PROVIDER_CREATE);
    answer(404, NOT_FOUND);
    expect_done(PROVIDER_STATE_ABSENT);
}

/* A not-found may be another organization's: it counts once a list has shown a sandbox of ours, or
 * after a longer time. */
static void test_settle_takes_proof(void **state)
{
    (void)state;
    call.maybe_sent = call.settle_only = true;
    call.settle_until_ms = NOW;
    call.unproven_until_ms = NOW + 1500;
    first(PROVIDER_CREATE);
    answer(404, NOT_FOUND);
    assert_non_null(strstr(request.url.data, "/sandbox?limit="));
    answer(503, "");
    expect_failed(OUTCOME_AMBIGUOUS);
    first(PROVIDER_CREATE);
    answer(404, NOT_FOUND);
    answer(200, "{\"items\":[],\"nextCursor\":\"n\"}");
    assert_non_null(strstr(request.url.data, "&cursor=n"));
    answer(200, "{\"items\":[],\"nextCursor\":null}");
    expect_failed(OUTCOME_SNOOZE);
    assert_true(step.retry_after_ms == 1500 && step.may_exist);
    for (size_t i = 0; i < 2; i++) { /* one page, and the first of several */
        static const char *const next[] = {"null", "\"n\""};
        char page[512];
        snprintf(page, sizeof(page),
                 "{\"items\":[{\"id\":\"" ID "\",\"state\":\"started\"," TAGS
                 "}],\"nextCursor\":%s}",
                 next[i]);
        first(PROVIDER_CREATE);
        answer(404, NOT_FOUND);
        answer(200, page);
        expect_send("GET", BY_NAME); /* the first may have been another's still */
        answer(404, NOT_FOUND);
        expect_done(PROVIDER_STATE_ABSENT);
    }
    call.unproven_until_ms = NOW;
    first(PROVIDER_CREATE);
    answer(404, NOT_FOUND);
    expect_done(PROVIDER_STATE_ABSENT);
}

static void test_create_name_of_another(void **state)
{
    (void)state;
    first(PROVIDER_CREATE);
    answer(409, "{}");
    answer(200, "{\"id\":\"x\",\"state\":\"started\",\"labels\":{\"sandbox_id\":\"" SBX "\"}}");
    expect_failed(OUTCOME_PERMANENT);
    assert_false(step.may_exist);
}

static void test_create_refusals(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *message;
        int64_t retry_after_ms;
        bool looks;
        enum outcome outcome;
    } cases[] = {
        {400, "Snapshot x not found", 0, true, OUTCOME_PERMANENT},
        {400, "Total CPU limit exceeded. Maximum allowed: 10.", 0, true, OUTCOME_CAPACITY},
        {400, "No available runners", 0, true, OUTCOME_CAPACITY},
        {401, "Invalid credentials", 0, false, OUTCOME_AUTH},
        {403, "Organization is suspended: Depleted credits", 0, false, OUTCOME_CAPACITY},
        {403, "Access denied", 0, false, OUTCOME_PERMANENT},
        {404, "Region x not found", 0, false, OUTCOME_PERMANENT},
        {422, "Unprocessable", 0, false, OUTCOME_PERMANENT},
        {429, "ThrottlerException", 7000, false, OUTCOME_RATE_LIMITED},
        {429, "ThrottlerException", 0, false, OUTCOME_RATE_LIMITED},
        {307, "", 0, false, OUTCOME_PERMANENT}, /* with the API's own body, which none has seen */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char body[200];
        snprintf(body, sizeof(body), "{\"statusCode\":%d,\"message\":\"%s\"}", cases[i].status,
                 cases[i].message);
        first(PROVIDER_CREATE);
        answer_after(cases[i].status, body, cases[i].retry_after_ms);
        if (cases[i].looks) {
            expect_send("GET", BY_NAME);
            answer(404, NOT_FOUND);
        }
        expect_failed(cases[i].outcome);
        assert_false(step.may_exist);
        assert_int_equal(step.http_status, cases[i].status);
        assert_non_null(strstr(step.error, cases[i].message));
        if (cases[i].outcome == OUTCOME_RATE_LIMITED)
            assert_true(step.retry_after_ms ==
                        (cases[i].retry_after_ms ? cases[i].retry_after_ms : 1000));
    }
}

/* "failed to start" leaves a sandbox that holds the name. */
static void test_create_failed_leaves_nothing(void **state)
{
    (void)state;
    first(PROVIDER_CREATE);
    answer(400, REFUSED(400, "Sandbox failed to start: no disk"));
    expect_send("GET", BY_NAME);
    answer_box("error", ",\"errorReason\":\"no disk\"");
    expect_send("DELETE", BY_ID);
    answer(409, "");
    expect_wait_then("DELETE", BY_ID);
    answer_box("destroying", "");
    expect_failed(OUTCOME_PERMANENT);
    assert_non_null(strstr(step.error, "failed to start: no disk"));
    assert_false(step.may_exist);

    static const struct {
        const char *state;
        enum outcome outcome;
    } ends[] = {{"error", OUTCOME_TRANSIENT}, {"build_failed", OUTCOME_PERMANENT}};
    for (size_t i = 0; i < 2; i++) {
        first(PROVIDER_CREATE);
        answer_box("creating", "");
        expect_wait_then("GET", BY_ID);
        answer_box(ends[i].state, ",\"errorReason\":\"the reason\"");
        expect_send("DELETE", BY_ID);
        answer(404, NOT_FOUND);
        expect_failed(ends[i].outcome);
        assert_non_null(strstr(step.error, "the reason"));
        assert_false(step.may_exist);
    }
    /* while it cannot be removed, the job goes on */
    first(PROVIDER_CREATE);
    answer_box("error", "");
    answer(500, "");
    expect_failed(OUTCOME_AMBIGUOUS);
    assert_true(step.may_exist);
}

static void test_create_that_stays_creating_is_given_up(void **state)
{
    (void)state;
    char born[80], text[CLOCK_RFC3339_BYTES];
    snprintf(born, sizeof(born), ",\"createdAt\":\"%s\"", clock_format_rfc3339(NOW - 179000, text));
    first(PROVIDER_CREATE);
    answer_box("creating", born);
    expect_wait_then("GET", BY_ID);
    call.now_ms = NOW + 2000;
    answer_box("creating", born);
    expect_send("DELETE", BY_ID);
    answer(409, "{\"message\":\"Sandbox state change in progress\"}");
    expect_wait_then("DELETE", BY_ID);
    answer_box("destroying", "");
    expect_failed(OUTCOME_TRANSIENT);
    assert_non_null(strstr(step.error, "did not start in time"));
    assert_false(step.may_exist);
}

/* ---- the others ------------------------------------------------------------------------------ */

static void test_resume(void **state)
{
    (void)state;
    static const char *const asleep[] = {"stopped", "archived", "paused", "archiving"};
    for (size_t i = 0; i < sizeof(asleep) / sizeof(asleep[0]); i++) {
        first_by_id(PROVIDER_RESUME);
        expect_send("GET", BY_ID);
        answer_box(asleep[i], "");
        expect_send("POST", BY_ID "/start");
        answer(200, "");
        expect_send("GET", BY_ID);
        answer_box(asleep[i], ""); /* lags */
        expect_wait_then("GET", BY_ID);
        answer_box("started", "");
        expect_done(PROVIDER_STATE_RUNNING);
        assert_string_equal(call.result.domain, "https://proxy.example/toolbox");
    }
    first_by_id(PROVIDER_RESUME);
    answer_box("stopping", "");
    expect_wait_then("GET", BY_ID);
    answer_box("stopped", "");
    answer(409, "{}"); /* another change came first: look, never loop blindly */
    expect_wait_then("GET", BY_ID);
    answer_box("stopped", "");
    expect_send("POST", BY_ID "/start");
    answer(404, NOT_FOUND);
    expect_send("GET", BY_ID);
    answer(404, NOT_FOUND);
    expect_done(PROVIDER_STATE_ABSENT);
    first_by_id(PROVIDER_RESUME);
    answer_box("error", ",\"recoverable\":true");
    expect_send("POST", BY_ID "/recover");
    answer_box("starting", "");
    expect_send("GET", BY_ID);
    answer_box("error", ",\"recoverable\":true,\"errorReason\":\"again\"");
    expect_failed(OUTCOME_PERMANENT);
    first_by_id(PROVIDER_RESUME);
    answer_box("error", ",\"errorReason\":\"broken disk\"");
    expect_failed(OUTCOME_PERMANENT);
    assert_non_null(strstr(step.error, "broken disk"));
}

static void test_resume_keeps_the_idle_timer_behind_the_deadline(void **state)
{
    (void)state;
    call.timeout_ms = 600000;
    first_by_id(PROVIDER_RESUME);
    answer_box("started", "");
    expect_send("POST", BY_ID "/autostop/10");
    assert_false(request.has_body);
    answer(201, "");
    expect_send("GET", BY_ID);
    answer_box("started", "");
    expect_done(PROVIDER_STATE_RUNNING);
    assert_true(call.result.expires_at_ms == NOW + 600000);
}

static void test_pause(void **state)
{
    (void)state;
    first_by_id(PROVIDER_PAUSE);
    expect_send("GET", BY_ID);
    answer_box("started", "");
    expect_send("POST", BY_ID "/stop?force=false");
    answer_box("stopping", "");
    expect_send("GET", BY_ID);
    answer_box("stopping", "");
    expect_wait_then("GET", BY_ID);
    answer_box("stopped", "");
    expect_done(PROVIDER_STATE_PAUSED);
    /* "not in a stoppable state": stopped in between */
    first_by_id(PROVIDER_PAUSE);
    answer_box("started", "");
    answer(400, "{\"message\":\"Sandbox is not in a stoppable state\"}");
    expect_send("GET", BY_ID);
    answer_box("stopped", "");
    expect_done(PROVIDER_STATE_PAUSED);
    /* a virtual machine keeps its memory; when it cannot, it is stopped */
    first_by_id(PROVIDER_PAUSE);
    answer_box("started", ",\"sandboxClass\":\"linux-vm\"");
    expect_send("POST", BY_ID "/pause");
    answer(422, "{}");
    expect_send("POST", BY_ID "/stop?force=false");
    answer(200, "");
    answer(404, NOT_FOUND);
    expect_done(PROVIDER_STATE_ABSENT);
    first_by_id(PROVIDER_PAUSE);
    answer_box("paused", "");
    expect_done(PROVIDER_STATE_PAUSED);
}

static void test_delete(void **state)
{
    (void)state;
    first_by_id(PROVIDER_DELETE);
    expect_send("DELETE", BY_ID);
    answer(409, "");
    expect_wait_then("DELETE", BY_ID);
    answer_box("destroying", "");
    expect_send("GET", BY_ID);
    answer_box("destroying", "");
    expect_wait_then("GET", BY_ID);
    answer(404, NOT_FOUND);
    expect_done(PROVIDER_STATE_ABSENT);
    first_by_id(PROVIDER_DELETE);
    answer(404, NOT_FOUND);
    expect_done(PROVIDER_STATE_ABSENT);
    /* an accepted delete that did not happen is sent again, not at once */
    first_by_id(PROVIDER_DELETE);
    answer(200, "{}");
    answer_box("started", "");
    expect_wait_then("DELETE", BY_ID);
    answer(502, "");
    expect_failed(OUTCOME_TRANSIENT);
    first_by_id(PROVIDER_DELETE);
    answer(400, REFUSED(400, "Sandbox has live forks"));
    expect_failed(OUTCOME_PERMANENT);
}

static void test_delete_by_name(void **state)
{
    (void)state;
    call.maybe_sent = true;
    call.settle_until_ms = NOW + 9000;
    first(PROVIDER_DELETE);
    expect_send("GET", BY_NAME);
    answer(404, NOT_FOUND);
    expect_failed(OUTCOME_SNOOZE);
    call.settle_until_ms = NOW;
    first(PROVIDER_DELETE);
    answer(404, NOT_FOUND);
    expect_done(PROVIDER_STATE_ABSENT);
    first(PROVIDER_DELETE);
    answer_box("creating", "");
    expect_send("DELETE", BY_ID);
    answer(200, "");
    answer(404, NOT_FOUND);
    expect_done(PROVIDER_STATE_ABSENT);
    /* never somebody else's */
    first(PROVIDER_DELETE);
    answer(200, "{\"id\":\"x\",\"state\":\"started\",\"labels\":{}}");
    expect_done(PROVIDER_STATE_ABSENT);
}

static void test_get(void **state)
{
    (void)state;
    static const struct {
        const char *state;
        enum provider_state expected;
    } cases[] = {{"started", PROVIDER_STATE_RUNNING}, {"stopped", PROVIDER_STATE_PAUSED},
                 {"archived", PROVIDER_STATE_PAUSED}, {"error", PROVIDER_STATE_PAUSED},
                 {"paused", PROVIDER_STATE_PAUSED},   {"destroying", PROVIDER_STATE_ABSENT}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        first_by_id(PROVIDER_GET);
        answer_box(cases[i].state, "");
        expect_done(cases[i].expected);
    }
    first_by_id(PROVIDER_GET);
    answer_box("levitating", "");
    expect_wait_then("GET", BY_ID);
    answer(404, NOT_FOUND);
    expect_done(PROVIDER_STATE_ABSENT);
    first_by_id(PROVIDER_GET);
    answer(200, "no json");
    expect_failed(OUTCOME_TRANSIENT);
    first_by_id(PROVIDER_GET);
    answer(401, "{}");
    expect_failed(OUTCOME_AUTH);
}

static void test_timeout(void **state)
{
    (void)state;
    call.timeout_ms = 3600001;
    first_by_id(PROVIDER_TIMEOUT);
    expect_send("POST", BY_ID "/autostop/61");
    answer(201, "");
    expect_send("POST", BY_ID "/last-activity");
    answer(201, "");
    expect_send("GET", BY_ID);
    answer_box("started", "");
    expect_done(PROVIDER_STATE_RUNNING);
    assert_true(call.result.expires_at_ms == NOW + 61 * 60000);
    first_by_id(PROVIDER_TIMEOUT);
    answer(409, "");
    expect_wait_then("POST", BY_ID "/autostop/61");
    answer(404, NOT_FOUND);
    answer(404, NOT_FOUND);
    expect_done(PROVIDER_STATE_ABSENT);
    first_by_id(PROVIDER_TIMEOUT);
    answer(200, "");
    answer(200, "");
    answer_box("stopped", "");
    expect_done(PROVIDER_STATE_PAUSED);
    call.timeout_ms = 0;
    first_by_id(PROVIDER_TIMEOUT);
    expect_send("POST", BY_ID "/autostop/1"); /* 0 would mean never */
}

static void test_malformed_ids_go_nowhere(void **state)
{
    (void)state;
    call.provider_sandbox_id = "a/../../x";
    first(PROVIDER_DELETE);
    expect_failed(OUTCOME_PERMANENT);
    call.provider_sandbox_id = "";
    first(PROVIDER_PAUSE);
    expect_failed(OUTCOME_PERMANENT);
}

/* A proxy's refusal says nothing of a sandbox, nor does that of a router which knows no such path:
 * each is tried again. */
static void test_foreign_answers(void **state)
{
    static const enum provider_op ops[] = {PROVIDER_GET,    PROVIDER_PAUSE,   PROVIDER_RESUME,
                                           PROVIDER_DELETE, PROVIDER_TIMEOUT, PROVIDER_LIST};
    static const struct {
        int status;
        const char *body;
    } answers[] = {
        {404, ""},
        {404, "<html>Not Found</html>"},
        {404, "{\"message\":\"no Route matched with those values\"}"},
        {404, REFUSED(404, "Cannot GET /sandbox/x")},
        {404, REFUSED(403, "another status than its own")},
        {403, "<html>blocked</html>"},
        {403, ""},
        {302, ""},
        {307, "<html>login</html>"},
        {422, "<html>"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        for (size_t j = 0; j < sizeof(answers) / sizeof(answers[0]); j++) {
            first_by_id(ops[i]);
            assert_int_equal(step.verdict, PROVIDER_SEND);
            answer(answers[j].status, answers[j].body);
            expect_failed(OUTCOME_TRANSIENT);
            assert_int_equal(step.http_status, answers[j].status);
        }
    }
    first_by_id(PROVIDER_PAUSE);
    answer_box("started", "");
    expect_send("POST", BY_ID "/stop?force=false");
    answer(404, "<html>");
    expect_failed(OUTCOME_TRANSIENT);
    call.provider_sandbox_id = "";
    call.maybe_sent = true;
    first(PROVIDER_CREATE);
    answer(404, "<html>"); /* no proof that an earlier create came to nothing */
    expect_failed(OUTCOME_AMBIGUOUS);
    assert_true(step.may_exist);
}

static void test_texts_carry_no_key(void **state)
{
    (void)state;
    first(PROVIDER_CREATE);
    answer(403, REFUSED(403, "bad key " KEY " given"));
    expect_failed(OUTCOME_PERMANENT);
    assert_non_null(strstr(step.error, "bad key *** given"));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_open),
        T(test_states),
        T(test_box_take),
        T(test_create_request),
        T(test_create_has_the_rules_of_outgoing_traffic),
        T(test_create_polls_until_started),
        T(test_create_without_toolbox_url),
        T(test_create_lost_answer_is_adopted_by_name),
        T(test_create_unknown_end_claims_nothing),
        T(test_create_again_looks_by_name_first),
        T(test_settle_takes_proof),
        T(test_create_name_of_another),
        T(test_create_refusals),
        T(test_create_failed_leaves_nothing),
        T(test_create_that_stays_creating_is_given_up),
        T(test_resume),
        T(test_resume_keeps_the_idle_timer_behind_the_deadline),
        T(test_pause),
        T(test_delete),
        T(test_delete_by_name),
        T(test_get),
        T(test_timeout),
        T(test_malformed_ids_go_nowhere),
        T(test_foreign_answers),
        T(test_texts_carry_no_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
