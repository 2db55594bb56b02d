/*
 * sandbox_copy - copies the disk of a sandbox, for snapshots and forks.
 *
 * Does not own: disks and images (isolation/disk.h, isolation/image.h). Threads: any.
 */
#ifndef SANDBOX_HOST_SANDBOX_COPY_H
#define SANDBOX_HOST_SANDBOX_COPY_H

#include <stdbool.h>

#include "common/base/error.h"
#include "deploy/sandbox-host/sandbox/sandbox_view.h"

/* Whether disks can outlive processes on this host: pauses without memory, snapshots, forks. */
bool sandbox_keeps_disks(void);
/* Copies the disk as it is now to the new file `to`; *ret describes the sandbox. A running sandbox
 * is frozen during the copy. ERR_NOT_FOUND; ERR_INVALID where disks are not kept. */
int sandbox_copy_disk(const char *id, const char *to, struct sandbox_view *ret,
                      struct error *err) MUST_CHECK;

#endif
