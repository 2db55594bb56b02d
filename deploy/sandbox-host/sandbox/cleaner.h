/*
 * cleaner - removes what a killed sandbox leaves: processes that still end, cgroup, folder, disk.
 *
 * Owns: the thread that waits for them and tries again until nothing is left. Threads: any, but
 * cleaner_init(), cleaner_start() and cleaner_drain().
 */
#ifndef SANDBOX_HOST_CLEANER_H
#define SANDBOX_HOST_CLEANER_H

#include "deploy/sandbox-host/sandbox/sandbox_table.h"

/* Before anything else of it. */
void cleaner_init(void);
int cleaner_start(struct error *err) MUST_CHECK;
/* Of a killed one: takes over the transition lock, which is held, and the caller's reference. What
 * does not end at once is left to the thread. */
void cleaner_end(struct sandbox *sandbox);
/* The same without the transition lock, all of it by the thread. */
void cleaner_hand_over(struct sandbox *sandbox);
/* Ends the thread, after one more try of each. */
void cleaner_drain(void);

#endif
