/*
 * config - the environment variables of the reaper.
 *
 * Failure: ERR_CONFIG names the variable; the program stops at start.
 */
#ifndef REAPER_CONFIG_H
#define REAPER_CONFIG_H

#include <stdint.h>
#include <stdio.h>

#include "common/base/error.h"
#include "common/domain/providers.h"
#include "common/queue/queue_config.h"

struct reaper_config {
    char *database_url;
    struct queue_config redis;
    char *providers;
    char *log_level;
    int64_t tick_ms;
    int64_t batch;
    int64_t outbox_ms;
    int64_t outbox_base_ms;
    int64_t lifetimes_ms;
    int64_t reconcile_ms;
    int64_t prune_ms, idempotency_s;
    char *retention_days;
    int64_t retention_ms; /* from it; 0 = ended sandboxes are kept */
    int64_t consumer_idle_ms;
    int64_t stats_ms;
    int64_t heartbeat_ms;
    int64_t lifetime_grace_ms;
    int64_t lifetime_margin_ms;
    /* of `providers` */
    enum provider_kind kinds[PROVIDER_KIND_COUNT];
    int kind_count;
    struct provider_lifetimes lifetimes;
    struct provider_labels labels;
};

int reaper_config_load(struct reaper_config *config, struct error *err) MUST_CHECK;
void reaper_config_free(struct reaper_config *config);
void reaper_config_help(FILE *out);

#endif
