/*
 * build_upload - the archives that template builds copy from, each named by its hash.
 */
#ifndef SANDBOX_HOST_BUILD_UPLOAD_H
#define SANDBOX_HOST_BUILD_UPLOAD_H

#include "common/base/error.h"
#include "deploy/sandbox-host/sandbox/saved.h"

/* ERR_INVALID: not a hash. */
int build_upload_check(const char *hash, struct error *err) MUST_CHECK;
/* Where the archive with this hash of a COPY step is kept. -1: not a hash. */
int build_upload_path(const char *state_dir, const char *hash, char out[SAVED_PATH_BYTES],
                      struct error *err) MUST_CHECK;

#endif
