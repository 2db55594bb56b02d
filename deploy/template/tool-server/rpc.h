/*
 * rpc - JSON-RPC 2.0 as MCP uses it: reading messages, building answers.
 *
 * Owns: what a message is, the error codes. Does not own: methods (mcp.c), HTTP (door.c).
 * Threads: no shared state. Failure: rpc_parse says what is wrong in words for the peer.
 */
#ifndef TOOL_SERVER_RPC_H
#define TOOL_SERVER_RPC_H

#include <stddef.h>

#include "common/base/error.h"
#include "common/base/json.h"

enum rpc_code {
    RPC_PARSE_ERROR = -32700,
    RPC_INVALID_REQUEST = -32600,
    RPC_METHOD_NOT_FOUND = -32601,
    RPC_INVALID_PARAMS = -32602,
};
enum { RPC_BATCH_MAX = 32, RPC_ID_BYTES = 256, RPC_METHOD_BYTES = 128 };

enum rpc_kind { RPC_REQUEST, RPC_NOTIFICATION, RPC_RESPONSE, RPC_BROKEN };

/* One message; everything points into the tree it was read from. */
struct rpc_message {
    enum rpc_kind kind;
    const cJSON *id;     /* string or integer; NULL unless a request */
    const char *method;  /* NULL for a response */
    const cJSON *params; /* object, or NULL */
};

/* The whole body: an object, or (a batch) an array of 1 to RPC_BATCH_MAX. NULL with *ret_code
 * and err otherwise. The caller deletes the tree. */
cJSON *rpc_parse(const char *text, size_t length, enum rpc_code *ret_code,
                 struct error *err) MUST_CHECK;
/* Never fails: RPC_BROKEN, with err, is what is none of the others. Its id is kept if usable. */
void rpc_read(const cJSON *node, struct rpc_message *ret, struct error *err);

/* Takes `result`; `id` is copied. */
cJSON *rpc_result(const cJSON *id, cJSON *result);
/* `id` NULL becomes null. */
cJSON *rpc_failure(const cJSON *id, enum rpc_code code, const char *message);
/* Takes `params`. */
cJSON *rpc_notification(const char *method, cJSON *params);

#endif
