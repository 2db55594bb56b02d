/*
 * sandbox_internal - transitions of a sandbox whose transition lock is held.
 */
#ifndef SANDBOX_HOST_SANDBOX_INTERNAL_H
#define SANDBOX_HOST_SANDBOX_INTERNAL_H

#include "deploy/sandbox-host/sandbox/sandbox_table.h"

void sandbox_init(const struct host_config *config);
int sandbox_pause_locked(struct sandbox *sandbox, bool keeps_memory, struct error *err) MUST_CHECK;
/* Kills it; cleaner_end() waits until it is gone and takes it out of the table. */
void sandbox_end_locked(struct sandbox *sandbox, const char *why);

#endif
