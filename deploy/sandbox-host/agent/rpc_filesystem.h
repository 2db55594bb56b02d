/*
 * rpc_filesystem - the methods of envd's filesystem service.
 *
 * Threads: each call on its handler thread.
 */
#ifndef AGENT_RPC_FILESYSTEM_H
#define AGENT_RPC_FILESYSTEM_H

#include "deploy/sandbox-host/agent/rpc_call.h"

rpc_unary rpc_filesystem_make_dir, rpc_filesystem_list_dir, rpc_filesystem_stat,
    rpc_filesystem_remove, rpc_filesystem_move, rpc_filesystem_create_watcher,
    rpc_filesystem_get_watcher_events, rpc_filesystem_remove_watcher;
rpc_stream rpc_filesystem_watch_dir;

#endif
