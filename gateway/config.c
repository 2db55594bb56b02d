/* config - see config.h. */
#include "gateway/config.h"

#include <stddef.h>

#include "common/base/cidr.h"
#include "common/base/config.h"
#include "common/base/log.h"
#include "common/base/memory_limit.h"
#include "common/provider/provider.h"
#include "common/provider/sandbox_files.h"
#include "common/store/store_config.h"
#include "gateway/data/services.h"
#include "gateway/work/budget.h"
#include "gateway/work/usage_prices.h"

#define AT(field) offsetof(struct gateway_config, field)

enum {
    LISTING_BODY_BYTES = 8192,   /* body of a list call: the longest path, partly escaped */
    JSON_OVERHEAD_BYTES = 65536, /* a file's JSON body without the content */
    JSON_GROWTH = 2              /* growth of content in JSON: base64, or text with escapes */
};

static const struct config_entry table[] = {
    STORE_CONFIG_ENTRY(AT(database_url)),
    QUEUE_CONFIG_ENTRIES(AT(redis)),
#define X(...) CONFIG_ENTRY(struct gateway_config, __VA_ARGS__)
#include "gateway/config.def"
#undef X
    LOG_CONFIG_ENTRY(AT(log_level)),
};

int64_t gateway_config_file_body(const struct gateway_config *config)
{
    return config->max_file_bytes * JSON_GROWTH + JSON_OVERHEAD_BYTES;
}

static int check_proxies(const struct gateway_config *config, struct error *err)
{
    struct cidr_set set = {.list = NULL};
    int status = 0;

    if (config->trusted_proxies != NULL &&
        cidr_set_add_list(&set, config->trusted_proxies, err) < 0) {
        err->code = ERR_CONFIG;
        error_prefix(err, "TRUSTED_PROXIES");
        status = -1;
    }
    cidr_set_done(&set);
    return status;
}

static int check_prices(const struct gateway_config *config, struct error *err)
{
    struct strbuf json;
    int status;

    strbuf_init(&json, USAGE_PRICES_BYTES * 2);
    status = usage_prices_json(config->usage_prices, &json, err);
    strbuf_done(&json);
    return status;
}

/* The rest is for threads, connections and other memory of requests. */
static int64_t default_buffer_bytes(void)
{
    const int64_t limit = memory_limit_cgroup("");

    return limit > 0 ? limit / 5 * 2 : memory_limit_machine() / 8;
}

static int check_buffers(const struct gateway_config *config, struct error *err)
{
    const int64_t listing = budget_listing_bytes(config->list_max_entries, FILES_LIST_MAX_BYTES) +
                            budget_json_bytes(LISTING_BODY_BYTES);

    if (config->buffer_bytes < budget_json_bytes(gateway_config_file_body(config))) {
        return error_set(err, ERR_CONFIG,
                         "GATEWAY_BUFFER_BYTES (%lld) does not take one file of "
                         "GATEWAY_MAX_FILE_BYTES",
                         (long long)config->buffer_bytes);
    }
    if (config->buffer_bytes < listing) {
        return error_set(err, ERR_CONFIG,
                         "GATEWAY_BUFFER_BYTES does not take one listing of "
                         "GATEWAY_LIST_MAX_ENTRIES: at least %lld",
                         (long long)listing);
    }
    return 0;
}

static int check(void *arg, struct error *err)
{
    struct gateway_config *config = arg;

    if (services_check(config, err) < 0 || queue_config_check(&config->redis, err) < 0 ||
        check_proxies(config, err) < 0 || check_prices(config, err) < 0) {
        return -1;
    }
    if (config->buffer_bytes == 0) {
        config->buffer_bytes = default_buffer_bytes();
    }
    return check_buffers(config, err);
}

const struct config_schema gateway_config_schema = {.table = table,
                                                    .count = sizeof(table) / sizeof(table[0]),
                                                    .check = check,
                                                    .print_help = provider_config_help};
