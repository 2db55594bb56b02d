/*
 * command_spawn - one command's processes: their start and their death.
 *
 * Every command leads a session of its own and carries COMMAND_MARK in its environment, so that
 * what it started is found even after it left the group. Threads: no shared state.
 */
#ifndef TOOL_SERVER_COMMAND_SPAWN_H
#define TOOL_SERVER_COMMAND_SPAWN_H

#include <sys/types.h>

#include "deploy/template/tool-server/command.h"

#define COMMAND_MARK "MCP_COMMAND_ID"

struct command_spawned {
    pid_t pid;
    int pidfd, out; /* stdout and stderr; non-blocking, close-on-exec */
};

/* Environment: ours without the server's own settings (MCP_*), spec->env, the mark. Standard
 * input is empty. */
int command_spawn(const struct command_spec *spec, const char *id, struct command_spawned *ret,
                  struct error *err) MUST_CHECK;
/* Kills the group led by `pid` (0 = reaped, leave it) and every process that carries the id, until
 * none is left. */
void command_spawn_kill(pid_t pid, const char *id);

#endif
