/* rpc_call - see rpc_call.h. */
#include "deploy/sandbox-host/agent/rpc_call.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"

int rpc_get_uint32(const cJSON *object, const char *field, uint32_t *ret, struct connect_error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, field);
    char *end = NULL;

    *ret = 0;
    if (item == NULL || cJSON_IsNull(item)) {
        return 0;
    }
    if (cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble <= UINT32_MAX &&
        item->valuedouble == (double)(uint32_t)item->valuedouble) {
        *ret = (uint32_t)item->valuedouble;
        return 0;
    }
    if (cJSON_IsString(item) && item->valuestring[0] >= '0' && item->valuestring[0] <= '9' &&
        strlen(item->valuestring) <= 10) {
        const unsigned long long value = strtoull(item->valuestring, &end, 10);
        if (*end == '\0' && value <= UINT32_MAX) {
            *ret = (uint32_t)value;
            return 0;
        }
    }
    return connect_fail(err, CONNECT_INVALID_ARGUMENT, "%s: not an unsigned 32-bit integer", field);
}

int rpc_get_string(const cJSON *object, const char *field, size_t max_bytes, const char **ret,
                   struct connect_error *err)
{
    struct error cause = ERROR_INIT;

    if (json_get_string(object, field, max_bytes, "", ret, &cause) != 0) {
        return connect_fail_from(err, CONNECT_INVALID_ARGUMENT, "", &cause);
    }
    return 0;
}

int rpc_get_object(const cJSON *object, const char *field, const cJSON **ret,
                   struct connect_error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, field);

    *ret = NULL;
    if (item == NULL || cJSON_IsNull(item)) {
        return 0;
    }
    if (!cJSON_IsObject(item)) {
        return connect_fail(err, CONNECT_INVALID_ARGUMENT, "%s: not an object", field);
    }
    *ret = item;
    return 0;
}

int rpc_get_path(const struct rpc_call *call, const char *field, char out[PATH_MAX],
                 struct connect_error *err)
{
    const char *text = NULL;
    struct error cause = ERROR_INIT;

    if (rpc_get_string(call->request, field, PATH_MAX - 1, &text, err) != 0) {
        return -1;
    }
    if (user_resolve_path(call->config, &call->user, text, out, &cause) != 0) {
        return connect_fail_from(err, CONNECT_INVALID_ARGUMENT, "", &cause);
    }
    return 0;
}
