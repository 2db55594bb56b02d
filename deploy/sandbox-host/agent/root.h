/*
 * root - being root in a sandbox, which has one user id in all.
 *
 * A command that runs as root has a user namespace in which that id is 0. A package that gives a
 * file to another user (`root:shadow`, `_apt`) could not be installed there: the kernel answers
 * EINVAL for an id the namespace does not have. So the calls that change a file's owner do nothing
 * and succeed, as they do in rootless image builders.
 * Owns: that pretence, and `sandbox-agent --as-root -- COMMAND`, which the sandbox's sudo becomes.
 * Threads: between fork and exec, or in a process of one thread.
 */
#ifndef AGENT_ROOT_H
#define AGENT_ROOT_H

/* From here on, in this process and its children, changing a file's owner succeeds without effect.
 * Async-signal-safe. -1 + errno: not so. */
int root_keep_owners(void);

/* Becomes argv as root of a new user namespace. Returns a shell's exit status when it cannot. */
int root_exec(char **argv);

#endif
