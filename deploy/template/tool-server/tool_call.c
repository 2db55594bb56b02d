/* tool_call - see tool_call.h. */
#include "deploy/template/tool-server/tool_call.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/encode.h"

enum { FAILURE_BYTES = 4096 };

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
