/*
 * Daytona's data plane against a scripted toolbox: what is sent, and what every answer means, those
 * without a body and those that are cut off among them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/provider/daytona.h"
#include "tests/integration/mini_server.h"

#define KEY "dtn_0123456789abcdef"
#define ID  "aaaaaaaa-2222-4333-8444-555555555555"

static struct mini_server server;
static struct http_client *client;
static struct provider *provider;
static struct provider_target target;
static struct error err;
static char domain[64];

/* the answers: each in turn, the last one for all that follow; "" as the body of a run = script */
static struct {
    int status;
    const char *headers, *body;
    int delay_ms;
    long announced; /* Content-Length, when it is not the body's; the connection is closed then */
} answers[8];
static int answer_count;

static char lines[8][512];
static char last_head[MINI_HEAD_BYTES], first_body[262144];
static size_t first_bytes;
static atomic_int seen, runs;

/* The answer of the script that runs a command, to whoever asks about it. */
static void answer_run(struct mini_request *r, const char *state)
{
    static const char *const modes[] = {" sh run ", " sh follow ", " sh end ", " sh start "};
    char text[512], id[UUID_BYTES] = "";
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        const char *at = strstr(r->body, modes[i]);
        if (at != NULL)
            snprintf(id, sizeof(id), "%.36s", at + strlen(modes[i]));
    }
    int n = snprintf(text, sizeof(text), "{\"exitCode\":0,\"result\":\"noise\\n@@%s\\n%s\"}", id,
                     state);
    mini_answer(r->fd, 200, "Content-Type: application/json\r\n", text, (size_t)n);
}

static enum mini_after handle(struct mini_server *s, struct mini_request *r)
{
    (void)s;
    int nth = atomic_fetch_add(&seen, 1);
    snprintf(lines[nth < 8 ? nth : 7], sizeof(lines[0]), "%.*s", (int)strcspn(r->head, "\r"),
             r->head);
    memcpy(last_head, r->head, sizeof(last_head));
    if (nth == 0) {
        first_bytes = r->body_bytes < sizeof(first_body) ? r->body_bytes : sizeof(first_body) - 1;
        memcpy(first_body, r->body, first_bytes);
        first_body[first_bytes] = '\0';
    }
    atomic_fetch_add(&runs, strstr(r->body, " sh run ") != NULL);
    int at = nth < answer_count ? nth : answer_count - 1;
    const char *body = answers[at].body;
    clock_sleep_ms(answers[at].delay_ms);
    if (strncmp(body, "S ", 2) == 0 || strncmp(body, "P ", 2) == 0 || strncmp(body, "C ", 2) == 0 ||
        strncmp(body, "E ", 2) == 0) {
        answer_run(r, body);
        return MINI_KEEP;
    }
    if (answers[at].announced > 0) {
        char head[128];
        snprintf(head, sizeof(head), "HTTP/1.1 %d X\r\nContent-Length: %ld\r\n\r\n",
                 answers[at].status, answers[at].announced);
        mini_puts(r->fd, head);
        mini_puts(r->fd, body);
        return MINI_CLOSE;
    }
    mini_answer(r->fd, answers[at].status, answers[at].headers, body, strlen(body));
    return MINI_KEEP;
}

static void script(void)
{
    answer_count = 0;
    atomic_store(&seen, 0);
    atomic_store(&runs, 0);
    err = (struct error)ERROR_INIT;
}

static void then(int status, const char *body)
{
    answers[answer_count].status = status;
    answers[answer_count].headers = "";
    answers[answer_count].delay_ms = 0;
    answers[answer_count].announced = 0;
    answers[answer_count++].body = body;
}

static int setup(void **state)
{
    char url[80];
    (void)state;
    mini_start(&server, handle, NULL);
    snprintf(domain, sizeof(domain), "http://127.0.0.1:%d/toolbox", server.port);
    snprintf(url, sizeof(url), "http://127.0.0.1:%d/api", server.port);
    setenv("DAYTONA_API_KEY", KEY, 1);
    setenv("DAYTONA_API_URL", url, 1);
    setenv("DAYTONA_REQUEST_TIMEOUT_MS", "3000", 1);
    provider = daytona_provider_ops.open(&err);
    assert_non_null(provider);
    client = http_client_new();
    target = (struct provider_target){
        .provider_sandbox_id = ID, .domain = domain, .access_token = "", .traffic_token = ""};
    script();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    http_client_free(client);
    provider->ops->close(provider);
    mini_stop(&server);
    return 0;
}

/* ---- files ------------------------------------------------------------------------------------
 */

static char taken[65536];
static size_t taken_bytes;

static int take(void *arg, const void *data, size_t bytes)
{
    (void)arg;
    memcpy(taken + taken_bytes, data, bytes);
    taken_bytes += bytes;
    return 0;
}

static int read_file(const char *path)
{
    taken_bytes = 0;
    struct file_get get = {.path = path, .bytes = -1, .on_data = take};
    return provider->ops->file_get(provider, client, &target, &get, &err);
}

static void test_read(void **state)
{
    (void)state;
    then(200, "content");
    assert_int_equal(read_file("/home/a b+c&d%e#f\xc3\xa9"), 0);
    assert_memory_equal(taken, "content", 7);
    assert_string_equal(lines[0],
                        "GET /toolbox/" ID
                        "/files/download?path=/home/a%20b%2Bc%26d%25e%23f%C3%A9 HTTP/1.1");
    assert_non_null(strstr(last_head, "\r\nAuthorization: Bearer " KEY "\r\n"));
}

static void test_answers_without_success(void **state)
{
    static const struct {
        int status;
        const char *body;
        enum error_code code;
    } cases[] = {
        {404, "", ERR_FILE_NOT_FOUND}, /* handlers abort before the error's body is written */
        {404, "{\"code\":\"NOT_FOUND\",\"message\":\"file not found\"}", ERR_FILE_NOT_FOUND},
        {404, "{\"message\":\"sandbox container not found\"}", ERR_SANDBOX_NOT_FOUND},
        {400, "", ERR_PROVIDER}, /* names no cause: the script before it has looked */
        {400, "{\"message\":\"bad request: no IP address found. Is the Sandbox started?\"}",
         ERR_SANDBOX_NOT_FOUND},
        {400, "{\"message\":\"something else\"}", ERR_PROVIDER},
        {401, "", ERR_SANDBOX_NOT_FOUND}, /* a deleted one looks like a bad key */
        {403, "", ERR_PROVIDER},
        {429, "", ERR_PROVIDER_DOWN},
        {500, "<html>", ERR_PROVIDER},
        {404, "<html>not found</html>", ERR_PROVIDER_DOWN}, /* a proxy's page says nothing */
        {401, "<html>login</html>", ERR_PROVIDER_DOWN},
        {502, "<html>bad gateway</html>", ERR_PROVIDER_DOWN},
        {502, "", ERR_SANDBOX_NOT_FOUND}, /* its daemon is dead or stopping */
        {503, "", ERR_PROVIDER_DOWN},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        script();
        then(cases[i].status, cases[i].body);
        assert_int_equal(read_file("/x"), -1);
        assert_int_equal(err.code, cases[i].code);
        assert_null(strstr(err.message, KEY));
        assert_int_equal(taken_bytes, 0);
    }
}

static void test_a_redirect_is_not_followed(void **state)
{
    char location[128];
    (void)state;
    snprintf(location, sizeof(location), "Location: http://127.0.0.1:%d/login\r\n", server.port);
    then(307, "");
    answers[0].headers = location;
    assert_int_equal(read_file("/x"), -1);
    assert_int_equal(err.code, ERR_PROVIDER);
    assert_int_equal(atomic_load(&seen), 1);
}

static void test_a_short_download_is_an_error(void **state)
{
    (void)state;
    then(200, "half");
    answers[0].announced = 100;
    assert_int_equal(read_file("/x"), -1);
    assert_int_equal(err.code, ERR_PROVIDER_DOWN);
}

struct source {
    const char *data;
    size_t left;
};

static long give(void *arg, void *buf, size_t bytes)
{
    struct source *source = arg;
    size_t n = source->left < bytes ? source->left : bytes;
    memcpy(buf, source->data, n);
    source->data += n;
    source->left -= n;
    return (long)n;
}

static int write_file(const char *path, const char *data, size_t bytes, int64_t announced)
{
    struct source source = {data, bytes};
    return provider->ops->file_put(provider, client, &target, path, give, &source, announced, &err);
}

static void test_write_is_one_form_with_path_before_file(void **state)
{
    static const char data[] = "a\0b\r\n--boundary--\r\nc";
    const size_t bytes = sizeof(data) - 1; /* 20 */
    (void)state;
    for (int known = 0; known < 2; known++) {
        script();
        then(200, "{\"files\":[{\"path\":\"d/x\",\"bytes\":20}]}");
        assert_int_equal(write_file("d/x", data, bytes, known ? (int64_t)bytes : -1), 0);
        const char *path = strstr(first_body, "name=\"files[0].path\"\r\n\r\nd/x\r\n");
        assert_non_null(path);
        const char *file = strstr(path, "name=\"files[0].file\"; filename=");
        assert_non_null(file);
        const char *content = strstr(file, "\r\n\r\n") + 4;
        assert_memory_equal(content, data, bytes);
        assert_memory_equal(content + bytes, "\r\n--", 4);
        assert_int_equal(strcasestr(last_head, "\r\nContent-Length:") != NULL, known);
    }
}

static void test_write_of_nothing(void **state)
{
    (void)state;
    then(200, "{\"files\":[{\"path\":\"/x\",\"bytes\":0}]}");
    assert_int_equal(write_file("/x", "", 0, 0), 0);
}

static void test_write_that_was_not_kept(void **state)
{
    static const struct {
        int status;
        const char *body, *words;
        enum error_code code;
    } cases[] = {
        {400, "{\"errors\":[\"/x: permission denied\"],\"files\":[]}", "permission denied",
         ERR_PROVIDER},
        {400, "{\"errors\":[\"write /x: no space left on device\"],\"files\":[]}", "no space",
         ERR_NO_SPACE},
        {200, "{\"files\":[{\"path\":\"/x\",\"bytes\":2}]}", "part of the content", ERR_PROVIDER},
        {200, "{\"files\":[]}", "unusable", ERR_PROVIDER},
        {200, "", "unusable", ERR_PROVIDER},
        {200, "<html>", "unusable", ERR_PROVIDER},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        script();
        then(cases[i].status, cases[i].body);
        assert_int_equal(write_file("/x", "abc", 3, 3), -1);
        assert_int_equal(err.code, cases[i].code);
        assert_non_null(strstr(err.message, cases[i].words));
        assert_int_equal(atomic_load(&seen), 1);
    }
}

static void test_write_that_ends_early(void **state)
{
    (void)state;
    then(200, "{}");
    assert_int_equal(write_file("/x", "abc", 3, 10), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

static void test_script(void **state)
{
    static const char *const argv[] = {"echo \"it's $1\"", "a 'b' c", NULL};
    static const struct {
        int status;
        const char *body;
        enum error_code code;
    } failures[] = {
        {200, "{\"exitCode\":1,\"result\":\"sh: not found\"}", ERR_PROVIDER},
        {200, "{\"exitCode\":0}", ERR_PROVIDER},
        {200, "<html>", ERR_PROVIDER},
        {200, "{\"exitCode\":0,\"result\":\"longer than what the caller of it can take\"}",
         ERR_TOO_LARGE},
        {408, "", ERR_PROVIDER_DOWN},
        {401, "", ERR_SANDBOX_NOT_FOUND},
        {502, "", ERR_SANDBOX_NOT_FOUND},
    };
    struct strbuf output;
    (void)state;
    strbuf_init(&output, 30);
    then(200, "{\"exitCode\":0,\"result\":\"ok 1\\n\"}");
    assert_int_equal(
        provider->ops->run_script(provider, client, &target, argv, 3000, &output, &err), 0);
    assert_string_equal(output.data, "ok 1\n");
    assert_string_equal(lines[0], "POST /toolbox/" ID "/process/execute HTTP/1.1");
    cJSON *body = json_parse(first_body, first_bytes, &err);
    assert_string_equal(json_text(body, "command"),
                        "exec /bin/sh -c 'echo \"it'\\''s $1\"' sh 'a '\\''b'\\'' c' </dev/null\n");
    cJSON_Delete(body);
    for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
        script();
        strbuf_reset(&output);
        then(failures[i].status, failures[i].body);
        assert_int_equal(
            provider->ops->run_script(provider, client, &target, argv, 3000, &output, &err), -1);
        assert_int_equal(err.code, failures[i].code);
    }
    strbuf_done(&output);
}

/* ---- commands ---------------------------------------------------------------------------------
 */

static char printed[2][256];

static int print(void *arg, enum exec_stream stream, const void *data, size_t bytes)
{
    const size_t used = strlen(printed[stream]);

    (void)arg;
    snprintf(printed[stream] + used, sizeof(printed[stream]) - used, "%.*s", (int)bytes,
             (const char *)data);
    return 0;
}

static int run(const struct exec_request *request, struct exec_result *result)
{
    memset(printed, 0, sizeof(printed));
    return provider->ops->exec(provider, client, &target, request, print, NULL, result, &err);
}

static void test_run(void **state)
{
    struct exec_result result;
    (void)state;
    then(200, "C 3 0\\nS - 3 0 0 0\\nYWJj\\n.\\n.\\n");
    then(200, "S 42 3 3 4 0\\n.\\nb29wcw==\\n.\\ngone\\n");
    assert_int_equal(
        run(&(struct exec_request){.command = "x", .cwd = "/it's", .timeout_ms = 60000}, &result),
        0);
    assert_string_equal(printed[EXEC_STDOUT], "abc");
    assert_string_equal(printed[EXEC_STDERR], "oops");
    assert_true(result.exited && result.exit_code == 42 && !result.timed_out);
    assert_int_equal(atomic_load(&seen), 2);
    assert_int_equal(atomic_load(&runs), 1); /* what starts something is sent once */
    /* one line for whichever shell it is, whose stdin nothing else can read */
    assert_non_null(strstr(first_body, "\"command\":\"exec /bin/sh -c '"));
    assert_non_null(strstr(first_body, "'/it'\\\\''s'"));
}

static void test_a_background_command_answers_its_pid(void **state)
{
    struct exec_result result;
    (void)state;
    then(200, "P 4711\\n");
    assert_int_equal(run(&(struct exec_request){.command = "x", .background = true}, &result), 0);
    assert_true(result.started && result.pid == 4711 && !result.exited);
}

/* Whether it ran is not known: it is not run again, and what may run is killed. */
static void test_a_run_without_an_answer_is_not_repeated(void **state)
{
    static const int statuses[] = {408, 500, 502, 504};
    struct exec_result result;
    (void)state;
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        script();
        then(statuses[i], "");
        then(200, "{\"code\":0,\"result\":\"\"}"); /* the kill, with its exit code's older name */
        then(200, "E gone\\n");
        assert_int_equal(run(&(struct exec_request){.command = "x", .timeout_ms = 5000}, &result),
                         -1);
        assert_int_equal(err.code == ERR_SANDBOX_NOT_FOUND, 0); /* that would be tried again */
        assert_int_equal(atomic_load(&runs), 1);
        assert_true(atomic_load(&seen) >= 2);
    }
}

static void test_a_lost_answer_is_asked_for_again(void **state)
{
    struct exec_result result;
    (void)state;
    then(200, "S - 0 0 0 0\\n.\\n.\\n");
    then(503, "");
    then(200, "S 0 2 0 0 0\\naGk=\\n.\\n.\\ngone\\n");
    assert_int_equal(run(&(struct exec_request){.command = "x", .timeout_ms = 60000}, &result), 0);
    assert_string_equal(printed[EXEC_STDOUT], "hi");
    assert_int_equal(result.exit_code, 0);
}

/* A rate limit does not end a command that runs, nor does it leave one alive that must not be. */
static void test_a_rate_limit_under_a_command_is_waited_for(void **state)
{
    struct exec_result result;
    (void)state;
    then(200, "S - 0 0 0 0\\n.\\n.\\n");
    then(429, "");
    answers[1].headers = "Retry-After-authenticated: 1\r\n";
    then(200, "S 0 2 0 0 0\\naGk=\\n.\\n.\\ngone\\n");
    int64_t start_ms = clock_mono_ms();
    assert_int_equal(run(&(struct exec_request){.command = "x", .timeout_ms = 60000}, &result), 0);
    assert_true(clock_mono_ms() - start_ms >= 1000);
    assert_string_equal(printed[EXEC_STDOUT], "hi");
    assert_int_equal(atomic_load(&seen), 3);

    script();
    then(200, "S - 0 0 0 0\\n.\\n.\\n");
    answers[0].delay_ms = 720; /* by then it is late */
    then(429, "");             /* the kill */
    then(200, "{\"exitCode\":0,\"result\":\"left\\n\"}");
    then(200, "S 137 2 0 0 0\\naGk=\\n.\\n.\\ngone\\n");
    assert_int_equal(run(&(struct exec_request){.command = "x", .timeout_ms = 1}, &result), 0);
    assert_true(result.timed_out);
    assert_string_equal(printed[EXEC_STDOUT], "hi");
    assert_int_equal(atomic_load(&seen), 4);
}

/* For longer than a caller would wait, or when nothing has begun, the limit is passed on. */
static void test_a_rate_limit_is_passed_on(void **state)
{
    struct exec_result result;
    (void)state;
    then(429, "");
    answers[0].headers = "Retry-After-authenticated: 7\r\nRetry-After: 3\r\n";
    assert_int_equal(run(&(struct exec_request){.command = "x", .timeout_ms = 60000}, &result), -1);
    assert_int_equal(err.code, ERR_PROVIDER_DOWN);
    assert_int_equal(err.retry_after_s, 7);
    assert_int_equal(atomic_load(&seen), 1); /* nothing ran, nothing is to be killed */

    script();
    then(200, "S - 0 0 0 0\\n.\\n.\\n");
    then(429, "");
    answers[1].headers = "Retry-After: 60\r\n";
    assert_int_equal(run(&(struct exec_request){.command = "x", .timeout_ms = 60000}, &result), -1);
    assert_int_equal(err.retry_after_s, 60);
}

static void test_what_is_refused_is_not_asked_again(void **state)
{
    struct exec_result result;
    (void)state;
    then(200, "S - 0 0 0 0\\n.\\n.\\n");
    then(403, "");                                 /* follow */
    then(200, "{\"exitCode\":0,\"result\":\"\"}"); /* kill */
    then(200, "E gone\\n");
    assert_int_equal(run(&(struct exec_request){.command = "x", .timeout_ms = 60000}, &result), -1);
    assert_int_equal(err.code, ERR_PROVIDER);
    assert_non_null(strstr(err.message, "403"));
}

static void test_answers_that_are_none_are_never_an_exit_0(void **state)
{
    static const char *const bodies[] = {
        "{\"exitCode\":0,\"result\":\"\"}",
        "{\"exitCode\":0,\"result\":\"hello\"}",
        "{\"exitCode\":-1,\"result\":\"fork/exec: no such file\"}",
        "{}",
        "<html>",
        "",
        "S 0 3 0\\nYWJj\\n",
        "S 0 3 0 0 0\\n!!!!\\n.\\n.\\n",
        "S 0 3 0 0 0\\nYWJj",
        "E cannot\\n",
    };
    struct exec_result result;
    (void)state;
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        script();
        then(200, bodies[i]);
        assert_int_equal(run(&(struct exec_request){.command = "x", .timeout_ms = 2000}, &result),
                         -1);
        assert_int_equal(err.code, ERR_PROVIDER);
        assert_false(result.exited && result.exit_code == 0 && result.started);
        assert_int_equal(atomic_load(&runs), 1);
    }
}

/* ---- ports ------------------------------------------------------------------------------------
 */

static void test_port_url(void **state)
{
    static const struct {
        int status;
        const char *body;
        enum error_code code;
        const char *url;
    } cases[] = {
        {200, "{\"url\":\"https://80-x.d.app\",\"token\":\"t+/=\"}", ERR_OK,
         "https://80-x.d.app?DAYTONA_SANDBOX_AUTH_KEY=t%2B%2F%3D"},
        {200, "{\"url\":\"https://80-x.d.app/?a=b\",\"token\":\"t\"}", ERR_OK,
         "https://80-x.d.app/?a=b&DAYTONA_SANDBOX_AUTH_KEY=t"},
        {200, "{\"url\":\"https://80-x.d.app\"}", ERR_OK, "https://80-x.d.app"},
        {200, "{\"url\":\"javascript:alert(1)\",\"token\":\"t\"}", ERR_PROVIDER, NULL},
        {200, "{\"url\":\"https://x y\"}", ERR_PROVIDER, NULL},
        {200, "", ERR_PROVIDER, NULL},
        {404, "{\"statusCode\":404,\"message\":\"Sandbox not found\"}", ERR_SANDBOX_NOT_FOUND,
         NULL},
        {404, "", ERR_PROVIDER_DOWN, NULL},
        {403, "<html>blocked</html>", ERR_PROVIDER_DOWN, NULL},
        {401, "", ERR_PROVIDER, NULL},
        {503, "", ERR_PROVIDER_DOWN, NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct strbuf url;
        strbuf_init(&url, 512);
        script();
        then(cases[i].status, cases[i].body);
        int rc = provider->ops->port_url(provider, client, &target, 80, &url, &err);
        assert_int_equal(rc, cases[i].url ? 0 : -1);
        if (cases[i].url)
            assert_string_equal(url.data, cases[i].url);
        else
            assert_int_equal(err.code, cases[i].code);
        assert_string_equal(lines[0], "GET /api/sandbox/" ID "/ports/80/preview-url HTTP/1.1");
        strbuf_done(&url);
    }
}

static void test_a_target_that_fits_in_no_url(void **state)
{
    (void)state;
    then(200, "content");
    target.provider_sandbox_id = "../../admin";
    assert_int_equal(read_file("/x"), -1);
    assert_int_equal(err.code, ERR_INVALID);
    target.provider_sandbox_id = ID;
    target.domain = "";
    assert_int_equal(read_file("/x"), -1);
    assert_int_equal(err.code, ERR_PROVIDER);
    assert_int_equal(atomic_load(&seen), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_read),
        T(test_answers_without_success),
        T(test_a_redirect_is_not_followed),
        T(test_a_short_download_is_an_error),
        T(test_write_is_one_form_with_path_before_file),
        T(test_write_of_nothing),
        T(test_write_that_was_not_kept),
        T(test_write_that_ends_early),
        T(test_script),
        T(test_run),
        T(test_a_background_command_answers_its_pid),
        T(test_a_run_without_an_answer_is_not_repeated),
        T(test_a_lost_answer_is_asked_for_again),
        T(test_a_rate_limit_under_a_command_is_waited_for),
        T(test_a_rate_limit_is_passed_on),
        T(test_what_is_refused_is_not_asked_again),
        T(test_answers_that_are_none_are_never_an_exit_0),
        T(test_port_url),
        T(test_a_target_that_fits_in_no_url),
    };
    if (http_global_init(&err) != 0)
        return 1;
    return cmocka_run_group_tests_name("daytona_data", tests, NULL, NULL);
}
