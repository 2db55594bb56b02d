/*
 * rpc - the table of methods and the call they get.
 *
 * Owns: what one RPC handler sees. Does not own: transport checks and answers (rpc.c does them
 * before and after). Threads: a call belongs to its handler thread.
 */
#ifndef AGENT_RPC_H
#define AGENT_RPC_H

#include "common/base/json.h"
#include <stdint.h>

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

rpc_unary rpc_process_list, rpc_process_update, rpc_process_send_signal, rpc_process_send_input,
    rpc_process_close_stdin;
rpc_stream rpc_process_start, rpc_process_connect, rpc_process_stream_input;
rpc_unary rpc_filesystem_make_dir, rpc_filesystem_list_dir, rpc_filesystem_stat,
    rpc_filesystem_remove, rpc_filesystem_move, rpc_filesystem_create_watcher,
    rpc_filesystem_get_watcher_events, rpc_filesystem_remove_watcher;
rpc_stream rpc_filesystem_watch_dir;

/* Serves a path that begins with /process.Process/ or /filesystem.Filesystem/. */
void rpc_serve(struct http_exchange *exchange, const struct agent_config *config);

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
