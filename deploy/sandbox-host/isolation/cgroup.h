/*
 * cgroup - limits, measures and freezes one sandbox through the cgroups that this machine lets the
 * host use.
 *
 * Owns: detection (v1 controllers, v2 unified, or none), the groups <root>/sandbox-host/<id>.
 * Without a usable hierarchy only rlimits limit a sandbox (cgroup_report() says so), and freezing
 * is process_stop.h. Threads: detection once; after it any, each function changes only the group of
 * its own sandbox.
 */
#ifndef SANDBOX_HOST_CGROUP_H
#define SANDBOX_HOST_CGROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "common/base/error.h"

struct cgroup_limits {
    int64_t memory_bytes, processes, cpu_percent;
};
/* Finds what can be used and prepares the parent groups. */
void cgroup_detect(void);
/* One line each of what is enforced how. */
void cgroup_report(FILE *out);
bool cgroup_limits_memory(void);
bool cgroup_limits_processes(void);
bool cgroup_limits_cpu(void);

/* Thaws every frozen group whose processes have been killed, whoever's they were: when a warden is
 * killed, its frozen sandboxes can only die once they are thawed, and hold their user ids until
 * then. */
void cgroup_thaw_killed(void);

/* Makes the sandbox's groups and sets its limits. What a hierarchy refuses is not limited. */
void cgroup_create(const char *id, const struct cgroup_limits *limits);
/* Moves the calling process in; async-signal-safe enough for between fork and exec. */
void cgroup_enter(const char *id);
/* Thaws it if it is frozen: a frozen process does not die of SIGKILL. */
void cgroup_let_die(const char *id);
/* Kills what is left in it and removes it. One that is not there is removed. */
int cgroup_remove(const char *id, struct error *err) MUST_CHECK;
/* Freezes or thaws every process of the sandbox; `init_pid` is its first process as seen from here.
 */
int cgroup_freeze(const char *id, pid_t init_pid, bool frozen, struct error *err) MUST_CHECK;
/* What it used: CPU since it began; memory now, and how much of that is cache. ERR_NOT_FOUND: no
 * cgroup to measure by. */
int cgroup_usage(const char *id, int64_t *ret_cpu_ns, int64_t *ret_memory_bytes,
                 int64_t *ret_cache_bytes, struct error *err) MUST_CHECK;

#endif
