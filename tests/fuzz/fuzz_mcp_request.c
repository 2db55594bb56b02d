/*
 * Fuzz target: what a client's body goes through in the tool server before a tool acts on it: the
 * JSON-RPC reader, ids, the check of arguments against a schema. Whatever comes in: one kind each,
 * an answer that is JSON and carries the id it was asked with.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "deploy/template/tool-server/rpc.h"
#include "deploy/template/tool-server/schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char schema_text[] =
    "{\"type\":\"object\",\"properties\":{\"path\":{\"type\":\"string\",\"minLength\":1,"
    "\"maxLength\":8},\"n\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":9},\"b\":{\"type\":"
    "\"boolean\"},\"e\":{\"type\":\"string\",\"enum\":[\"x\",\"y\"]},\"m\":{\"type\":\"object\","
    "\"additionalProperties\":{\"type\":\"string\"}}},\"required\":[\"path\"],"
    "\"additionalProperties\":false}";

static const cJSON *schema_once(void)
{
    static cJSON *schema;
    struct error err = ERROR_INIT;

    if (schema == NULL) {
        schema = json_parse(schema_text, strlen(schema_text), &err);
        if (schema == NULL) {
            abort();
        }
    }
    return schema;
}

/* What the schema lets through is what a tool may rely on. */
static void check_arguments(const cJSON *arguments)
{
    struct error err = ERROR_INIT;
    const cJSON *path, *number;

    if (!cJSON_IsObject(arguments) || schema_check(schema_once(), arguments, &err) != 0) {
        return;
    }
    path = cJSON_GetObjectItemCaseSensitive(arguments, "path");
    number = cJSON_GetObjectItemCaseSensitive(arguments, "n");
    if (!cJSON_IsString(path) || path->valuestring[0] == '\0' ||
        (number != NULL &&
         (!cJSON_IsNumber(number) || number->valuedouble < 1 || number->valuedouble > 9))) {
        abort();
    }
}

static void check_answer(const cJSON *id)
{
    cJSON *answer = rpc_result(id, cJSON_CreateObject()), *again;
    struct error err = ERROR_INIT;
    struct strbuf text;

    strbuf_init(&text, 65536);
    if (json_print(answer, &text) != 0 ||
        (again = json_parse(text.data, text.length, &err)) == NULL) {
        abort();
    }
    if (id != NULL && !cJSON_Compare(id, cJSON_GetObjectItemCaseSensitive(again, "id"), true)) {
        abort();
    }
    cJSON_Delete(again);
    cJSON_Delete(answer);
    strbuf_done(&text);
}

static void check_message(const cJSON *node)
{
    struct error err = ERROR_INIT;
    struct rpc_message message;

    rpc_read(node, &message, &err);
    if ((message.kind == RPC_BROKEN) != (err.code != ERR_OK) ||
        (message.kind == RPC_REQUEST && (message.id == NULL || message.method == NULL)) ||
        (message.kind == RPC_NOTIFICATION && message.method == NULL) ||
        (message.params != NULL && !cJSON_IsObject(message.params))) {
        abort();
    }
    check_answer(message.id);
    check_arguments(cJSON_GetObjectItemCaseSensitive(message.params, "arguments"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = ERROR_INIT;
    enum rpc_code code;
    cJSON *tree = rpc_parse((const char *)data, size, &code, &err);

    if (tree == NULL) {
        if (err.code == ERR_OK) {
            abort();
        }
        return 0;
    }
    if (cJSON_IsArray(tree)) {
        const cJSON *node;

        cJSON_ArrayForEach(node, tree)
        {
            check_message(node);
        }
    } else {
        check_message(tree);
    }
    cJSON_Delete(tree);
    return 0;
}
