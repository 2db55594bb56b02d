/* views - see views.h. */
#include "gateway/http/views.h"

#include <string.h>

#include "gateway/data/port_urls.h"

enum { URL_MAX_BYTES = 1024 };

struct provider *view_provider(const struct request *request, const struct sandbox *sandbox,
                               struct error *err)
{
    struct provider *provider = provider_set_find(request->gateway->providers, sandbox->provider);

    if (provider == NULL) {
        error_set(err, ERR_PROVIDER_DOWN, "provider %s is not configured here", sandbox->provider);
    }
    return provider;
}

struct provider_target view_target(const struct sandbox *sandbox)
{
    return (struct provider_target){.provider_sandbox_id = sandbox->provider_sandbox_id,
                                    .domain = sandbox->domain,
                                    .access_token = sandbox->access_token,
                                    .traffic_token = sandbox->traffic_token,
                                    .agent_version = sandbox->agent_version};
}

int view_port_url(const struct request *request, const struct sandbox *sandbox, int port,
                  struct strbuf *ret, struct error *err)
{
    struct provider *provider = view_provider(request, sandbox, err);
    struct provider_target target = view_target(sandbox);
    struct http_client *client;
    int status;

    if (provider == NULL) {
        return -1;
    }
    if (sandbox->provider_sandbox_id[0] == '\0') {
        return error_set(err, ERR_CONFLICT, "the sandbox is not created yet");
    }
    client = client_pool_take(request->gateway->clients);
    status = provider->ops->port_url(provider, client, &target, port, ret, err);
    client_pool_give(request->gateway->clients, client);
    return status;
}

/* The gateway's own URL of a service, with a token of its own. */
static int own_url(const struct request *request, const struct sandbox *sandbox, int port,
                   struct strbuf *ret, struct error *err)
{
    struct store_port exposed;

    if (sandbox->provider_sandbox_id[0] == '\0') {
        return error_set(err, ERR_CONFLICT, "the sandbox is not created yet");
    }
    if (port_urls_expose(request->gateway, sandbox->id, port, false, 0, true, &exposed, err) < 0) {
        return -1;
    }
    port_urls_put(request->gateway, sandbox->id, &exposed, ret);
    return 0;
}

static void add_url(const struct request *request, const struct sandbox *sandbox, cJSON *data,
                    const char *field, int64_t port)
{
    struct error ignored = ERROR_INIT; /* no URL: the field is null */
    struct strbuf url;
    int status;

    strbuf_init(&url, URL_MAX_BYTES);
    status = request->gateway->own_ports
                 ? own_url(request, sandbox, (int)port, &url, &ignored)
                 : view_port_url(request, sandbox, (int)port, &url, &ignored);
    if (status < 0) {
        strbuf_reset(&url);
    }
    json_add_string_or_null(data, field, url.data);
    strbuf_done(&url);
}

void view_add_urls(const struct request *request, const struct sandbox *sandbox, cJSON *data)
{
    const struct gateway_config *config = request->gateway->config;

    add_url(request, sandbox, data, "mcp_url", config->mcp_port);
    add_url(request, sandbox, data, "vscode_url", config->code_server_port);
}

static void add_metadata(cJSON *data, const struct sandbox *sandbox)
{
    struct error ignored = ERROR_INIT; /* the database holds only checked values */
    cJSON *metadata = NULL;

    if (sandbox->metadata_json != NULL) {
        metadata = json_parse(sandbox->metadata_json, strlen(sandbox->metadata_json), &ignored);
    }
    cJSON_AddItemToObject(data, "metadata", metadata != NULL ? metadata : cJSON_CreateObject());
}

const char *view_status_reason(const struct sandbox *sandbox)
{
    return sandbox->missing_since_ms > 0 ? "missing_at_provider" : sandbox->status_reason;
}

cJSON *view_info(const struct sandbox *sandbox)
{
    cJSON *data = cJSON_CreateObject();

    cJSON_AddTrueToObject(data, "success");
    cJSON_AddStringToObject(data, "id", sandbox->id);
    cJSON_AddStringToObject(data, "provider", sandbox->provider);
    json_add_string_or_null(data, "provider_reason", sandbox->provider_reason);
    cJSON_AddStringToObject(data, "user_id", sandbox->user_id);
    json_add_string_or_null(data, "provider_sandbox_id", sandbox->provider_sandbox_id);
    cJSON_AddStringToObject(data, "template", sandbox->template_id);
    cJSON_AddStringToObject(data, "status", sandbox_status_name(sandbox->status));
    json_add_string_or_null(data, "status_reason", view_status_reason(sandbox));
    json_add_time(data, "missing_since", sandbox->missing_since_ms);
    json_add_time(data, "created_at", sandbox->created_at_ms);
    json_add_time(data, "started_at", sandbox->started_at_ms);
    json_add_time(data, "stopped_at", sandbox->stopped_at_ms);
    json_add_time(data, "last_activity_at", sandbox->last_activity_at_ms);
    json_add_time(data, "expires_at", sandbox->expires_at_ms);
    json_add_time(data, "delete_at", sandbox->delete_at_ms);
    cJSON_AddStringToObject(data, "on_timeout", on_timeout_name(sandbox->on_timeout));
    add_metadata(data, sandbox);
    return data;
}

cJSON *view_created(const struct request *request, const struct sandbox *sandbox,
                    const char *message)
{
    cJSON *data = cJSON_CreateObject();

    cJSON_AddTrueToObject(data, "success");
    cJSON_AddStringToObject(data, "sandbox_id", sandbox->id);
    json_add_string_or_null(data, "provider_sandbox_id", sandbox->provider_sandbox_id);
    cJSON_AddStringToObject(data, "provider", sandbox->provider);
    json_add_string_or_null(data, "provider_reason", sandbox->provider_reason);
    cJSON_AddStringToObject(data, "status", sandbox_status_name(sandbox->status));
    view_add_urls(request, sandbox, data);
    json_add_time(data, "expires_at", sandbox->expires_at_ms);
    cJSON_AddStringToObject(data, "message", message);
    return data;
}

cJSON *view_done(const char *message)
{
    cJSON *data = cJSON_CreateObject();

    cJSON_AddTrueToObject(data, "success");
    cJSON_AddStringToObject(data, "message", message);
    return data;
}

cJSON *view_status(const char *sandbox_id, const char *status, const char *message)
{
    cJSON *data = cJSON_CreateObject();

    cJSON_AddTrueToObject(data, "success");
    cJSON_AddStringToObject(data, "sandbox_id", sandbox_id);
    cJSON_AddStringToObject(data, "status", status);
    cJSON_AddStringToObject(data, "message", message);
    return data;
}
