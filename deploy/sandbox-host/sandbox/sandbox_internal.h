/*
 * sandbox_internal - transitions of a sandbox whose transition lock is held.
 */
#ifndef SANDBOX_HOST_SANDBOX_INTERNAL_H
#define SANDBOX_HOST_SANDBOX_INTERNAL_H

#include "deploy/sandbox-host/sandbox/sandbox_table.h"

void sandbox_init(const struct host_config *config);
int box_pause_locked(struct box *box, bool keeps_memory, struct error *err) MUST_CHECK;
/* Kills it; cleaner_end() waits until it is gone and takes it out of the table. */
void box_end_locked(struct box *box, const char *why);

#endif
