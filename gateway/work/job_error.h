/*
 * job_error - what the outcome of a finished job means for the client.
 *
 * Owns: the table from outcome to error code. Does not own: the job (store, worker), the answer
 * (handlers). Threads: no shared state.
 */
#ifndef GATEWAY_JOB_ERROR_H
#define GATEWAY_JOB_ERROR_H

#include "common/base/error.h"
#include "common/domain/types.h"

/* Bit set over enum outcome: outcomes that are answered 503, so that the client may try again. */
unsigned job_error_retryable_outcomes(void);

/* Sets err from a finished job that did not succeed. Always -1. */
int job_error_set(const struct job *job, struct error *err);

#endif
