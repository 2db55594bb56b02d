/*
 * jobs_cli - `sandbox-gateway jobs list|show|redrive`, for the operator.
 */
#ifndef GATEWAY_JOBS_CLI_H
#define GATEWAY_JOBS_CLI_H

#include "common/base/error.h"
#include "common/queue/queue.h"
#include "common/store/store.h"

/* argv[0] is the verb. Prints to stdout; the redriven job is woken through `redis`. */
int jobs_cli_run(int argc, char **argv, struct store *store, const struct queue_options *redis,
                 struct error *err) MUST_CHECK;

#endif
