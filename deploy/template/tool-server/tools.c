/* tools - see tools.h. */
#include "deploy/template/tool-server/tools.h"

#include <string.h>

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
enum { TOOL_COUNT = sizeof(tools) / sizeof(tools[0]) };

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
