/*
 * config - see config.h.
 */
#include "reaper/config.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/config.h"
#include "common/base/log.h"
#include "common/domain/types.h"
#include "common/store/store_config.h"

#define AT(field) offsetof(struct reaper_config, field)

static const struct config_entry table[] = {
    STORE_CONFIG_ENTRY(AT(database_url)),
    QUEUE_CONFIG_ENTRIES(AT(redis)),
    {"SANDBOX_PROVIDERS", CONFIG_STRING, AT(providers), 1, 255, "e2b", false, false,
     "comma list of the providers whose lifetimes are kept and which are compared with the "
     "database"},
    LOG_CONFIG_ENTRY(AT(log_level)),
    {"REAPER_TICK_MS", CONFIG_INT, AT(tick_ms), 10, 60000, "250", false, false,
     "longest sleep between looks at the deadlines"},
    {"REAPER_BATCH", CONFIG_INT, AT(batch), 1, 10000, "1000", false, false,
     "rows handled by one statement"},
    {"REAPER_OUTBOX_MS", CONFIG_INT, AT(outbox_ms), 50, 600000, "500", false, false,
     "interval of the search for jobs whose wake-up is missing"},
    {"REAPER_OUTBOX_BASE_MS", CONFIG_INT, AT(outbox_base_ms), 100, 3600000, "5000", false, false,
     "age at which a wake-up counts as lost the first time; doubles each time"},
    {"REAPER_LIFETIMES_MS", CONFIG_INT, AT(lifetimes_ms), 100, 3600000, "10000", false, false,
     "interval of the look at the providers' own ends"},
    {"REAPER_RECONCILE_MS", CONFIG_INT, AT(reconcile_ms), 100, 86400000, "30000", false, false,
     "interval at which each provider is compared with the database"},
    {"REAPER_PRUNE_MS", CONFIG_INT, AT(prune_ms), 1000, 86400000, "60000", false, false,
     "interval of the removal of what is old; goes on at once while there is more"},
    {"RETENTION_DAYS", CONFIG_STRING, AT(retention_days), 1, 16, "30", false, false,
     "how long ended sandboxes are kept with their jobs and events, in days (0.5 = 12 h); 0 = for "
     "ever"},
    {"SANDBOX_IDEMPOTENCY_SECONDS", CONFIG_INT, AT(idempotency_s), 60, 31536000, "86400", false,
     false, "how long an Idempotency-Key is remembered"},
    {"REAPER_CONSUMER_IDLE_MS", CONFIG_INT, AT(consumer_idle_ms), 10000, 604800000, "3600000",
     false, false, "silence after which a consumer with nothing pending is removed"},
    {"REAPER_STATS_MS", CONFIG_INT, AT(stats_ms), 100, 86400000, "60000", false, false,
     "interval of the log line with counts"},
    {"REAPER_HEARTBEAT_MS", CONFIG_INT, AT(heartbeat_ms), 100, 600000, "3000", false, false,
     "interval of the heartbeats; without one for three of them a reaper counts as dead"},
    {"SANDBOX_LIFETIME_GRACE_MS", CONFIG_INT, AT(lifetime_grace_ms), 0, 86400000, "600000", false,
     false, "how far the provider's own end is kept behind a deadline"},
    {"SANDBOX_LIFETIME_MARGIN_MS", CONFIG_INT, AT(lifetime_margin_ms), 0, 3600000, "60000", false,
     false, "a sandbox is paused this long before the provider's own end"},
};
enum { TABLE_COUNT = sizeof(table) / sizeof(table[0]) };

static int read_providers(struct reaper_config *config, struct error *err)
{
    const char *cursor = config->providers;
    char name[PROVIDER_BYTES];
    int found;

    config->kind_count = 0;
    while ((found = provider_list_next(&cursor, name, sizeof(name))) > 0) {
        enum provider_kind kind;

        if (provider_kind_parse(name, &kind) != 0) {
            return error_set(err, ERR_CONFIG, "SANDBOX_PROVIDERS: there is no provider '%s'", name);
        }
        for (int i = 0; i < config->kind_count; i++) {
            if (config->kinds[i] == kind) {
                return error_set(err, ERR_CONFIG, "SANDBOX_PROVIDERS names %s twice", name);
            }
        }
        config->kinds[config->kind_count++] = kind;
    }
    if (found < 0 || config->kind_count == 0) {
        return error_set(err, ERR_CONFIG, "SANDBOX_PROVIDERS names no provider, or too long a one");
    }
    return 0;
}

static int read_retention(struct reaper_config *config, struct error *err)
{
    const double ms_per_day = 86400000, max_days = 36500;
    char *end;
    double days = strtod(config->retention_days, &end);

    if (*end != '\0' ||
        strspn(config->retention_days, "0123456789.") != (size_t)(end - config->retention_days) ||
        !(days >= 0 && days <= max_days)) {
        return error_set(err, ERR_CONFIG, "RETENTION_DAYS must be a number from 0 to %.0f",
                         max_days);
    }
    config->retention_ms = (int64_t)(days * ms_per_day);
    return 0;
}

int reaper_config_load(struct reaper_config *config, struct error *err)
{
    config->labels = (struct provider_labels){0}; /* freed after any failure */
    if (config_load(table, TABLE_COUNT, config, err) != 0) {
        return -1;
    }
    if (queue_config_check(&config->redis, err) != 0 || read_providers(config, err) != 0 ||
        read_retention(config, err) != 0 ||
        config_load(provider_lifetime_config, PROVIDER_KIND_COUNT, &config->lifetimes, err) != 0 ||
        provider_labels_load(&config->labels, err) != 0) {
        reaper_config_free(config);
        return -1;
    }
    return 0;
}

void reaper_config_free(struct reaper_config *config)
{
    provider_labels_free(&config->labels);
    config_free(table, TABLE_COUNT, config);
}

void reaper_config_help(FILE *out)
{
    config_print_help(table, TABLE_COUNT, out);
    config_print_help(provider_lifetime_config, PROVIDER_KIND_COUNT, out);
    config_print_help(provider_label_config, PROVIDER_KIND_COUNT, out);
}
