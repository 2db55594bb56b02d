/*
 * config - the environment variables of the reaper.
 *
 * Failure: ERR_CONFIG names the variable; the program stops at start.
 */
#ifndef REAPER_CONFIG_H
#define REAPER_CONFIG_H

#include <stdint.h>

#include "common/base/config.h"
#include "common/domain/providers.h"
#include "common/queue/queue_config.h"

struct reaper_config {
    char *database_url;
    struct queue_config redis;
    char *log_level;
#define X(...) CONFIG_FIELD(__VA_ARGS__)
#include "reaper/config.def"
#undef X
    int64_t retention_ms; /* RETENTION_DAYS; 0 = ended sandboxes are kept for ever */
    /* SANDBOX_PROVIDERS */
    enum provider_kind kinds[PROVIDER_KIND_COUNT];
    int kind_count;
    struct provider_lifetimes lifetimes;
    struct provider_labels labels;
};

extern const struct config_schema reaper_config_schema;

#endif
