/*
 * memory_limit - how much memory this process may take before the kernel kills something.
 *
 * Reads the limits of the process's control groups (version 1 and 2, every level up to the root)
 * and the machine's memory. Pure but for reading files under `root` ("" outside of tests). Threads:
 * any. Failure: a limit that cannot be read is none.
 */
#ifndef BASE_MEMORY_LIMIT_H
#define BASE_MEMORY_LIMIT_H

#include <stdint.h>

/* Bytes of the tightest control group, or 0: there is none below the machine's memory. */
int64_t memory_limit_cgroup(const char *root);
/* Bytes of RAM. */
int64_t memory_limit_machine(void);

#endif
