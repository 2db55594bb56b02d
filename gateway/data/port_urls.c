/* port_urls - see port_urls.h. */
#include "gateway/data/port_urls.h"

#include <string.h>

#include "common/proxy/route.h"

int port_urls_expose(struct gateway *gateway, const char *sandbox_id, int port, bool is_public,
                     int64_t ttl_ms, bool keep, struct store_port *ret, struct error *err)
{
    char token[STORE_PORT_TOKEN_BYTES];
    const struct store_port_expose expose = {.sandbox_id = sandbox_id,
                                             .port = port,
                                             .is_public = is_public,
                                             .token = token,
                                             .ttl_ms = ttl_ms,
                                             .max = (int)gateway->config->max_ports,
                                             .keep = keep};

    if (port == ROUTE_ENVD_PORT) {
        return error_set(err, ERR_INVALID, "port %d is that of the sandbox's agent", port);
    }
    if (is_public && port_urls_is_service(gateway, port)) {
        return error_set(err, ERR_INVALID, "port %d runs commands: it cannot be public", port);
    }
    id_random_alnum(token, STORE_PORT_TOKEN_LENGTH);
    if (store_port_expose(gateway->store, &expose, ret, err) < 0) {
        return -1;
    }
    port_cache_drop(gateway->port_cache);
    return 0;
}

int port_urls_remove(struct gateway *gateway, const char *sandbox_id, int port, struct error *err)
{
    int status = store_port_remove(gateway->store, sandbox_id, port, err);

    port_cache_drop(gateway->port_cache);
    return status;
}

bool port_urls_is_local(const struct gateway *gateway)
{
    static const char local[] = "localhost";
    const char *domain = gateway->sandbox_domain;
    const size_t length = strcspn(domain, ":");
    const size_t local_length = sizeof(local) - 1;

    return length >= local_length &&
           strncmp(domain + length - local_length, local, local_length) == 0 &&
           (length == local_length || domain[length - local_length - 1] == '.');
}

void port_urls_put(const struct gateway *gateway, const char *sandbox_id,
                   const struct store_port *port, struct strbuf *out)
{
    char id[UUID_PLAIN_BYTES];

    id_uuid_plain(sandbox_id, id);
    strbuf_printf(out, "%s://%d-%s%s%s.%s", port_urls_is_local(gateway) ? "http" : "https",
                  port->port, id, port->is_public ? "" : "-", port->is_public ? "" : port->token,
                  gateway->sandbox_domain);
}

bool port_urls_is_service(const struct gateway *gateway, int port)
{
    return port == gateway->config->mcp_port || port == gateway->config->code_server_port;
}

void port_urls_close_provider(const struct gateway *gateway, struct job_params *params)
{
    if (!gateway->own_ports) {
        return;
    }
    if (params->network == NULL) {
        params->network = cJSON_CreateObject();
    }
    cJSON_DeleteItemFromObjectCaseSensitive(params->network, "allowPublicTraffic");
    cJSON_AddFalseToObject(params->network, "allowPublicTraffic");
}
