/*
 * process_stop - pauses a sandbox where this machine has no freezer cgroup: SIGSTOP to every
 * process of its pid namespace.
 *
 * Threads: any.
 */
#ifndef SANDBOX_HOST_PROCESS_STOP_H
#define SANDBOX_HOST_PROCESS_STOP_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/base/error.h"

/* Stops every process, or continues it. `init_pid`: the first process of the sandbox, as this
 * process sees it. */
int process_stop(pid_t init_pid, bool stopped, struct error *err) MUST_CHECK;

#endif
