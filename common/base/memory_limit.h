/*
 * memory_limit - how much memory this process may use before the kernel kills a process.
 *
 * Reads the limits of the process's control groups (version 1 and 2, every level up to the root)
 * and the machine's memory. Only reads files under `root` ("" outside of tests). Threads: any.
 * Failure: a limit that cannot be read counts as no limit.
 */
#ifndef BASE_MEMORY_LIMIT_H
#define BASE_MEMORY_LIMIT_H

#include <stdint.h>

/* Lowest limit of the control groups, in bytes; 0: none is below the machine's memory. */
int64_t memory_limit_cgroup(const char *root);
/* The machine's RAM, in bytes. */
int64_t memory_limit_machine(void);

#endif
