/* config, log and metrics: what an operator writes to our programs and reads from them. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/base/config.h"
#include "common/base/json.h"
#include "common/base/log.h"
#include "common/base/metrics.h"

/* ---- config -------------------------------------------------------------------------------- */

struct settings {
    char *name, *secret;
    int64_t port;
    bool verbose;
};
static const struct config_entry table[] = {
    {"T_NAME", CONFIG_STRING, offsetof(struct settings, name), 2, 8, "base", false, false,
     "a name"},
    {"T_SECRET", CONFIG_STRING, offsetof(struct settings, secret), 0, 0, NULL, true, true, "a key"},
    {"T_PORT", CONFIG_INT, offsetof(struct settings, port), 1, 65535, "8000", false, false,
     "a port"},
    {"T_VERBOSE", CONFIG_BOOL, offsetof(struct settings, verbose), 0, 0, "no", false, false,
     "talk"},
};
#define ENTRIES (sizeof(table) / sizeof(table[0]))

static int load(struct settings *s, struct error *err)
{
    return config_load(table, ENTRIES, s, err);
}

static void clear_environment(void)
{
    for (size_t i = 0; i < ENTRIES; i++) {
        char name[64];

        snprintf(name, sizeof(name), "%s_FILE", table[i].name);
        unsetenv(table[i].name);
        unsetenv(name);
    }
}

static int reset(void **state)
{
    (void)state;
    clear_environment();
    setenv("T_SECRET", "s3cret", 1);
    return 0;
}

static void test_defaults_and_values(void **state)
{
    struct error err = ERROR_INIT;
    struct settings s;

    (void)state;
    assert_int_equal(load(&s, &err), 0);
    assert_string_equal(s.name, "base");
    assert_int_equal(s.port, 8000);
    assert_false(s.verbose);
    config_free(table, ENTRIES, &s);
    assert_null(s.name);
    setenv("T_NAME", "other", 1);
    setenv("T_PORT", "65535", 1);
    setenv("T_VERBOSE", "ON", 1);
    assert_int_equal(load(&s, &err), 0);
    assert_string_equal(s.name, "other");
    assert_int_equal(s.port, 65535);
    assert_true(s.verbose);
    config_free(table, ENTRIES, &s);
    setenv("T_PORT", "", 1); /* empty counts as unset */
    assert_int_equal(load(&s, &err), 0);
    assert_int_equal(s.port, 8000);
    config_free(table, ENTRIES, &s);
}

static void test_bad_values_are_named(void **state)
{
    static const char *const bad[][2] = {
        {"T_PORT", "0"},        {"T_PORT", "65536"}, {"T_PORT", "80x"},
        {"T_PORT", " "},        {"T_PORT", "1e3"},   {"T_PORT", "99999999999999999999"},
        {"T_VERBOSE", "maybe"}, {"T_NAME", "x"},     {"T_NAME", "longer than eight"},
    };
    struct settings s;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct error err = ERROR_INIT;

        setenv(bad[i][0], bad[i][1], 1);
        assert_int_equal(load(&s, &err), -1);
        assert_int_equal(err.code, ERR_CONFIG);
        assert_memory_equal(err.message, bad[i][0], strlen(bad[i][0]));
        assert_null(s.secret); /* nothing half loaded is left behind */
        unsetenv(bad[i][0]);
    }
    unsetenv("T_SECRET");
    {
        struct error err = ERROR_INIT;

        assert_int_equal(load(&s, &err), -1);
        assert_string_equal(err.message, "T_SECRET is not set: a key");
    }
}

static void test_values_from_files(void **state)
{
    char path[] = "/tmp/test_edges.XXXXXX";
    int fd = mkstemp(path);
    struct error err = ERROR_INIT;
    struct settings s;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "from file\n", 10), 10);
    setenv("T_SECRET_FILE", path, 1);
    assert_int_equal(load(&s, &err), -1);
    assert_string_equal(err.message, "T_SECRET and T_SECRET_FILE are both set");
    unsetenv("T_SECRET");
    assert_int_equal(load(&s, &err), 0);
    assert_string_equal(s.secret, "from file");
    config_free(table, ENTRIES, &s);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(load(&s, &err), -1); /* an empty secret is no secret */
    assert_string_equal(err.message, "T_SECRET is not set: a key");
    unsetenv("T_SECRET_FILE");
    setenv("T_SECRET", "s3cret", 1);
    setenv("T_NAME_FILE", path, 1);
    assert_int_equal(load(&s, &err), 0);
    assert_string_equal(s.name, "base"); /* what is not given has its default */
    config_free(table, ENTRIES, &s);
    unsetenv("T_NAME_FILE");
    unsetenv("T_SECRET");
    setenv("T_SECRET_FILE", path, 1);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    assert_int_equal(write(fd, "a\0b", 3), 3);
    assert_int_equal(load(&s, &err), -1);
    close(fd);
    unlink(path);
    assert_int_equal(load(&s, &err), -1);
    assert_non_null(strstr(err.message, "No such file"));
}

static void test_help_keeps_secrets(void **state)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);

    (void)state;
    config_print_help(table, ENTRIES, out);
    fclose(out);
    assert_non_null(strstr(text, "T_PORT"));
    assert_non_null(strstr(text, "(default 8000) [1..65535]"));
    assert_non_null(strstr(text, "(required)"));
    assert_null(strstr(text, "s3cret"));
    free(text);
}

/* ---- log ----------------------------------------------------------------------------------- */

/* What is written to stderr meanwhile; call again to get it. */
static int saved_stderr = -1;
static char log_path[] = "/tmp/test_edges_log.XXXXXX";

static void capture(void)
{
    int fd;

    str_copy(log_path, sizeof(log_path), "/tmp/test_edges_log.XXXXXX");
    fd = mkstemp(log_path);
    assert_true(fd >= 0);
    saved_stderr = dup(STDERR_FILENO);
    dup2(fd, STDERR_FILENO);
    close(fd);
}

/* The one line, parsed; NULL when nothing was written. */
static cJSON *captured(void)
{
    static char text[16384];
    struct error err = ERROR_INIT;
    FILE *file = fopen(log_path, "r");
    size_t length;
    cJSON *tree;

    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    assert_non_null(file);
    length = fread(text, 1, sizeof(text), file);
    fclose(file);
    unlink(log_path);
    if (length == 0) {
        return NULL;
    }
    assert_int_equal(text[length - 1], '\n');
    assert_ptr_equal(memchr(text, '\n', length), text + length - 1);
    tree = json_parse(text, length, &err);
    if (tree == NULL) {
        fail_msg("not JSON: %s", err.message);
    }
    return tree;
}

static const char *string_at(const cJSON *o, const char *field)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, field));
}

static void test_a_line_is_one_json_object(void **state)
{
    cJSON *line;

    (void)state;
    assert_int_equal(log_init("tester", "info"), 0);
    assert_int_equal(log_init("tester", "loud"), -1);
    log_context("req-1", "job-1", NULL);
    capture();
    log_event(LOG_WARN, "thing.happened", LOG_S("text", "q\" b\\ n\n \x01 \xff \xc3\xa9"),
              LOG_I("count", INT64_MIN), LOG_B("yes", true), LOG_F("ratio", 0.5),
              LOG_S("absent", NULL));
    line = captured();
    assert_non_null(line);
    assert_string_equal(string_at(line, "level"), "warn");
    assert_string_equal(string_at(line, "service"), "tester");
    assert_string_equal(string_at(line, "event"), "thing.happened");
    assert_string_equal(string_at(line, "request_id"), "req-1");
    assert_string_equal(string_at(line, "job_id"), "job-1");
    assert_null(string_at(line, "sandbox_id"));
    assert_null(cJSON_GetObjectItem(line, "absent"));
    assert_string_equal(string_at(line, "text"), "q\" b\\ n\n \x01 \xef\xbf\xbd \xc3\xa9");
    assert_true(cJSON_IsTrue(cJSON_GetObjectItem(line, "yes")));
    assert_int_equal(cJSON_GetNumberValue(cJSON_GetObjectItem(line, "pid")), getpid());
    cJSON_Delete(line);
    log_context_clear();
}

static void test_levels(void **state)
{
    (void)state;
    assert_int_equal(log_init("tester", "info"), 0);
    capture();
    log_event(LOG_DEBUG, "too.quiet");
    assert_null(captured());
    assert_false(log_enabled(LOG_DEBUG));
    assert_true(log_enabled(LOG_ERROR));
}

static void test_long_lines_stay_json(void **state)
{
    static char big[6000];
    cJSON *line;

    (void)state;
    for (size_t i = 0; i < sizeof(big) - 1; i++) {
        big[i] = i % 2 ? '"' : '\x02'; /* each takes six or two bytes once escaped */
    }
    capture();
    log_event(LOG_INFO, "long", LOG_S("a", big), LOG_S("b", big), LOG_S("c", big));
    line = captured();
    assert_non_null(line);
    assert_true(cJSON_IsTrue(cJSON_GetObjectItem(line, "cut")));
    cJSON_Delete(line);
}

/* ---- metrics ------------------------------------------------------------------------------- */

static void test_prometheus_text(void **state)
{
    static struct metric jobs_a = {.name = "t_jobs_total", .labels = "op=\"a\"", .help = "Jobs."};
    static struct metric depth = {.name = "t_depth", .help = "Depth.", .type = METRIC_GAUGE};
    static struct metric jobs_b = {.name = "t_jobs_total", .labels = "op=\"b\"", .help = "Jobs."};
    static struct metric wait = {.name = "t_wait_ms", .help = "Wait.", .type = METRIC_HISTOGRAM};
    struct strbuf out;
    const char *a, *b;

    (void)state;
    metrics_register(&jobs_a);
    metrics_register(&depth);
    metrics_register(&jobs_b);
    metrics_register(&wait);
    metrics_register(&wait); /* once is once */
    metric_add(&jobs_a, 2);
    metric_add(&jobs_b, 3);
    metric_set(&depth, -4);
    metric_observe_ms(&wait, 1);
    metric_observe_ms(&wait, 2);
    metric_observe_ms(&wait, 60000);
    strbuf_init(&out, 1 << 16);
    assert_int_equal(metrics_print(&out), 0);
    a = strstr(out.data, "t_jobs_total{op=\"a\"} 2\n");
    b = strstr(out.data, "t_jobs_total{op=\"b\"} 3\n");
    assert_non_null(a);
    assert_ptr_equal(b, a + strlen("t_jobs_total{op=\"a\"} 2\n")); /* one family, one block */
    assert_null(strstr(b, "# HELP t_jobs_total"));
    assert_non_null(strstr(out.data, "# TYPE t_jobs_total counter\n"));
    assert_non_null(strstr(out.data, "t_depth -4\n"));
    assert_non_null(strstr(out.data, "t_wait_ms_bucket{le=\"1\"} 1\n"));
    assert_non_null(strstr(out.data, "t_wait_ms_bucket{le=\"30000\"} 2\n"));
    assert_non_null(strstr(out.data, "t_wait_ms_bucket{le=\"+Inf\"} 3\n"));
    assert_non_null(strstr(out.data, "t_wait_ms_sum 60003\n"));
    assert_non_null(strstr(out.data, "t_wait_ms_count 3\n"));
    assert_non_null(strstr(out.data, "process_resident_memory_bytes "));
    assert_null(strstr(out.data, "process_open_fds -"));
    strbuf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_defaults_and_values, reset),
        cmocka_unit_test_setup(test_bad_values_are_named, reset),
        cmocka_unit_test_setup(test_values_from_files, reset),
        cmocka_unit_test_setup(test_help_keeps_secrets, reset),
        cmocka_unit_test(test_a_line_is_one_json_object),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_long_lines_stay_json),
        cmocka_unit_test(test_prometheus_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
