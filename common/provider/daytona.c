/*
 * daytona - configuration of the Daytona backend and its table of operations.
 *
 * Owns: the DAYTONA_* environment. Does not own: requests and answers (daytona_control.c,
 * daytona_data.c, daytona_exec.c). Threads: everything is const after open. Failure: open names
 * the variable that is wrong.
 */
#include "common/provider/daytona.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/config.h"
#include "common/domain/providers.h"

#define AT(field) CONFIG_AT(struct daytona_config, field)

static const struct config_entry config_table[] = {
    {"DAYTONA_API_KEY", CONFIG_STRING, AT(api_key), 1, 256, NULL, false, true,
     "Daytona key; without it the daytona provider is not configured"},
    {"DAYTONA_API_URL", CONFIG_STRING, AT(api_url), 1, 1024, NULL, false, false,
     "Daytona API; default DAYTONA_SERVER_URL"},
    {"DAYTONA_SERVER_URL", CONFIG_STRING, AT(server_url), 1, 1024, "https://app.daytona.io/api",
     false, false, "Daytona API, under its older name"},
    {"DAYTONA_TARGET", CONFIG_STRING, AT(target), 1, 64, NULL, false, false,
     "region of new sandboxes; default the organization's"},
    {"DAYTONA_SNAPSHOT", CONFIG_STRING, AT(snapshot), 0, TEMPLATE_BYTES - 1, "", false, false,
     "snapshot of a sandbox that names none; default the server's"},
    {"DAYTONA_REQUEST_TIMEOUT_MS", CONFIG_INT, AT(request_timeout_ms), 100, 70000, "15000", false,
     false, "bound of one API request, milliseconds"},
    {"DAYTONA_CREATE_TIMEOUT_MS", CONFIG_INT, AT(create_timeout_ms), 1000, 3600000, "180000", false,
     false, "a sandbox that has not started by then is given up and deleted, milliseconds"},
    {"DAYTONA_AUTO_ARCHIVE_MINUTES", CONFIG_INT, AT(auto_archive_minutes), 0, 1000000, "10080",
     false, false, "minutes after a stop until Daytona archives the disk; 0 = its maximum"},
};
enum { CONFIG_COUNT = sizeof(config_table) / sizeof(config_table[0]) };

static int check(const struct daytona_config *config, struct error *err)
{
    if (!config->api_key || !config->api_key[0]) {
        return error_set(err, ERR_NOT_FOUND, "DAYTONA_API_KEY is not set");
    }
    if (!provider_is_header_value(config->api_key)) {
        return error_set(err, ERR_CONFIG,
                         "DAYTONA_API_KEY contains white space or control characters");
    }
    if (config->api_url && !provider_normalize_url(config->api_url)) {
        return error_set(err, ERR_CONFIG, "DAYTONA_API_URL is not an http:// or https:// URL");
    }
    if (!provider_normalize_url(config->server_url)) {
        return error_set(err, ERR_CONFIG, "DAYTONA_SERVER_URL is not an http:// or https:// URL");
    }
    return 0;
}

static struct provider *daytona_open(struct error *err)
{
    struct daytona *daytona = xcalloc(1, sizeof(*daytona));
    struct daytona_config *config = &daytona->config;
    daytona->provider.ops = &daytona_provider_ops;
    if (config_load(config_table, CONFIG_COUNT, config, err) != 0) {
        free(daytona); /* config_load() frees its own strings on failure */
        return NULL;
    }
    struct provider_lifetimes lifetimes;
    if (config_load(&provider_lifetime_config[PROVIDER_KIND_daytona], 1, &lifetimes, err) != 0 ||
        check(config, err) != 0) {
        config_free(config_table, CONFIG_COUNT, config);
        free(daytona);
        return NULL;
    }
    daytona->max_lifetime_ms = lifetimes.max_s[PROVIDER_KIND_daytona] * 1000;
    daytona->api_base = xstrdup(config->api_url ? config->api_url : config->server_url);
    return &daytona->provider;
}

static void daytona_close(struct provider *provider)
{
    struct daytona *daytona = (struct daytona *)provider;
    config_free(config_table, CONFIG_COUNT, &daytona->config);
    free(daytona->api_base);
    free(daytona);
}

static int64_t daytona_max_lifetime_ms(struct provider *provider)
{
    return ((struct daytona *)provider)->max_lifetime_ms;
}

static const char *daytona_default_template(struct provider *provider)
{
    return ((struct daytona *)provider)->config.snapshot;
}

const struct provider_ops daytona_provider_ops = {
    .name = "daytona",
    .create_by_name = true,
    .config = config_table,
    .config_count = CONFIG_COUNT,
    .open = daytona_open,
    .close = daytona_close,
    .step = daytona_step,
    .exec = daytona_exec,
    .file_owner = "",
    .run_script = daytona_run_script,
    .run_program = daytona_run_program,
    .file_get = daytona_file_get,
    .file_put = daytona_file_put,
    .port_url = daytona_port_url,
    .port_request = daytona_port_request,
    .start_request = daytona_start_request,
    .start_check = daytona_start_check,
    .network_check = daytona_network_check,
    .max_lifetime_ms = daytona_max_lifetime_ms,
    .default_template = daytona_default_template,
};
