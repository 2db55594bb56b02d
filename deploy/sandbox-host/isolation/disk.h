/*
 * disk - the disk of one sandbox: its home, /root, /tmp and /var/tmp, and their limit.
 *
 * Owns: the three ways to have one. An image: a sparse file with a file system of its own of
 * SANDBOX_HOST_DISK_BYTES, attached to a loop device and mounted by the sandbox's first process in
 * its own mount namespace only, so that mount and device vanish with it (needs root). Memory: each
 * folder is a tmpfs of that size. Folder: plain folders, which nothing limits.
 * Does not own: where the folders appear inside (bwrap_argv.h). Threads: disk_init() once; then
 * any.
 */
#ifndef SANDBOX_HOST_DISK_H
#define SANDBOX_HOST_DISK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "common/base/error.h"
#include "deploy/sandbox-host/config.h"

enum disk_mode { DISK_FOLDER, DISK_MEMORY, DISK_IMAGE };
enum { DISK_DEVICE_BYTES = 32 };

/* Finds out whether the configured way works here. -1: it does not (err says why), and the mode is
 * DISK_FOLDER. */
int disk_init(const struct host_config *config, struct error *err) MUST_CHECK;
enum disk_mode disk_mode(void);

/* Makes the disk of the sandbox in `dir`: with `source` NULL a new one, with "" the one that is
 * there already, else a copy of that image (both with DISK_IMAGE alone). With an image *ret_fd
 * holds the device `device` until somebody has mounted it; otherwise *ret_fd is -1 and the folders
 * are ready, with the content of `home` (or NULL) in its home. ERR_OVERLOADED: this machine's disk
 * is too full for one more. */
int disk_make(const char *dir, const char *source, const char *home, uid_t uid,
              char device[DISK_DEVICE_BYTES], int *ret_fd, struct error *err) MUST_CHECK;
/* In a mount namespace of its own: mounts `device` at dir/disk and makes the folders that are not
 * there yet, and the layers of `plan` (layers.h; NULL or "" = none) over them. */
int disk_mount(const char *device, const char *dir, const char *home, uid_t uid, const char *plan,
               struct error *err) MUST_CHECK;
/* Bytes of the disk of a running sandbox; total 0 = not limited. */
int disk_usage(pid_t init_pid, int64_t *ret_used, int64_t *ret_total, struct error *err) MUST_CHECK;

#endif
