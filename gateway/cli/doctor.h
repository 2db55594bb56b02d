/*
 * doctor - `sandbox-gateway doctor`: checks what this deployment depends on, and advises.
 *
 * Owns: the checks, their thresholds and advice. Does not own: the facts (store, queue and provider
 * return them). Changes nothing. Threads: one.
 */
#ifndef GATEWAY_DOCTOR_H
#define GATEWAY_DOCTOR_H

#include "common/base/error.h"
#include "common/queue/queue.h"
#include "common/store/store.h"
#include "gateway/config.h"

/* Prints one line per finding to stdout. 0: nothing failed (there may be warnings). -1:
 * ERR_INTERNAL with the number of failures in the message. */
int doctor_run(const struct gateway_config *config, struct store *store,
               const struct queue_options *redis, struct error *err) MUST_CHECK;

#endif
