/*
 * mcp - the protocol's methods: initialize, ping, tools/list, tools/call, and notifications.
 *
 * Owns: revisions, what each method takes and gives. Does not own: HTTP (door.c), JSON-RPC (rpc.h),
 * tools (tools.h). Threads: no state of its own. Failure: answers.
 */
#ifndef TOOL_SERVER_MCP_H
#define TOOL_SERVER_MCP_H

#include "deploy/template/tool-server/rpc.h"
#include "deploy/template/tool-server/tools.h"

#define MCP_LATEST "2025-11-25"
/* What a request without a revision means, as the specification has it. */
#define MCP_ASSUMED "2025-03-26"

/* One request on its way through. */
struct mcp_call {
    const struct tool_config *config;
    struct sessions *sessions;
    char session[SESSION_ID_BYTES]; /* "" = none; initialize fills it */
    struct tool_call tool;
};

/* The constant of a supported revision, or NULL. */
const char *mcp_revision(const char *text);
/* In this revision the body may be a batch. */
bool mcp_batches(const char *revision);

/* The answer to a request (the caller's), or NULL: it was cancelled. call->tool.waiting and .arg
 * are set by the caller. */
cJSON *mcp_request(struct mcp_call *call, const struct rpc_message *message);
void mcp_notification(struct mcp_call *call, const struct rpc_message *message);

#endif
