/* rpc - see rpc.h. */
#include "deploy/template/tool-server/rpc.h"

#include <math.h>
#include <string.h>

/* cJSON holds numbers as doubles and prints 15 digits exactly: an id must come back as it went. */
#define ID_NUMBER_MAX 999999999999999.0

static bool usable_id(const cJSON *id)
{
    if (cJSON_IsString(id)) {
        return strlen(id->valuestring) < RPC_ID_BYTES;
    }
    return cJSON_IsNumber(id) && fabs(id->valuedouble) <= ID_NUMBER_MAX &&
           id->valuedouble == floor(id->valuedouble);
}

cJSON *rpc_parse(const char *text, size_t length, enum rpc_code *ret_code, struct error *err)
{
    cJSON *tree = json_parse(text, length, err);
    int count;

    *ret_code = RPC_PARSE_ERROR;
    if (tree == NULL) {
        return NULL;
    }
    *ret_code = RPC_INVALID_REQUEST;
    count = cJSON_IsArray(tree) ? cJSON_GetArraySize(tree) : 0;
    if (!cJSON_IsObject(tree) && (count < 1 || count > RPC_BATCH_MAX)) {
        error_set(err, ERR_INVALID, "the body is neither a message nor a batch of 1 to %d",
                  RPC_BATCH_MAX);
        cJSON_Delete(tree);
        return NULL;
    }
    return tree;
}

static int broken(struct rpc_message *ret, struct error *err, const char *why)
{
    ret->kind = RPC_BROKEN;
    return error_set(err, ERR_INVALID, "%s", why);
}

static int read_call(const cJSON *node, struct rpc_message *ret, struct error *err)
{
    const cJSON *method = cJSON_GetObjectItemCaseSensitive(node, "method");
    const cJSON *params = cJSON_GetObjectItemCaseSensitive(node, "params");
    const size_t length = cJSON_IsString(method) ? strlen(method->valuestring) : 0;

    if (length == 0 || length >= RPC_METHOD_BYTES) {
        return broken(ret, err, "method must be a string");
    }
    if (params != NULL && !cJSON_IsObject(params)) {
        return broken(ret, err, "params must be an object");
    }
    ret->method = method->valuestring;
    ret->params = params;
    return 0;
}

void rpc_read(const cJSON *node, struct rpc_message *ret, struct error *err)
{
    const cJSON *version = cJSON_GetObjectItemCaseSensitive(node, "jsonrpc");
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(node, "id");

    *ret = (struct rpc_message){.kind = RPC_BROKEN, .id = usable_id(id) ? id : NULL};
    if (!cJSON_IsObject(node)) {
        broken(ret, err, "a message is an object");
    } else if (!cJSON_IsString(version) || strcmp(version->valuestring, "2.0") != 0) {
        broken(ret, err, "jsonrpc must be \"2.0\"");
    } else if (cJSON_HasObjectItem(node, "result") || cJSON_HasObjectItem(node, "error")) {
        ret->kind = RPC_RESPONSE;
    } else if (id != NULL && ret->id == NULL) {
        broken(ret, err, "id must be a string or an integer of at most 15 digits");
    } else if (read_call(node, ret, err) == 0) {
        ret->kind = id != NULL ? RPC_REQUEST : RPC_NOTIFICATION;
    }
}

static cJSON *envelope(const cJSON *id)
{
    cJSON *root = cJSON_CreateObject();

    cJSON_AddStringToObject(root, "jsonrpc", "2.0");
    cJSON_AddItemToObject(root, "id", id != NULL ? cJSON_Duplicate(id, true) : cJSON_CreateNull());
    return root;
}

cJSON *rpc_result(const cJSON *id, cJSON *result)
{
    cJSON *root = envelope(id);

    cJSON_AddItemToObject(root, "result", result);
    return root;
}

cJSON *rpc_failure(const cJSON *id, enum rpc_code code, const char *message)
{
    cJSON *root = envelope(id);
    cJSON *error = cJSON_AddObjectToObject(root, "error");

    cJSON_AddNumberToObject(error, "code", code);
    cJSON_AddStringToObject(error, "message", message);
    return root;
}

cJSON *rpc_notification(const char *method, cJSON *params)
{
    cJSON *root = cJSON_CreateObject();

    cJSON_AddStringToObject(root, "jsonrpc", "2.0");
    cJSON_AddStringToObject(root, "method", method);
    cJSON_AddItemToObject(root, "params", params);
    return root;
}
