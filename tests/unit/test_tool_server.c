/*
 * The tool server's parts that need no process and no socket: messages, argument checks, what is
 * kept of an output, origins, paths, tools.def itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "deploy/template/tool-server/door.h"
#include "deploy/template/tool-server/mcp.h"
#include "deploy/template/tool-server/output.h"
#include "deploy/template/tool-server/schema.h"

static cJSON *parse(const char *text)
{
    struct error err = ERROR_INIT;
    cJSON *tree = json_parse(text, strlen(text), &err);

    assert_non_null(tree);
    return tree;
}

/* ---- JSON-RPC ---- */

static void messages_have_one_kind(void **state)
{
    static const struct {
        const char *text;
        enum rpc_kind kind;
    } cases[] = {
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}", RPC_REQUEST},
        {"{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"ping\",\"params\":{}}", RPC_REQUEST},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}", RPC_NOTIFICATION},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}", RPC_RESPONSE},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1,\"message\":\"\"}}", RPC_RESPONSE},
        {"{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"ping\"}", RPC_BROKEN},
        {"{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"ping\"}", RPC_BROKEN},
        {"{\"jsonrpc\":\"2.0\",\"id\":1e18,\"method\":\"ping\"}", RPC_BROKEN},
        {"{\"jsonrpc\":\"2.0\",\"id\":[1],\"method\":\"ping\"}", RPC_BROKEN},
        {"{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"ping\"}", RPC_BROKEN},
        {"{\"id\":1,\"method\":\"ping\"}", RPC_BROKEN},
        {"{\"jsonrpc\":\"2.0\",\"id\":1}", RPC_BROKEN},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":7}", RPC_BROKEN},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":[1]}", RPC_BROKEN},
        {"7", RPC_BROKEN},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cJSON *tree = parse(cases[i].text);
        struct error err = ERROR_INIT;
        struct rpc_message message;

        rpc_read(tree, &message, &err);
        assert_int_equal(message.kind, cases[i].kind);
        assert_int_equal(err.code != ERR_OK, message.kind == RPC_BROKEN);
        cJSON_Delete(tree);
    }
}

static void a_body_is_a_message_or_a_small_batch(void **state)
{
    struct error err = ERROR_INIT;
    struct strbuf many;
    enum rpc_code code;
    cJSON *tree;

    (void)state;
    assert_null(rpc_parse("{", 1, &code, &err));
    assert_int_equal(code, RPC_PARSE_ERROR);
    assert_null(rpc_parse("[]", 2, &code, &err));
    assert_int_equal(code, RPC_INVALID_REQUEST);
    assert_null(rpc_parse("\"x\"", 3, &code, &err));
    assert_int_equal(code, RPC_INVALID_REQUEST);
    strbuf_init(&many, 1024);
    strbuf_putc(&many, '[');
    for (int i = 0; i < RPC_BATCH_MAX; i++) {
        strbuf_puts(&many, i == 0 ? "{}" : ",{}");
    }
    strbuf_putc(&many, ']');
    tree = rpc_parse(many.data, many.length, &code, &err);
    assert_non_null(tree);
    cJSON_Delete(tree);
    many.data[many.length - 1] = ',';
    strbuf_puts(&many, "{}]");
    assert_null(rpc_parse(many.data, many.length, &code, &err));
    strbuf_done(&many);
}

static void answers_carry_the_id(void **state)
{
    cJSON *id = cJSON_CreateNumber(999999999999999.0);
    cJSON *answers[] = {rpc_result(id, cJSON_CreateObject()),
                        rpc_failure(NULL, RPC_PARSE_ERROR, "why \"so\"")};
    static const char *const texts[] = {
        "{\"jsonrpc\":\"2.0\",\"id\":999999999999999,\"result\":{}}",
        "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32700,\"message\":\"why "
        "\\\"so\\\"\"}}"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct strbuf text;

        strbuf_init(&text, 256);
        assert_int_equal(json_print(answers[i], &text), 0);
        assert_string_equal(text.data, texts[i]);
        strbuf_done(&text);
        cJSON_Delete(answers[i]);
    }
    cJSON_Delete(id);
}

/* ---- schemas ---- */

static void arguments_are_checked_against_the_schema(void **state)
{
    static const char schema_text[] =
        "{\"type\":\"object\",\"properties\":{\"s\":{\"type\":\"string\",\"minLength\":2,"
        "\"maxLength\":3},\"n\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":5},\"b\":{\"type\":"
        "\"boolean\"},\"e\":{\"type\":\"string\",\"enum\":[\"on\",\"off\"]},\"m\":{\"type\":"
        "\"object\",\"additionalProperties\":{\"type\":\"string\"}}},\"required\":[\"s\"],"
        "\"additionalProperties\":false}";
    static const struct {
        const char *text, *problem; /* problem NULL = fine */
    } cases[] = {
        {"{\"s\":\"ab\"}", NULL},
        {"{\"s\":\"\xc3\xa4\xc3\xb6\xc3\xbc\"}", NULL}, /* three characters, six bytes */
        {"{\"s\":\"ab\",\"n\":5,\"b\":true,\"e\":\"on\",\"m\":{\"k\":\"v\"}}", NULL},
        {"{}", "s is required"},
        {"{\"s\":null}", "s must be of type string"},
        {"{\"s\":\"a\"}", "s must have a length of at least 2"},
        {"{\"s\":\"abcd\"}", "s must have a length of at most 3"},
        {"{\"s\":\"ab\",\"n\":0}", "n must be at least 1"},
        {"{\"s\":\"ab\",\"n\":6}", "n must be at most 5"},
        {"{\"s\":\"ab\",\"n\":1.5}", "n must be of type integer"},
        {"{\"s\":\"ab\",\"n\":\"1\"}", "n must be of type integer"},
        {"{\"s\":\"ab\",\"b\":1}", "b must be of type boolean"},
        {"{\"s\":\"ab\",\"e\":\"of\"}", "e must be one of \"on\", \"off\""},
        {"{\"s\":\"ab\",\"m\":{\"k\":1}}", "k must be of type string"},
        {"{\"s\":\"ab\",\"t\":1}",
         "t is not an argument of this tool, it takes \"s\", \"n\", \"b\", \"e\", \"m\""},
    };
    cJSON *schema = parse(schema_text);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cJSON *value = parse(cases[i].text);
        struct error err = ERROR_INIT;
        const int status = schema_check(schema, value, &err);

        if (cases[i].problem == NULL) {
            assert_int_equal(status, 0);
        } else {
            assert_int_equal(status, -1);
            assert_string_equal(err.message, cases[i].problem);
        }
        cJSON_Delete(value);
    }
    cJSON_Delete(schema);
}

/* Names of JSON Schema that schema.c does not know would be promised and not kept. */
static void assert_known_words(const cJSON *schema)
{
    static const char words[] =
        " type enum minimum maximum minLength maxLength properties required "
        "additionalProperties description ";
    const cJSON *item, *property;

    cJSON_ArrayForEach(item, schema)
    {
        char word[64];

        snprintf(word, sizeof(word), " %s ", item->string);
        assert_non_null(strstr(words, word));
    }
    cJSON_ArrayForEach(property, cJSON_GetObjectItemCaseSensitive(schema, "properties"))
    {
        assert_known_words(property);
        assert_true(cJSON_HasObjectItem(property, "description"));
    }
}

static void every_tool_is_well_described(void **state)
{
    struct error err = ERROR_INIT;
    const cJSON *tool, *name;
    cJSON *list;

    (void)state;
    assert_int_equal(tools_init(&err), 0);
    list = tools_list();
    assert_int_equal(cJSON_GetArraySize(list), 8);
    cJSON_ArrayForEach(tool, list)
    {
        const cJSON *input = cJSON_GetObjectItemCaseSensitive(tool, "inputSchema");

        assert_known_words(input);
        assert_true(cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(input, "additionalProperties")));
        cJSON_ArrayForEach(name, cJSON_GetObjectItemCaseSensitive(input, "required"))
        {
            assert_true(cJSON_HasObjectItem(cJSON_GetObjectItemCaseSensitive(input, "properties"),
                                            name->valuestring));
        }
        for (const char *const *hint =
                 (const char *const[]){"readOnlyHint", "destructiveHint", "idempotentHint",
                                       "openWorldHint", NULL};
             *hint != NULL; hint++) {
            assert_true(cJSON_IsBool(cJSON_GetObjectItemCaseSensitive(
                cJSON_GetObjectItemCaseSensitive(tool, "annotations"), *hint)));
        }
    }
    cJSON_Delete(list);
    tools_done();
}

/* ---- output ---- */

static void assert_output(const struct output *output, uint64_t offset, const char *expected)
{
    struct strbuf text;

    strbuf_init(&text, 1024);
    output_get(output, offset, &text);
    assert_string_equal(text.data, expected);
    strbuf_done(&text);
}

static void output_keeps_its_ends(void **state)
{
    struct output output;

    (void)state;
    output_init(&output, 8); /* 4 + 4 */
    assert_output(&output, 0, "");
    output_put(&output, "ab", 2);
    assert_output(&output, 0, "ab");
    assert_output(&output, 1, "b");
    assert_output(&output, 2, "");
    output_put(&output, "cdef", 4);
    assert_output(&output, 0, "abcdef");
    assert_output(&output, 5, "f");
    output_put(&output, "gh", 2);
    assert_output(&output, 0, "abcdefgh");
    output_put(&output, "i", 1);
    assert_output(&output, 0, "abcd\n[... 1 bytes not kept ...]\nfghi");
    assert_output(&output, 4, "\n[... 1 bytes not kept ...]\nfghi");
    assert_output(&output, 5, "fghi");
    assert_output(&output, 7, "hi");
    assert_output(&output, 99, "");
    output_put(&output, "0123456789", 10);
    assert_int_equal(output.total, 19);
    assert_output(&output, 0, "abcd\n[... 11 bytes not kept ...]\n6789");
    assert_output(&output, 9, "\n[... 6 bytes not kept ...]\n6789");
    output_done(&output);
}

/* However the bytes arrive, what is kept is the same. */
static void output_does_not_depend_on_pieces(void **state)
{
    char all[200];

    (void)state;
    for (size_t i = 0; i < sizeof(all); i++) {
        all[i] = (char)('a' + i % 26);
    }
    for (size_t piece = 1; piece < 40; piece++) {
        struct output pieces, whole;
        struct strbuf expected;

        output_init(&pieces, 32);
        output_init(&whole, 32);
        output_put(&whole, all, sizeof(all));
        for (size_t at = 0; at < sizeof(all); at += piece) {
            output_put(&pieces, all + at, sizeof(all) - at < piece ? sizeof(all) - at : piece);
        }
        strbuf_init(&expected, 1024);
        output_get(&whole, 0, &expected);
        assert_output(&pieces, 0, expected.data);
        strbuf_done(&expected);
        output_done(&pieces);
        output_done(&whole);
    }
}

/* ---- the door ---- */

static void origins(void **state)
{
    static const char list[] = "https://app.example,http://10.0.0.1:8080";

    (void)state;
    assert_true(door_origin_allowed(NULL, "http://localhost"));
    assert_true(door_origin_allowed(NULL, "http://localhost:6274"));
    assert_true(door_origin_allowed(NULL, "https://127.0.0.1:1"));
    assert_true(door_origin_allowed(NULL, "http://[::1]:80"));
    assert_false(door_origin_allowed(NULL, "http://localhost.evil.example"));
    /* another sandbox's page, as the local host serves it */
    assert_false(door_origin_allowed(NULL, "http://3000-iabc.localhost:3900"));
    assert_false(door_origin_allowed(NULL, "null"));
    assert_false(door_origin_allowed(NULL, ""));
    assert_false(door_origin_allowed(NULL, "file://localhost"));
    assert_true(door_origin_allowed(list, "https://app.example"));
    assert_true(door_origin_allowed(list, "http://10.0.0.1:8080"));
    assert_false(door_origin_allowed(list, "http://10.0.0.1"));
    assert_false(door_origin_allowed(list, "https://app.example.evil"));
    assert_true(door_origin_allowed("*", "https://any.example"));
}

static void revisions(void **state)
{
    (void)state;
    assert_string_equal(mcp_revision("2025-11-25"), "2025-11-25");
    assert_non_null(mcp_revision("2024-11-05"));
    assert_null(mcp_revision("2023-01-01"));
    assert_false(mcp_batches("2025-11-25"));
    assert_false(mcp_batches("2025-06-18"));
    assert_true(mcp_batches("2025-03-26"));
}

static void paths(void **state)
{
    char workdir[] = "/work";
    const struct tool_config config = {.workdir = workdir};
    const struct tool_call call = {.config = &config};
    char path[TOOL_PATH_BYTES], too_long[TOOL_PATH_BYTES];
    struct error err = ERROR_INIT;

    (void)state;
    setenv("HOME", "/home/me", 1);
    assert_int_equal(tool_path(&call, "a/b", path, &err), 0);
    assert_string_equal(path, "/work/a/b");
    assert_int_equal(tool_path(&call, "", path, &err), 0);
    assert_string_equal(path, "/work");
    assert_int_equal(tool_path(&call, "/etc", path, &err), 0);
    assert_string_equal(path, "/etc");
    assert_int_equal(tool_path(&call, "~/x", path, &err), 0);
    assert_string_equal(path, "/home/me/x");
    assert_int_equal(tool_path(&call, "~", path, &err), 0);
    assert_string_equal(path, "/home/me");
    assert_int_equal(tool_path(&call, "~x", path, &err), 0);
    assert_string_equal(path, "/work/~x");
    memset(too_long, 'a', sizeof(too_long) - 1);
    too_long[sizeof(too_long) - 1] = '\0';
    assert_int_equal(tool_path(&call, too_long, path, &err), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_have_one_kind),
        cmocka_unit_test(a_body_is_a_message_or_a_small_batch),
        cmocka_unit_test(answers_carry_the_id),
        cmocka_unit_test(arguments_are_checked_against_the_schema),
        cmocka_unit_test(every_tool_is_well_described),
        cmocka_unit_test(output_keeps_its_ends),
        cmocka_unit_test(output_does_not_depend_on_pieces),
        cmocka_unit_test(origins),
        cmocka_unit_test(revisions),
        cmocka_unit_test(paths),
    };

    return cmocka_run_group_tests_name("tool_server", tests, NULL, NULL);
}
