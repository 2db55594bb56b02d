/* tools - see tools.h. */
#include "deploy/template/tool-server/tools.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/encode.h"
#include "deploy/template/tool-server/schema.h"

#define JSON(...) #__VA_ARGS__
#define none      NULL

static const struct tool {
    const char *name;
    tool_fn run;
    const char *title, *description, *annotations, *input, *output;
} tools[] = {
#define X(name, handler, ...) {#name, handler, __VA_ARGS__},
#include "deploy/template/tool-server/tools.def"
#undef X
};
enum { TOOL_COUNT = sizeof(tools) / sizeof(tools[0]), FAILURE_BYTES = 4096 };

static cJSON *list;                /* as clients see it */
static cJSON *schemas[TOOL_COUNT]; /* the inputSchemas in it */

/* ---- the list ---- */

static cJSON *add_json(cJSON *object, const char *field, const char *text, struct error *err)
{
    cJSON *tree = json_parse(text, strlen(text), err);

    if (tree != NULL) {
        cJSON_AddItemToObject(object, field, tree);
    }
    return tree;
}

static int describe(const struct tool *tool, int index, struct error *err)
{
    cJSON *entry = cJSON_CreateObject();

    cJSON_AddItemToArray(list, entry);
    cJSON_AddStringToObject(entry, "name", tool->name);
    cJSON_AddStringToObject(entry, "title", tool->title);
    cJSON_AddStringToObject(entry, "description", tool->description);
    schemas[index] = add_json(entry, "inputSchema", tool->input, err);
    if (schemas[index] == NULL || add_json(entry, "annotations", tool->annotations, err) == NULL ||
        (tool->output != NULL && add_json(entry, "outputSchema", tool->output, err) == NULL)) {
        err->code = ERR_INTERNAL;
        return error_prefix(err, "tools.def, %s", tool->name);
    }
    return 0;
}

int tools_init(struct error *err)
{
    list = cJSON_CreateArray();
    for (int i = 0; i < TOOL_COUNT; i++) {
        if (describe(&tools[i], i, err) != 0) {
            tools_done();
            return -1;
        }
    }
    return 0;
}

void tools_done(void)
{
    cJSON_Delete(list);
    list = NULL;
}

cJSON *tools_list(void)
{
    return cJSON_Duplicate(list, true);
}

int tools_call(const char *name, struct tool_call *call, cJSON **ret, struct error *err)
{
    cJSON *nothing = NULL;

    for (int i = 0; i < TOOL_COUNT; i++) {
        if (strcmp(tools[i].name, name) != 0) {
            continue;
        }
        if (call->arguments == NULL) {
            call->arguments = nothing = cJSON_CreateObject();
        }
        *ret = schema_check(schemas[i], call->arguments, err) == 0
                   ? tools[i].run(call)
                   : tool_failure("%s", err->message);
        cJSON_Delete(nothing);
        return 0;
    }
    return error_set(err, ERR_NOT_FOUND, "unknown tool: %.64s", name);
}

/* ---- for the tools ---- */

static cJSON *answer_of(cJSON *text)
{
    cJSON *root = cJSON_CreateObject();
    cJSON *part = cJSON_CreateObject();

    cJSON_AddItemToArray(cJSON_AddArrayToObject(root, "content"), part);
    cJSON_AddStringToObject(part, "type", "text");
    cJSON_AddItemToObject(part, "text", text);
    return root;
}

cJSON *tool_answer(const struct strbuf *text, cJSON *data)
{
    cJSON *holder = cJSON_CreateObject();
    cJSON *root;

    tool_add_text(holder, "text", text->data, text->length);
    root = answer_of(cJSON_DetachItemFromObjectCaseSensitive(holder, "text"));
    cJSON_Delete(holder);
    if (data != NULL) {
        cJSON_AddItemToObject(root, "structuredContent", data);
    }
    return root;
}

cJSON *tool_failure(const char *format, ...)
{
    struct strbuf text;
    va_list args;
    cJSON *root;

    strbuf_init(&text, FAILURE_BYTES);
    va_start(args, format);
    (void)strbuf_vprintf(&text, format, args);
    va_end(args);
    root = tool_answer(&text, NULL);
    cJSON_AddTrueToObject(root, "isError");
    strbuf_done(&text);
    return root;
}

void tool_add_text(cJSON *object, const char *field, const char *bytes, size_t length)
{
    struct strbuf text;

    strbuf_init(&text, length * UTF8_CLEAN_GROWTH + 1);
    (void)utf8_put_clean(&text, bytes, length);
    cJSON_AddStringToObject(object, field, text.data);
    strbuf_done(&text);
}

static const cJSON *argument(const struct tool_call *call, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(call->arguments, name);
}

const char *tool_string(const struct tool_call *call, const char *name, const char *fallback)
{
    const cJSON *item = argument(call, name);

    return item != NULL ? item->valuestring : fallback;
}

int64_t tool_integer(const struct tool_call *call, const char *name, int64_t fallback)
{
    const cJSON *item = argument(call, name);

    return item != NULL ? (int64_t)item->valuedouble : fallback;
}

bool tool_bool(const struct tool_call *call, const char *name)
{
    return cJSON_IsTrue(argument(call, name));
}

int tool_path(const struct tool_call *call, const char *path, char ret[TOOL_PATH_BYTES],
              struct error *err)
{
    const char *home = getenv("HOME");
    const char *base = call->config->workdir;
    int length;

    if (path[0] == '~' && (path[1] == '/' || path[1] == '\0') && home != NULL) {
        base = home;
        path += path[1] == '/' ? 2 : 1;
    }
    if (path[0] == '/') {
        length = snprintf(ret, TOOL_PATH_BYTES, "%s", path);
    } else {
        length = snprintf(ret, TOOL_PATH_BYTES, "%s%s%s", base, path[0] == '\0' ? "" : "/", path);
    }
    if (length < 0 || length >= TOOL_PATH_BYTES) {
        return error_set(err, ERR_INVALID, "the path is too long");
    }
    return 0;
}
