/*
 * Fuzz target: what a client's RPC body goes through in the agent before a method acts on it: the
 * envelope, the strict JSON door, the typed getters, path resolution, header values.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "deploy/sandbox-host/agent/connect.h"
#include "deploy/sandbox-host/agent/rpc_call.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_clean(const char *path)
{
    const size_t length = strlen(path);

    if (path[0] != '/' || strstr(path, "//") != NULL || strstr(path, "/../") != NULL ||
        strstr(path, "/./") != NULL || (length > 1 && path[length - 1] == '/')) {
        abort();
    }
}

static void try_paths(struct rpc_call *call)
{
    char path[PATH_MAX], part[PATH_MAX], name[NAME_MAX + 1];
    struct connect_error err = {.code = CONNECT_OK};

    if (rpc_get_path(call, "path", path, &err) != 0) {
        return;
    }
    path_base(path, name, sizeof(name));
    path_dir(path, part);
    if (strlen(part) > strlen(path) + 1) {
        abort();
    }
    if (path[0] == '/') {
        path_clean(path);
        check_clean(path);
    }
}

static void try_message(const char *text, size_t length)
{
    char user_name[] = "user", home[] = "/home/user";
    struct agent_config config = {.user = user_name, .home = home};
    struct rpc_call call = {.config = &config};
    struct error cause = ERROR_INIT;
    struct connect_error err = {.code = CONNECT_OK};
    const cJSON *object = NULL;
    const char *string = NULL;
    uint32_t number;

    memcpy(call.user.name, user_name, sizeof(user_name));
    memcpy(call.user.home, home, sizeof(home));
    call.request = json_parse(text, length, &cause);
    if (call.request == NULL || !cJSON_IsObject(call.request)) {
        cJSON_Delete(call.request);
        return;
    }
    (void)!rpc_get_object(call.request, "process", &object, &err);
    if (object != NULL) {
        (void)!rpc_get_uint32(object, "pid", &number, &err);
        (void)!rpc_get_string(object, "tag", 64, &string, &err);
    }
    (void)!rpc_get_uint32(call.request, "depth", &number, &err);
    try_paths(&call);
    cJSON_Delete(call.request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct connect_error err = {.code = CONNECT_OK};
    const char *payload = NULL;
    size_t length = 0;
    int64_t timeout = 0;

    if (size > 65536) {
        return 0;
    }
    if (connect_one_envelope((const char *)data, size, &payload, &length, &err) == 0) {
        if (payload < (const char *)data || payload + length != (const char *)data + size) {
            abort();
        }
        try_message(payload, length);
    }
    try_message((const char *)data, size);

    char *text = malloc(size + 1);
    if (text == NULL) {
        abort();
    }
    memcpy(text, data, size);
    text[size] = '\0';
    if (connect_parse_timeout(text, &timeout, &err) == 0 && timeout < -1) {
        abort();
    }
    (void)connect_content_type_is(text, "application/json");
    free(text);
    return 0;
}
