/*
 * filter - the seccomp filter every process of a sandbox runs under.
 *
 * Owns: which system calls are allowed (syscalls.def, and the arguments in filter.c). Does not own:
 * installing it (bubblewrap does, just before the agent starts).
 * Threads: filter_init() once; then any.
 */
#ifndef SANDBOX_HOST_FILTER_H
#define SANDBOX_HOST_FILTER_H

#include "common/base/error.h"

/* Compiles the filter. -1: this kernel or machine cannot filter. */
int filter_init(struct error *err) MUST_CHECK;
void filter_done(void);
/* A descriptor of the compiled filter, read from its start; -1 when there is none. */
int filter_open(void);

#endif
