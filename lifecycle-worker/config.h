/*
 * config - the environment variables of the lifecycle worker.
 *
 * Owns: names, ranges, defaults, and the rules between values (an attempt fits into its lease, a
 * lease ends before an entry may be taken over). Failure: ERR_CONFIG names the variable.
 */
#ifndef WORKER_CONFIG_H
#define WORKER_CONFIG_H

#include <stdint.h>

#include "common/base/config.h"
#include "common/queue/queue_config.h"

struct worker_config {
    char *database_url;
    struct queue_config redis;
    char *log_level;
#define X(...) CONFIG_FIELD(__VA_ARGS__)
#include "lifecycle-worker/config.def"
#undef X
};

extern const struct config_schema worker_config_schema;

/* Time left of a lease in which nothing is begun or written any more: clocks of different hosts
 * and a slow commit must not let two holders act at once. */
int64_t worker_config_lease_margin_ms(const struct worker_config *config);

#endif
