/*
 * e2b - configuration of the E2B backend, and its table of operations.
 *
 * Owns: the E2B_* environment, the URLs of ports. Does not own: requests and answers
 * (e2b_control.c, e2b_data.c, e2b_exec.c), the form of URLs and filters (e2b_wire.c). Threads:
 * everything is const after open. Failure: open names the variable that is wrong.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/alloc.h"
#include "common/base/config.h"
#include "common/domain/providers.h"
#include "common/provider/e2b.h"

/* ---- configuration ----------------------------------------------------------------------------
 */

static const struct config_entry config_table[] = {
    {"E2B_API_KEY", CONFIG_STRING, CONFIG_AT(struct e2b_config, api_key), 1, 256, NULL, false, true,
     "E2B team key; without it the e2b provider is not configured"},
    {"E2B_DOMAIN", CONFIG_STRING, CONFIG_AT(struct e2b_config, domain), 1, 200, "e2b.app", false,
     false, "base domain of the control plane and of sandboxes"},
    {"E2B_API_URL", CONFIG_STRING, CONFIG_AT(struct e2b_config, api_url), 1, 1024, NULL, false,
     false, "control plane URL; default https://api.<E2B_DOMAIN>"},
    {"E2B_SANDBOX_URL", CONFIG_STRING, CONFIG_AT(struct e2b_config, sandbox_url), 1, 1024, NULL,
     false, false, "one base URL for all envd traffic, routed by headers"},
    {"E2B_TEMPLATE_ID", CONFIG_STRING, CONFIG_AT(struct e2b_config, template_id), 1,
     TEMPLATE_BYTES - 1, "base", false, false, "template of a sandbox that names none"},
    {"E2B_REQUEST_TIMEOUT_MS", CONFIG_INT, CONFIG_AT(struct e2b_config, request_timeout_ms), 100,
     70000, "20000", false, false, "bound of one control plane request, milliseconds"},
};
enum { CONFIG_COUNT = sizeof(config_table) / sizeof(config_table[0]) };

static struct provider *e2b_open(struct error *err)
{
    struct e2b *e2b = xcalloc(1, sizeof(*e2b));
    struct e2b_config *config = &e2b->config;
    e2b->provider.ops = &e2b_provider_ops;
    if (config_load(config_table, CONFIG_COUNT, config, err) != 0) {
        free(e2b); /* config_load() frees its own strings on failure */
        return NULL;
    }
    struct provider_lifetimes lifetimes;
    if (config_load(&provider_lifetime_config[PROVIDER_KIND_e2b], 1, &lifetimes, err) != 0) {
        goto fail;
    }
    config->max_timeout_seconds = lifetimes.max_s[PROVIDER_KIND_e2b];
    if (!config->api_key || !config->api_key[0]) {
        error_set(err, ERR_NOT_FOUND, "E2B_API_KEY is not set");
        goto fail;
    }
    if (!provider_is_header_value(config->api_key)) {
        error_set(err, ERR_CONFIG, "E2B_API_KEY contains white space or control characters");
        goto fail;
    }
    if (!e2b_is_domain(config->domain)) {
        error_set(err, ERR_CONFIG, "E2B_DOMAIN is not a host name");
        goto fail;
    }
    if (config->api_url && !provider_normalize_url(config->api_url)) {
        error_set(err, ERR_CONFIG, "E2B_API_URL is not an http:// or https:// URL");
        goto fail;
    }
    if (config->sandbox_url && !provider_normalize_url(config->sandbox_url)) {
        error_set(err, ERR_CONFIG, "E2B_SANDBOX_URL is not an http:// or https:// URL");
        goto fail;
    }
    struct strbuf base;
    strbuf_init(&base, 2048);
    if (config->api_url) {
        strbuf_puts(&base, config->api_url);
    } else {
        strbuf_printf(&base, "https://api.%s", config->domain);
    }
    e2b->api_base = strbuf_take(&base);
    /* a control plane over http (a local host) serves its sandboxes over http, too */
    e2b->scheme = strncasecmp(e2b->api_base, "http://", 7) == 0 ? "http" : "https";
    return &e2b->provider;
fail:
    config_free(config_table, CONFIG_COUNT, config);
    free(e2b);
    return NULL;
}

static void e2b_close(struct provider *provider)
{
    struct e2b *e2b = (struct e2b *)provider;
    config_free(config_table, CONFIG_COUNT, &e2b->config);
    free(e2b->api_base);
    free(e2b);
}

static int64_t e2b_max_lifetime_ms(struct provider *provider)
{
    return ((struct e2b *)provider)->config.max_timeout_seconds * 1000;
}

static const char *e2b_default_template(struct provider *provider)
{
    return ((struct e2b *)provider)->config.template_id;
}

/* ---- URLs ------------------------------------------------------------------------------------ */

enum { PORT_ANSWER_MAX_BYTES = 65536 };

static int e2b_port_url(struct provider *provider, struct http_client *client,
                        const struct provider_target *target, int port, struct strbuf *ret,
                        struct error *err)
{
    (void)client; /* the URL depends only on the host name */
    if (e2b_put_port_base((struct e2b *)provider, target, port, ret) != 0) {
        return error_set(err, ERR_INTERNAL, "the port's URL is too long");
    }
    return 0;
}

static int e2b_port_request(struct provider *provider, struct http_client *client,
                            const struct provider_target *target, int port, const char *path,
                            struct http_request *ret, struct error *err)
{
    const struct e2b *e2b = (struct e2b *)provider;
    (void)client;
    if (!provider_is_id(target->provider_sandbox_id) ||
        (target->domain && !e2b_is_domain(target->domain)) ||
        (target->traffic_token && !provider_is_header_value(target->traffic_token))) {
        return error_set(err, ERR_INVALID, "the sandbox's provider data is malformed");
    }
    str_copy(ret->method, sizeof(ret->method), "GET");
    /* the host names of a local host's ports may not resolve here, so use E2B_SANDBOX_URL with
     * routing headers */
    if (e2b->config.sandbox_url) {
        e2b_put_envd_base(e2b, target, &ret->url);
    } else {
        e2b_put_port_base(e2b, target, port, &ret->url);
    }
    strbuf_puts(&ret->url, path);
    strbuf_printf(&ret->headers, "E2b-Sandbox-Id: %s\nE2b-Sandbox-Port: %d\n",
                  target->provider_sandbox_id, port);
    if (target->traffic_token && target->traffic_token[0]) {
        strbuf_printf(&ret->headers, "E2b-Traffic-Access-Token: %s\n", target->traffic_token);
    }
    ret->timeout_ms = e2b->config.request_timeout_ms;
    ret->max_response_bytes = PORT_ANSWER_MAX_BYTES;
    return 0;
}

/* The rules are in E2B's own form. */
static int e2b_network_check(const cJSON *network, bool no_internet, struct error *err)
{
    (void)network;
    (void)no_internet;
    (void)err;
    return 0;
}

const struct provider_ops e2b_provider_ops = {
    .name = "e2b",
    .pause_keeps_memory = true,
    .config = config_table,
    .config_count = CONFIG_COUNT,
    .open = e2b_open,
    .close = e2b_close,
    .step = e2b_step,
    .exec = e2b_exec,
    .file_owner = E2B_USER,
    .run_script = e2b_run_script,
    .run_program = e2b_run_program,
    .program_streams = true,
    .file_get = e2b_file_get,
    .file_put = e2b_file_put,
    .port_url = e2b_port_url,
    .port_request = e2b_port_request,
    .start_request = e2b_start_request,
    .start_check = e2b_start_check,
    .e2b_call = e2b_call,
    .network_check = e2b_network_check,
    .max_lifetime_ms = e2b_max_lifetime_ms,
    .default_template = e2b_default_template,
};
