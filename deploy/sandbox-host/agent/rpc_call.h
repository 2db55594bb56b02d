/*
 * rpc_call - the call that one RPC handler gets, and the reading of its fields.
 *
 * Does not own: transport checks and answers (rpc.c does them before and after). Threads: a call
 * belongs to its handler thread.
 */
#ifndef AGENT_RPC_CALL_H
#define AGENT_RPC_CALL_H

#include <stdint.h>

#include "common/base/json.h"
#include "deploy/sandbox-host/agent/agent.h"
#include "deploy/sandbox-host/agent/connect.h"
#include "deploy/sandbox-host/agent/user.h"

struct rpc_call {
    struct http_exchange *exchange;
    const struct agent_config *config;
    struct user user;     /* from Authorization: Basic, else the default */
    cJSON *request;       /* NULL for a client stream */
    int64_t timeout_ms;   /* Connect-Timeout-Ms, -1 = none */
    int64_t keepalive_ms; /* Keepalive-Ping-Interval, default 90 s */
};

/* Fills `response` (an empty object) or *err. */
typedef int rpc_unary(struct rpc_call *call, cJSON *response, struct connect_error *err);
/* Writes events to the stream; -1 + *err ends it with that error. */
typedef int rpc_stream(struct rpc_call *call, struct connect_stream *stream,
                       struct connect_error *err);

/* proto3 JSON: a uint32 may come as a number or as a decimal string; absent and null are 0. */
int rpc_get_uint32(const cJSON *object, const char *field, uint32_t *ret,
                   struct connect_error *err) MUST_CHECK;
/* Absent and null are "". Error: invalid_argument. */
int rpc_get_string(const cJSON *object, const char *field, size_t max_bytes, const char **ret,
                   struct connect_error *err) MUST_CHECK;
/* An object field; absent and null give NULL. */
int rpc_get_object(const cJSON *object, const char *field, const cJSON **ret,
                   struct connect_error *err) MUST_CHECK;
/* call->user's view of a path field; not_found etc. as user_resolve_path. */
int rpc_get_path(const struct rpc_call *call, const char *field, char out[PATH_MAX],
                 struct connect_error *err) MUST_CHECK;

#endif
