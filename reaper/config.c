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
#define X(...) CONFIG_ENTRY(struct reaper_config, __VA_ARGS__)
#include "reaper/config.def"
#undef X
    LOG_CONFIG_ENTRY(AT(log_level)),
};

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

static int check(void *arg, struct error *err)
{
    struct reaper_config *config = arg;

    config->labels = (struct provider_labels){0}; /* `release` frees them after any failure */
    return queue_config_check(&config->redis, err) < 0 || read_providers(config, err) < 0 ||
                   read_retention(config, err) < 0 ||
                   config_load(provider_lifetime_config, PROVIDER_KIND_COUNT, &config->lifetimes,
                               err) < 0 ||
                   provider_labels_load(&config->labels, err) < 0
               ? -1
               : 0;
}

static void release(void *arg)
{
    struct reaper_config *config = arg;

    provider_labels_free(&config->labels);
}

static void print_help(FILE *out)
{
    config_print_help(provider_lifetime_config, PROVIDER_KIND_COUNT, out);
    config_print_help(provider_label_config, PROVIDER_KIND_COUNT, out);
}

const struct config_schema reaper_config_schema = {.table = table,
                                                   .count = sizeof(table) / sizeof(table[0]),
                                                   .check = check,
                                                   .release = release,
                                                   .print_help = print_help};
