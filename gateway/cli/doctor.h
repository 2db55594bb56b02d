/*
 * doctor - `sandbox-gateway doctor`: looks at everything this deployment stands on and says what to
 * do about what it finds.
 *
 * Owns: the checks, their thresholds and advice. Does not own: the facts (store, queue and provider
 * give them). Changes nothing, anywhere. Threads: one.
 */
#ifndef GATEWAY_DOCTOR_H
#define GATEWAY_DOCTOR_H

#include "common/base/error.h"
#include "common/queue/queue.h"
#include "common/store/store.h"
#include "gateway/config.h"

/* Prints a line a finding to stdout. 0 when nothing failed (warnings are allowed), else -1 with
 * ERR_INTERNAL and the number of failures in the message. */
int doctor_run(const struct gateway_config *config, struct store *store,
               const struct queue_options *redis, struct error *err) MUST_CHECK;

#endif
