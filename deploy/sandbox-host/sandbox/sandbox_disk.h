/*
 * sandbox_disk - sandboxes that have a disk and no processes: paused without memory, or left by a
 * host that ended or a machine that stopped.
 *
 * A resume boots such a sandbox anew over its disk: new processes, a new boot id, the template's
 * start command again. Its layers are ID-mapped, so it may get another user id than it had.
 * Does not own: disks (isolation/disk.h), copies of disks (sandbox_copy.h). Threads: with the
 * transition lock held.
 */
#ifndef SANDBOX_HOST_SANDBOX_DISK_H
#define SANDBOX_HOST_SANDBOX_DISK_H

#include "deploy/sandbox-host/sandbox/sandbox_table.h"

/* With the transition lock held: ends the processes of one that is paused, or is to be, and keeps
 * its disk. On failure they are killed. */
int disk_alone_locked(struct sandbox *sandbox, struct error *err) MUST_CHECK;
/* With the transition lock held: new processes for one that is a disk alone. On failure it stays
 * that. */
int disk_alone_boot(struct sandbox *sandbox, struct error *err) MUST_CHECK;
/* Takes over a paused one that an earlier host left, whose processes are gone or are to go. */
int disk_alone_adopt(struct sandbox *sandbox, struct error *err) MUST_CHECK;
/* At the end of the host: a paused one leaves the table and stays on disk. */
int disk_alone_put_away(const char *id, struct error *err) MUST_CHECK;

#endif
