/*
 * image - the sparse file that is a sandbox's disk: copied, made consistent, let go.
 *
 * A copy is taken while every process of the sandbox is frozen and all it wrote has reached the
 * image. Owns: copying (shared blocks where the file system can, else only what is not a hole),
 * e2fsck, waiting for loop devices. Does not own: making and mounting (disk.h).
 * Threads: no shared state.
 */
#ifndef SANDBOX_HOST_IMAGE_H
#define SANDBOX_HOST_IMAGE_H

#include <sys/types.h>

#include "common/base/error.h"

/* A new file `to` with the content of `from`; returns it open for reading and writing. */
int image_copy(const char *from, const char *to, struct error *err) MUST_CHECK;
/* Has everything written that the sandbox with this first process has in memory of its disk. */
int image_sync(pid_t init_pid, struct error *err) MUST_CHECK;
/* Mends what a disk that was not unmounted may have (e2fsck -p). */
int image_check(const char *path, struct error *err) MUST_CHECK;
/* Waits until no loop device is over the file any more. ERR_TIMEOUT. */
int image_wait_free(const char *path, struct error *err) MUST_CHECK;

#endif
