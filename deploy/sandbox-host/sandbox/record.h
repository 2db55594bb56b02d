/*
 * record - one file in the sandbox's folder, of what a restarted host must know.
 *
 * Threads: with the transition lock held.
 */
#ifndef SANDBOX_HOST_RECORD_H
#define SANDBOX_HOST_RECORD_H

#include "deploy/sandbox-host/sandbox/sandbox_table.h"

int record_write(const struct sandbox *sandbox, struct error *err) MUST_CHECK;
/* ERR_NOT_FOUND when there is none. */
int record_read(const char *id, struct sandbox *sandbox, struct error *err) MUST_CHECK;

#endif
