/* The strict door to cJSON: what is refused, what is exact, that messages name the field. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/json.h"

#define LITERAL(text) text, sizeof(text) - 1

struct text {
    const char *bytes;
    size_t length;
};
#define TEXT(literal)                                                                              \
    {                                                                                              \
        literal, sizeof(literal) - 1                                                               \
    }

/* From a heap copy without a NUL behind it, so that a sanitizer sees one byte too many. */
static cJSON *parse(const char *text, size_t length, struct error *err)
{
    char *copy = malloc(length > 0 ? length : 1);
    cJSON *tree;

    assert_non_null(copy);
    memcpy(copy, text, length);
    tree = json_parse(copy, length, err);
    free(copy);
    return tree;
}

static cJSON *parse_good(const char *text)
{
    struct error err = ERROR_INIT;
    cJSON *tree = parse(text, strlen(text), &err);

    if (tree == NULL) {
        fail_msg("%s: %s", text, err.message);
    }
    return tree;
}

static void test_accepts_what_rfc_8259_does(void **state)
{
    static const char *const good[] = {
        "0",
        "-0",
        "-1.5e+10",
        "1E2",
        "true",
        "null",
        "\"\"",
        "[]",
        "{}",
        " \t\r\n[ 1 , 2 ] ",
        "{\"a\":{\"b\":[{},[],\"\\u00e9\\ud83d\\ude00\\n\\/\"]}}",
        "{\"a\":1,\"A\":2}",
        "\"\xc3\xa9\xf0\x9f\x98\x80\"",
        "\"\\u0001\x7f\"",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        cJSON_Delete(parse_good(good[i]));
    }
}

static void test_refuses_everything_else(void **state)
{
    static const struct text bad[] = {
        TEXT(""),
        TEXT(" "),
        TEXT("{"),
        TEXT("}"),
        TEXT("[1,]"),
        TEXT("{\"a\":1,}"),
        TEXT("{a:1}"),
        TEXT("{'a':1}"),
        TEXT("{\"a\" 1}"),
        TEXT("{\"a\":}"),
        TEXT("[1 2]"),
        TEXT("[1}"),
        TEXT("{\"a\":1]"),
        TEXT("01"),
        TEXT("+1"),
        TEXT("1."),
        TEXT(".5"),
        TEXT("1e"),
        TEXT("-"),
        TEXT("NaN"),
        TEXT("Infinity"),
        TEXT("True"),
        TEXT("nul"),
        TEXT("{} {}"),
        TEXT("{}x"),
        TEXT("{}\0"),
        TEXT("\xef\xbb\xbf{}"),
        TEXT("/* c */{}"),
        TEXT("\"a"),
        TEXT("\"\\x\""),
        TEXT("\"\\u12\""),
        TEXT("\"\\u0000\""),
        TEXT("\"a\0b\""),
        TEXT("\"a\nb\""),
        TEXT("\"\\ud800\""),
        TEXT("\"\\ud800\\u0041\""),
        TEXT("\"\\udc00\""),
        TEXT("\"\xc0\x80\""),
        TEXT("\"\xed\xa0\x80\""),
        TEXT("\"\xf4\x90\x80\x80\""),
        TEXT("\"\xc3\""),
        TEXT("{\"a\":1,\"a\":2}"),
        TEXT("[{\"x\":{\"k\":1,\"b\":2,\"k\":3}}]"),
        TEXT("{\"a\":1,\"\\u0061\":2}"),
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct error err = ERROR_INIT;
        cJSON *tree = parse(bad[i].bytes, bad[i].length, &err);

        if (tree != NULL) {
            fail_msg("accepted: %s", bad[i].bytes);
        }
        assert_int_equal(err.code, ERR_JSON);
        assert_non_null(strstr(err.message, "invalid JSON"));
    }
}

static void test_depth_is_bounded(void **state)
{
    char text[4 * JSON_MAX_DEPTH];

    (void)state;
    for (int depth = JSON_MAX_DEPTH - 1; depth <= JSON_MAX_DEPTH + 1; depth++) {
        struct error err = ERROR_INIT;
        cJSON *tree;

        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        tree = parse(text, 2 * (size_t)depth, &err);
        assert_int_equal(tree != NULL, depth <= JSON_MAX_DEPTH);
        cJSON_Delete(tree);
    }
}

static void test_the_message_says_where(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{\"a\": tru}", "at byte 6, in a: a value was expected"},
        {"{\"a\":1,\"b_2\":[{\"c\":\"\\u0000\"}]}",
         "at byte 26, in b_2: \\u0000 is not allowed in a string"},
        {"{\"a\":1,\"\xff\":2}", "at byte 8: invalid UTF-8"},
        {"{\"a b\":\"\xff\"}", "at byte 8: invalid UTF-8"},
        {"{\"a\":1}x", "at byte 7: bytes after the end"},
        {"{\"a\":1 \"b\":2}", "at byte 7, in a: ',' or '}' was expected"},
        {"[{\"a\":tru}]", "at byte 6: a value was expected"},
        {"tru", "at byte 0: a value was expected"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char wanted[128];

        snprintf(wanted, sizeof(wanted), "invalid JSON %s", cases[i].message);
        assert_null(parse(cases[i].text, strlen(cases[i].text), &err));
        assert_string_equal(err.message, wanted);
    }
}

static void test_integers(void **state)
{
    cJSON *o = parse_good("{\"i\":7,\"f\":7.0,\"h\":7.5,\"s\":\"7\",\"b\":true,\"n\":null,"
                          "\"big\":9007199254740993,\"huge\":1e300,\"neg\":-1}");
    struct error err = ERROR_INIT;
    int64_t n;

    (void)state;
    assert_int_equal(json_get_int_req(o, "i", 7, 7, &n, &err), 0);
    assert_int_equal(n, 7);
    assert_int_equal(json_get_int(o, "f", 0, 10, 1, &n, &err), 0);
    assert_int_equal(n, 7);
    assert_int_equal(json_get_int(o, "n", 0, 10, 3, &n, &err), 0);
    assert_int_equal(n, 3);
    assert_int_equal(json_get_int(o, "absent", 0, 10, 4, &n, &err), 0);
    assert_int_equal(n, 4);
    for (const char *const *field = (const char *const[]){"h", "s", "b", NULL}; *field; field++) {
        assert_int_equal(json_get_int(o, *field, 0, 10, 1, &n, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_non_null(strstr(err.message, "must be a whole number"));
        assert_memory_equal(err.message, *field, 1);
    }
    assert_int_equal(json_get_int(o, "big", 0, INT64_MAX, 1, &n, &err), -1);
    assert_int_equal(json_get_int(o, "huge", INT64_MIN, INT64_MAX, 1, &n, &err), -1);
    assert_int_equal(json_get_int(o, "neg", 0, 10, 1, &n, &err), -1);
    assert_string_equal(err.message, "neg must be between 0 and 10");
    assert_int_equal(json_get_int_req(o, "n", 0, 10, &n, &err), -1);
    assert_string_equal(err.message, "n is required");
    cJSON_Delete(o);
}

static void test_strings_and_bools(void **state)
{
    cJSON *o = parse_good("{\"s\":\"abc\",\"e\":\"\",\"i\":1,\"t\":true,\"z\":0}");
    struct error err = ERROR_INIT;
    const char *s;
    bool b;

    (void)state;
    assert_int_equal(json_get_string_req(o, "s", 1, 3, &s, &err), 0);
    assert_string_equal(s, "abc");
    assert_int_equal(json_get_string_req(o, "s", 1, 2, &s, &err), -1);
    assert_string_equal(err.message, "s is 3 bytes long, at most 2 are allowed");
    assert_int_equal(json_get_string_req(o, "e", 1, 3, &s, &err), -1);
    assert_string_equal(err.message, "e must not be empty");
    assert_int_equal(json_get_string_req(o, "x", 0, 3, &s, &err), -1);
    assert_int_equal(json_get_string(o, "x", 3, "dflt", &s, &err), 0);
    assert_string_equal(s, "dflt");
    assert_int_equal(json_get_string(o, "i", 3, NULL, &s, &err), -1);
    assert_string_equal(err.message, "i must be a string");
    assert_int_equal(json_get_bool(o, "t", false, &b, &err), 0);
    assert_true(b);
    assert_int_equal(json_get_bool(o, "x", true, &b, &err), 0);
    assert_true(b);
    assert_int_equal(json_get_bool(o, "z", true, &b, &err), -1);
    assert_string_equal(err.message, "z must be true or false");
    cJSON_Delete(o);
}

static void test_string_maps(void **state)
{
    cJSON *o = parse_good("{\"m\":{\"a\":\"1\",\"b\":\"22\"},\"i\":{\"a\":1},\"l\":[],"
                          "\"k\":{\"\":\"x\"}}");
    struct error err = ERROR_INIT;
    const cJSON *m;

    (void)state;
    assert_int_equal(json_get_string_map(o, "m", 2, 1, 2, &m, &err), 0);
    assert_int_equal(cJSON_GetArraySize(m), 2);
    assert_int_equal(json_get_string_map(o, "absent", 2, 1, 2, &m, &err), 0);
    assert_null(m);
    assert_int_equal(json_get_string_map(o, "m", 1, 1, 2, &m, &err), -1);
    assert_string_equal(err.message, "m has more than 1 entries");
    assert_int_equal(json_get_string_map(o, "m", 2, 1, 1, &m, &err), -1);
    assert_string_equal(err.message, "m.b is longer than 1 bytes");
    assert_int_equal(json_get_string_map(o, "i", 2, 1, 1, &m, &err), -1);
    assert_string_equal(err.message, "i.a must be a string");
    assert_int_equal(json_get_string_map(o, "l", 2, 1, 1, &m, &err), -1);
    assert_int_equal(json_get_string_map(o, "k", 2, 1, 1, &m, &err), -1);
    assert_non_null(strstr(err.message, "k has a key of 0 bytes"));
    cJSON_Delete(o);
}

static void test_building_is_exact(void **state)
{
    cJSON *o = cJSON_CreateObject();
    struct strbuf out;

    (void)state;
    strbuf_init(&out, 200);
    json_add_int64(o, "max", INT64_MAX);
    json_add_time(o, "at", 1767323045678);
    json_add_time(o, "never", 0);
    json_add_string_or_null(o, "none", "");
    json_add_string_or_null(o, "some", "x\"y");
    assert_int_equal(json_print(o, &out), 0);
    assert_string_equal(out.data,
                        "{\"max\":9223372036854775807,\"at\":\"2026-01-02T03:04:05.678Z\","
                        "\"never\":null,\"none\":null,\"some\":\"x\\\"y\"}");
    strbuf_done(&out);
    strbuf_init(&out, 10);
    assert_int_equal(json_print(o, &out), -1);
    strbuf_done(&out);
    cJSON_Delete(o);
}

static void test_number_of_values(void **state)
{
    struct error err = ERROR_INIT;
    struct strbuf text;
    cJSON *tree;

    (void)state;
    /* the array counts as one */
    strbuf_init(&text, 4 * JSON_MAX_VALUES);
    strbuf_putc(&text, '[');
    for (int i = 0; i < JSON_MAX_VALUES - 2; i++) {
        strbuf_puts(&text, "1,");
    }
    strbuf_puts(&text, "1]");
    tree = json_parse(text.data, text.length, &err);
    assert_non_null(tree);
    cJSON_Delete(tree);
    text.data[text.length - 1] = ',';
    strbuf_puts(&text, "1]");
    assert_null(json_parse(text.data, text.length, &err));
    assert_non_null(strstr(err.message, "too many values"));
    strbuf_done(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_number_of_values),
        cmocka_unit_test(test_accepts_what_rfc_8259_does),
        cmocka_unit_test(test_refuses_everything_else),
        cmocka_unit_test(test_depth_is_bounded),
        cmocka_unit_test(test_the_message_says_where),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_strings_and_bools),
        cmocka_unit_test(test_string_maps),
        cmocka_unit_test(test_building_is_exact),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
