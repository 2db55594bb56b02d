/*
 * config - see config.h.
 */
#include "lifecycle-worker/config.h"

#include <stddef.h>

#include "common/base/config.h"
#include "common/base/log.h"
#include "common/provider/provider.h"
#include "common/store/store_config.h"

#define AT(field) offsetof(struct worker_config, field)

static const struct config_entry table[] = {
    STORE_CONFIG_ENTRY(AT(database_url)),
    QUEUE_CONFIG_ENTRIES(AT(redis)),
#define X(...) CONFIG_ENTRY(struct worker_config, __VA_ARGS__)
#include "lifecycle-worker/config.def"
#undef X
    LOG_CONFIG_ENTRY(AT(log_level)),
};

int64_t worker_config_lease_margin_ms(const struct worker_config *config)
{
    int64_t spare = config->lease_ms - config->attempt_ms;
    return spare / 3 < 3000 ? spare / 3 : 3000;
}

static int check(void *arg, struct error *err)
{
    const struct worker_config *config = arg;
    int status = queue_config_check(&config->redis, err);
    if (status == 0 && config->attempt_ms >= config->lease_ms) {
        status = error_set(err, ERR_CONFIG,
                           "WORKER_ATTEMPT_MS (%lld) must be below WORKER_LEASE_MS (%lld)",
                           (long long)config->attempt_ms, (long long)config->lease_ms);
    } else if (config->lease_ms >= config->min_idle_ms) {
        status = error_set(err, ERR_CONFIG,
                           "WORKER_LEASE_MS (%lld) must be below WORKER_MIN_IDLE_MS (%lld)",
                           (long long)config->lease_ms, (long long)config->min_idle_ms);
    } else if (3 * config->heartbeat_ms >= config->lease_ms) {
        status = error_set(err, ERR_CONFIG,
                           "three times WORKER_HEARTBEAT_MS (%lld) must be below WORKER_LEASE_MS "
                           "(%lld), or a crash could not be told from a late lease",
                           (long long)config->heartbeat_ms, (long long)config->lease_ms);
    } else if (config->absent_ms > config->absent_unproven_ms) {
        status = error_set(err, ERR_CONFIG,
                           "RECONCILE_ABSENT_MS (%lld) must not exceed "
                           "RECONCILE_ABSENT_UNPROVEN_MS (%lld)",
                           (long long)config->absent_ms, (long long)config->absent_unproven_ms);
    } else if (config->retry_base_ms > config->retry_cap_ms) {
        status = error_set(err, ERR_CONFIG,
                           "WORKER_RETRY_BASE_MS (%lld) must not exceed WORKER_RETRY_CAP_MS (%lld)",
                           (long long)config->retry_base_ms, (long long)config->retry_cap_ms);
    } else if (config->provider_max_in_flight > config->max_in_flight) {
        status = error_set(err, ERR_CONFIG,
                           "WORKER_PROVIDER_MAX_IN_FLIGHT must not exceed WORKER_MAX_IN_FLIGHT");
    }
    return status;
}

const struct config_schema worker_config_schema = {.table = table,
                                                   .count = sizeof(table) / sizeof(table[0]),
                                                   .check = check,
                                                   .print_help = provider_config_help};
