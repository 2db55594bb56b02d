/*
 * sandboxes - all sandboxes of the host: found again at its start, ended with it.
 *
 * Threads: sandboxes_init() and sandboxes_done() from one thread.
 */
#ifndef SANDBOX_HOST_SANDBOXES_H
#define SANDBOX_HOST_SANDBOXES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/base/error.h"
#include "deploy/sandbox-host/config.h"

/* Takes over what an earlier host left alive, if the warden it runs under still lives, and removes
 * what is dead. */
int sandboxes_init(const struct host_config *config, int64_t first_uid, bool warden_lives,
                   struct error *err) MUST_CHECK;
/* `exited` of struct warden_events: a process of the warden has ended. */
void sandboxes_exited(void *arg, pid_t pid, int wait_status);
/* Kills all. Nothing is left but the disks of paused ones. */
void sandboxes_done(void);

#endif
