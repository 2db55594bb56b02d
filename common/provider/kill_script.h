/*
 * kill_script - how a command and all it started are killed inside a sandbox.
 *
 * Owns: the script, for /bin/sh with grep and sleep; the variable that marks a command's processes.
 * Does not own: how it gets there. Threads: const. Failure: exit status 1 when something is left
 * alive.
 */
#ifndef PROVIDER_KILL_SCRIPT_H
#define PROVIDER_KILL_SCRIPT_H

/* In the environment of a command and of what it starts: an id of its own. */
#define PROVIDER_EXEC_ID "SANDBOX_EXEC_ID"

/* $1 id, $2 pid (0 = unknown). Stops until nothing new turns up, so that nothing can fork away,
 * then kills; repeats until none is left alive (a zombie is not alive). */
extern const char provider_kill_script[];

#endif
