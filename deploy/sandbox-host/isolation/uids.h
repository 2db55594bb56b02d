/*
 * uids - which user ids the sandboxes of this host run under.
 *
 * Owns: a range of UIDS_RANGE ids that no other sandbox-host of this machine uses. The kernel
 * counts processes by user id, so two hosts that shared ids would starve each other's sandboxes.
 * Does not own: which sandbox has which id (sandbox.c). Threads: at start only. Failure: -1 when
 * every range is taken. The claim ends with the last
 * process that has its descriptor.
 */
#ifndef SANDBOX_HOST_UIDS_H
#define SANDBOX_HOST_UIDS_H

#include <stdint.h>

#include "common/base/error.h"

enum { UIDS_RANGE = 4096, UIDS_RANGES = 64 };

/* The first range that is free from `first` on; *ret is its first id. Needs root to be of use. */
int uids_claim(int64_t first, int64_t *ret, struct error *err) MUST_CHECK;
/* The descriptor that holds the claim, to hand on to a process that is to hold it too; -1 = none.
 */
int uids_claim_fd(void);

#endif
