/* template_description - see template_description.h. */
#include "deploy/sandbox-host/sandbox/template_description.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/strbuf.h"
#include "deploy/sandbox-host/isolation/files.h"

enum {
    DESCRIPTION_MAX_BYTES = 1 << 20,
    COMMAND_MAX_BYTES = 65536,
    ALIASES_MAX = 64,
    ENTRIES_MAX = 256,
    NAME_MAX_BYTES = 255,
    VALUE_MAX_BYTES = 131071,
    READY_TIMEOUT_MAX_MS = 600000,
    READY_TIMEOUT_MS = 30000,
};

static int check_aliases(const cJSON *aliases, struct error *err)
{
    const cJSON *alias;

    if (aliases == NULL || cJSON_IsNull(aliases)) {
        return 0;
    }
    if (!cJSON_IsArray(aliases) || cJSON_GetArraySize(aliases) > ALIASES_MAX) {
        return error_set(err, ERR_INVALID, "aliases: not an array of at most %d names",
                         ALIASES_MAX);
    }
    cJSON_ArrayForEach(alias, aliases)
    {
        if (!cJSON_IsString(alias) ||
            !template_name_valid(alias->valuestring, strlen(alias->valuestring))) {
            return error_set(err, ERR_INVALID, "aliases: each is a name of [a-z0-9_-]");
        }
    }
    return 0;
}

static int check_mounts(const cJSON *mounts, struct error *err)
{
    const cJSON *mount;

    cJSON_ArrayForEach(mount, mounts)
    {
        if (mount->string[0] != '/' || strstr(mount->string, "..") != NULL) {
            return error_set(err, ERR_INVALID, "mounts: %.64s is no absolute path inside",
                             mount->string);
        }
        if (mount->valuestring[0] != '/' || access(mount->valuestring, F_OK) != 0) {
            return error_set(err, ERR_INVALID, "mounts: %.128s is not there", mount->valuestring);
        }
    }
    return 0;
}

static int read_fields(struct template *template, struct error *err)
{
    static const char *const known[] = {
        "aliases", "startCommand", "readyCommand", "readyPort", "readyTimeoutMs", "envs", "mounts"};
    const char *start = NULL, *ready = NULL;
    const cJSON *tree = template->description, *aliases, *field;
    int64_t port = 0;

    if (!cJSON_IsObject(tree)) {
        return error_set(err, ERR_INVALID, "not a JSON object");
    }
    cJSON_ArrayForEach(field, tree)
    {
        bool found = false;

        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
            found = found || strcmp(field->string, known[i]) == 0;
        }
        if (!found) {
            return error_set(err, ERR_INVALID, "%.64s: no such field", field->string);
        }
    }
    aliases = cJSON_GetObjectItemCaseSensitive(tree, "aliases");
    if (check_aliases(aliases, err) < 0 ||
        json_get_string(tree, "startCommand", COMMAND_MAX_BYTES, NULL, &start, err) < 0 ||
        json_get_string(tree, "readyCommand", COMMAND_MAX_BYTES, NULL, &ready, err) < 0 ||
        json_get_int(tree, "readyPort", 1, 65535, 0, &port, err) < 0 ||
        json_get_int(tree, "readyTimeoutMs", 1, READY_TIMEOUT_MAX_MS, READY_TIMEOUT_MS,
                     &template->ready_timeout_ms, err) < 0 ||
        json_get_string_map(tree, "envs", ENTRIES_MAX, NAME_MAX_BYTES, VALUE_MAX_BYTES,
                            &template->envs, err) < 0 ||
        json_get_string_map(tree, "mounts", ENTRIES_MAX, PATH_MAX / 2, PATH_MAX / 2,
                            &template->mounts, err) < 0 ||
        check_mounts(template->mounts, err) < 0) {
        return -1;
    }
    template->start_command = start != NULL &&*start != '\0' ? xstrdup(start) : NULL;
    template->ready_command = ready != NULL &&*ready != '\0' ? xstrdup(ready) : NULL;
    template->ready_port = (int)port;
    if (cJSON_GetArraySize(aliases) > 0) {
        str_copy(template->alias, sizeof(template->alias),
                 cJSON_GetArrayItem(aliases, 0)->valuestring);
    }
    return 0;
}

int template_description_read(struct template *template, const char *path, struct error *err)
{
    struct strbuf text;
    int status;

    template->ready_timeout_ms = READY_TIMEOUT_MS;
    if (path[0] == '\0' || access(path, F_OK) != 0) {
        return 0;
    }
    strbuf_init(&text, DESCRIPTION_MAX_BYTES);
    status = files_read(path, &text, err);
    if (status == 0) {
        template->description = json_parse(text.data, text.length, err);
        status = template->description == NULL || read_fields(template, err) < 0
                     ? error_prefix(err, "%s", path)
                     : 0;
    }
    strbuf_done(&text);
    if (status < 0) {
        err->code = ERR_CONFIG;
    }
    return status;
}
