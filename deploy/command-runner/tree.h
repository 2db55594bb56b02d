/*
 * tree - the processes that a command started.
 *
 * This process is a child subreaper where the kernel allows it: whatever the command starts,
 * however it detaches, descends from here. Elsewhere processes are also known by SANDBOX_EXEC_ID in
 * their environment. Owns: finding and killing them. Failure: what cannot be killed is told.
 */
#ifndef RUNNER_TREE_H
#define RUNNER_TREE_H

#include <stdbool.h>
#include <sys/types.h>

/* True when orphans come to this process. */
bool tree_adopt_orphans(void);
/* Stops all that descends from this process until no new one turns up, kills it, waits for its end,
 * at most some 700 ms. Reaps; the status of `main_pid` goes to *ret_status when it is among them.
 * Returns the number of survivors, whose pids go to `ret`. */
int tree_kill(const char *id, pid_t main_pid, int *ret_status, pid_t *ret, int max);

#endif
