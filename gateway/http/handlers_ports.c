/*
 * handlers_ports - URLs under which ports of a sandbox are reached from outside: the gateway's own,
 * or with SANDBOX_PORTS=direct the provider's, which have neither an end nor a token of ours.
 */
#include <stdlib.h>
#include <string.h>

#include "gateway/data/port_urls.h"
#include "gateway/http/bounds.h"
#include "gateway/http/handlers.h"
#include "gateway/http/views.h"
#include "gateway/work/lifecycle.h"

enum { URL_MAX_BYTES = 1024 };

struct expose_ask {
    int64_t port, ttl_s; /* 0 = without an end */
    bool is_public;
};

static int read_expose(const struct request *request, struct expose_ask *ret, struct error *err)
{
    const char *visibility;

    if (json_get_int_req(request->body, "port", 1, PORT_MAX, &ret->port, err) < 0 ||
        json_get_int(request->body, "expires_in_seconds", 1, PORT_EXPIRY_MAX_S, 0, &ret->ttl_s,
                     err) < 0 ||
        json_get_string(request->body, "visibility", 16, NULL, &visibility, err) < 0) {
        return -1;
    }
    ret->is_public = visibility != NULL && strcmp(visibility, "public") == 0;
    if (visibility != NULL && !ret->is_public && strcmp(visibility, "private") != 0) {
        return error_set(err, ERR_INVALID, "visibility must be private or public");
    }
    if (!request->gateway->own_ports &&
        (ret->ttl_s > 0 || (visibility != NULL && !ret->is_public))) {
        return error_set(err, ERR_INVALID,
                         "%s is refused with SANDBOX_PORTS=direct: the provider's URLs are public "
                         "and do not expire",
                         ret->ttl_s > 0 ? "expires_in_seconds" : "visibility");
    }
    return 0;
}

static void add_port(const struct gateway *gateway, const char *sandbox_id,
                     const struct store_port *port, cJSON *tree)
{
    struct strbuf url;

    strbuf_init(&url, URL_MAX_BYTES);
    port_urls_put(gateway, sandbox_id, port, &url);
    cJSON_AddStringToObject(tree, "url", url.data);
    cJSON_AddNumberToObject(tree, "port", port->port);
    cJSON_AddStringToObject(tree, "visibility", port->is_public ? "public" : "private");
    json_add_time(tree, "expires_at", port->expires_at_ms);
    strbuf_done(&url);
}

/* Adds the URL to the answer. */
static int expose(struct request *request, const struct sandbox *sandbox,
                  const struct expose_ask *ask, cJSON *data, struct error *err)
{
    struct store_port port;
    struct strbuf url;
    int status;

    if (request->gateway->own_ports) {
        if (port_urls_expose(request->gateway, sandbox->id, (int)ask->port, ask->is_public,
                             ask->ttl_s * 1000, false, &port, err) < 0) {
            return -1;
        }
        add_port(request->gateway, sandbox->id, &port, data);
        return 0;
    }
    strbuf_init(&url, URL_MAX_BYTES);
    status = view_port_url(request, sandbox, (int)ask->port, &url, err);
    if (status == 0) {
        cJSON_AddStringToObject(data, "url", url.data);
    }
    strbuf_done(&url);
    return status;
}

void handle_expose_port(struct request *request)
{
    struct error err = ERROR_INIT;
    char sandbox_id[UUID_BYTES];
    struct sandbox sandbox;
    struct expose_ask ask;
    cJSON *data;

    if (request_sandbox_id(request, sandbox_id, &err) < 0 || read_expose(request, &ask, &err) < 0 ||
        lifecycle_get_running(request, sandbox_id, &sandbox, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    data = cJSON_CreateObject();
    cJSON_AddTrueToObject(data, "success");
    if (expose(request, &sandbox, &ask, data, &err) < 0) {
        cJSON_Delete(data);
        respond_error(request, &err, 0);
    } else {
        cJSON_AddStringToObject(data, "message", "Port exposed");
        respond_data(request, 200, data);
    }
    sandbox_done(&sandbox);
}

void handle_ports_list(struct request *request)
{
    struct error err = ERROR_INIT;
    struct store_port *ports;
    struct sandbox sandbox;
    size_t count;
    cJSON *data, *items;

    if (lifecycle_get(request, request->path_id, &sandbox, &err) < 0 ||
        (sandbox_done(&sandbox),
         store_ports_list(request->gateway->store, request->path_id, &ports, &count, &err)) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    data = cJSON_CreateObject();
    cJSON_AddTrueToObject(data, "success");
    items = cJSON_AddArrayToObject(data, "items");
    for (size_t i = 0; i < count; i++) {
        cJSON *item = cJSON_CreateObject();

        add_port(request->gateway, request->path_id, &ports[i], item);
        json_add_time(item, "created_at", ports[i].created_at_ms);
        cJSON_AddItemToArray(items, item);
    }
    free(ports);
    respond_data(request, 200, data);
}

void handle_port_revoke(struct request *request)
{
    const char *text = strrchr(http_path(request->http), '/') + 1;
    struct error err = ERROR_INIT;
    struct sandbox sandbox;
    char *end;
    long port = strtol(text, &end, 10);

    if (lifecycle_get(request, request->path_id, &sandbox, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    sandbox_done(&sandbox);
    if (*end != '\0' || port < 0 || port > PORT_MAX) {
        error_set(&err, ERR_NOT_FOUND, "the port is not exposed");
    }
    if (err.code != ERR_OK ||
        port_urls_remove(request->gateway, request->path_id, (int)port, &err) < 0) {
        respond_error(request, &err, 0);
    } else {
        respond_data(request, 200, view_done("Port closed"));
    }
}
