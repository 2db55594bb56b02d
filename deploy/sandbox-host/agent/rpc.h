/*
 * rpc - Connect calls of the agent: transport checks, user, body, dispatch, answer.
 *
 * Does not own: the methods (rpc_process.h, rpc_filesystem.h). Threads: httpd's.
 */
#ifndef AGENT_RPC_H
#define AGENT_RPC_H

#include "common/httpd/httpd.h"
#include "deploy/sandbox-host/agent/agent.h"

/* Serves a path that begins with /process.Process/ or /filesystem.Filesystem/. */
void rpc_serve(struct http_exchange *exchange, const struct agent_config *config);

#endif
