/* mcp - see mcp.h. */
#include "deploy/template/tool-server/mcp.h"

#include <string.h>

/* newest first */
static const struct {
    const char *name;
    bool batches;
} revisions[] = {
    {MCP_LATEST, false}, {"2025-06-18", false}, {MCP_ASSUMED, true}, {"2024-11-05", true}};
enum { REVISION_COUNT = sizeof(revisions) / sizeof(revisions[0]), TOOL_NAME_BYTES = 128 };

static const char instructions[] =
    "Tools for one sandbox: a Linux machine of its own. Commands and relative paths start in the "
    "working directory; state (files, background commands) stays between calls.";

const char *mcp_revision(const char *text)
{
    for (int i = 0; i < REVISION_COUNT; i++) {
        if (strcmp(revisions[i].name, text) == 0) {
            return revisions[i].name;
        }
    }
    return NULL;
}

bool mcp_batches(const char *revision)
{
    for (int i = 0; i < REVISION_COUNT; i++) {
        if (strcmp(revisions[i].name, revision) == 0) {
            return revisions[i].batches;
        }
    }
    return false;
}

static cJSON *initialize(struct mcp_call *call, const struct rpc_message *message)
{
    const char *asked, *revision;
    struct error err = ERROR_INIT;
    cJSON *result, *part;

    if (json_get_string_req(message->params, "protocolVersion", 1, 64, &asked, &err) != 0) {
        return rpc_failure(message->id, RPC_INVALID_PARAMS, err.message);
    }
    revision = mcp_revision(asked);
    if (revision == NULL) {
        revision = MCP_LATEST; /* the client decides whether it can live with that */
    }
    session_begin(call->sessions, revision, call->session);
    result = cJSON_CreateObject();
    cJSON_AddStringToObject(result, "protocolVersion", revision);
    part = cJSON_AddObjectToObject(cJSON_AddObjectToObject(result, "capabilities"), "tools");
    cJSON_AddFalseToObject(part, "listChanged");
    part = cJSON_AddObjectToObject(result, "serverInfo");
    cJSON_AddStringToObject(part, "name", "sandbox-tool-server");
    cJSON_AddStringToObject(part, "title", "Sandbox tools");
    cJSON_AddStringToObject(part, "version", VERSION);
    cJSON_AddStringToObject(result, "instructions", instructions);
    return rpc_result(message->id, result);
}

static cJSON *list_tools(const struct rpc_message *message)
{
    cJSON *result;

    if (cJSON_HasObjectItem(message->params, "cursor")) {
        return rpc_failure(message->id, RPC_INVALID_PARAMS,
                           "cursor: there is one page, and no cursor was ever given");
    }
    result = cJSON_CreateObject();
    cJSON_AddItemToObject(result, "tools", tools_list());
    return rpc_result(message->id, result);
}

static cJSON *call_tool(struct mcp_call *call, const struct rpc_message *message)
{
    const cJSON *arguments = cJSON_GetObjectItemCaseSensitive(message->params, "arguments");
    struct error err = ERROR_INIT;
    struct flight flight;
    cJSON *result = NULL;
    const char *name;
    int status;

    if (json_get_string_req(message->params, "name", 1, TOOL_NAME_BYTES, &name, &err) != 0) {
        return rpc_failure(message->id, RPC_INVALID_PARAMS, err.message);
    }
    if (arguments != NULL && !cJSON_IsObject(arguments)) {
        return rpc_failure(message->id, RPC_INVALID_PARAMS, "arguments must be an object");
    }
    flight_begin(&flight, call->sessions, call->session, message->id);
    call->tool.config = call->config;
    call->tool.arguments = arguments;
    call->tool.flight = &flight;
    status = tools_call(name, &call->tool, &result, &err);
    flight_end(&flight);
    if (status != 0) {
        return rpc_failure(message->id, RPC_INVALID_PARAMS, err.message);
    }
    return result != NULL ? rpc_result(message->id, result) : NULL;
}

cJSON *mcp_request(struct mcp_call *call, const struct rpc_message *message)
{
    if (strcmp(message->method, "tools/call") == 0) {
        return call_tool(call, message);
    }
    if (strcmp(message->method, "tools/list") == 0) {
        return list_tools(message);
    }
    if (strcmp(message->method, "initialize") == 0) {
        return initialize(call, message);
    }
    if (strcmp(message->method, "ping") == 0) {
        return rpc_result(message->id, cJSON_CreateObject());
    }
    return rpc_failure(message->id, RPC_METHOD_NOT_FOUND, "this server has no such method");
}

void mcp_notification(struct mcp_call *call, const struct rpc_message *message)
{
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(message->params, "requestId");

    if (strcmp(message->method, "notifications/cancelled") == 0 && id != NULL) {
        flights_cancel(call->sessions, call->session, id);
    }
    /* the others (initialized, progress, roots) change nothing here */
}
