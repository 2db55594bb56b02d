/*
 * template_archive - the packed root file system of a template: name.tar, .tar.gz, .tgz, .tar.xz or
 * .tar.zst.
 *
 * Owns: finding and unpacking it. Threads: one at a time for each name.
 */
#ifndef SANDBOX_HOST_TEMPLATE_ARCHIVE_H
#define SANDBOX_HOST_TEMPLATE_ARCHIVE_H

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "common/base/error.h"

/* Whether `folder` (NULL = none) has an archive of `name`: its path and status. */
bool template_archive_find(const char *folder, const char *name, char out[PATH_MAX],
                           struct stat *status);
/* Unpacks it into state_dir, once for each time and size of the archive. *ret: the root, a heap
 * string. */
int template_archive_unpack(const char *state_dir, const char *name, const char *archive,
                            const struct stat *status, char **ret, struct error *err) MUST_CHECK;

#endif
