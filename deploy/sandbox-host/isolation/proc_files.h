/*
 * proc_files - files that tell a sandbox of itself what the kernel would tell of the machine.
 *
 * /proc/meminfo shows the sandbox's own memory where a cgroup bounds it, so that `free` and
 * programs that size themselves by it are right; the boot id is a new one at each start of its
 * processes. Both are files in the sandbox's folder, bound over the kernel's. Owns: their text.
 * Threads: a sandbox's files have one writer at a time.
 */
#ifndef SANDBOX_HOST_PROC_FILES_H
#define SANDBOX_HOST_PROC_FILES_H

#include <stdbool.h>

#include "common/base/error.h"
#include "deploy/sandbox-host/config.h"

enum { PROC_FILES_EVERY_MS = 1000, PROC_FILES_PATH_BYTES = 128 };

void proc_files_init(const struct host_config *config);
/* Makes dir/boot_id, and dir/meminfo where memory is bounded (*ret_memory). */
int proc_files_make(const char *dir, bool *ret_memory, struct error *err) MUST_CHECK;
/* Writes dir/meminfo anew from the sandbox's cgroup. */
int proc_files_update(const char *dir, const char *id, struct error *err) MUST_CHECK;

#endif
