/*
 * claims - what this machine can and cannot enforce, and whether the host may start so.
 *
 * Owns: the list of claims (claims.def), finding out, SANDBOX_HOST_WITHOUT. Does not own:
 * enforcing. Threads: at start only.
 */
#ifndef SANDBOX_HOST_CLAIMS_H
#define SANDBOX_HOST_CLAIMS_H

#include <stdbool.h>
#include <stdio.h>

#include "common/base/error.h"
#include "deploy/sandbox-host/config.h"

enum claim {
#define X(claim, name, lost) claim,
#include "deploy/sandbox-host/sandbox/claims.def"
#undef X
    CLAIM_COUNT
};

/* Initialises what enforces them. ERR_CONFIG: SANDBOX_HOST_WITHOUT names no claim. */
int claims_find(const struct host_config *config, struct error *err) MUST_CHECK;
/* Logs what is missing; ERR_CONFIG when something is that SANDBOX_HOST_WITHOUT does not name. */
int claims_require(struct error *err) MUST_CHECK;
/* One line each. */
void claims_report(FILE *out);

#endif
