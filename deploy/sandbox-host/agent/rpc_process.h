/*
 * rpc_process - the methods of envd's process service.
 *
 * Threads: each call on its handler thread.
 */
#ifndef AGENT_RPC_PROCESS_H
#define AGENT_RPC_PROCESS_H

#include "deploy/sandbox-host/agent/rpc_call.h"

rpc_unary rpc_process_list, rpc_process_update, rpc_process_send_signal, rpc_process_send_input,
    rpc_process_close_stdin;
rpc_stream rpc_process_start, rpc_process_connect, rpc_process_stream_input;

#endif
