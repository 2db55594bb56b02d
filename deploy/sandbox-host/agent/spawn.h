/*
 * spawn - one fork and exec: user, folder, descriptors, session, terminal.
 *
 * Owns: what happens between fork and exec (async-signal-safe calls only: the agent has threads).
 * Does not own: the process afterwards. Threads: callable from any; the caller holds whatever lock
 * keeps the child from being reaped unseen. Failure: errors before the fork are returned; a child
 * that cannot become the user, enter the folder or execute says so on its stderr and exits 126, or
 * 127 when there is no such program, as a shell does.
 */
#ifndef AGENT_SPAWN_H
#define AGENT_SPAWN_H

#include <stdbool.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "common/base/error.h"
#include "deploy/sandbox-host/agent/user.h"

struct spawn_spec {
    char **argv; /* argv[0] is looked up in the PATH of envp */
    char **envp;
    const char *cwd;
    const struct user *user;
    struct rlimit nofile;
    bool subreaper;  /* the orphans of all it starts become its own */
    bool stdin_pipe; /* else /dev/null; ignored with a terminal */
    bool pty;
    unsigned short columns, rows;
};

/* Non-blocking, close-on-exec descriptors of the parent's side; -1 where there is none. */
struct spawned {
    pid_t pid;
    int input;      /* stdin pipe, or the terminal for writing */
    int outputs[2]; /* stdout and stderr, or the terminal and -1 */
};

/* Once, while the process' own /proc files are still its own to open: makes commands rather than
 * the agent the victims when the sandbox is out of memory. */
void spawn_init(void);

/* One at a time. */
int spawn(const struct spawn_spec *spec, struct spawned *ret, struct error *err) MUST_CHECK;

#endif
