/* handlers_ops - the console's files, health, readiness, metrics, documents. */
#include <string.h>

#include "common/base/metrics.h"
#include "gateway/console/console.h"
#include "gateway/http/handlers.h"
#include "gateway/http/openapi.h"

enum { METRICS_MAX_BYTES = 16 << 20, PAGE_MAX_BYTES = 1 << 18 };

#define PAGE_HEADERS                                                                               \
    "Cache-Control: max-age=60\r\nX-Content-Type-Options: nosniff\r\n"                             \
    "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; "                     \
    "frame-ancestors 'none'\r\n"

/* Scripts and styles come from this server's own files only, so that text of a sandbox runs
 * nowhere. */
#define CONSOLE_HEADERS                                                                            \
    "Cache-Control: no-cache\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: "              \
    "no-referrer\r\n"                                                                              \
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src "   \
    "'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'\r\n"

static void respond_console_file(struct request *request, const char *name)
{
    struct console_asset asset;
    struct strbuf text;

    if (console_asset_find(name, &asset) == NULL) {
        struct error err = ERROR_INIT;

        error_set(&err, ERR_ROUTE_NOT_FOUND, "the console has no file of this name");
        respond_error(request, &err, 0);
        return;
    }
    strbuf_init(&text, asset.bytes + 1);
    strbuf_append(&text, asset.data, asset.bytes);
    respond_text(request, 200, asset.content_type, &text, CONSOLE_HEADERS);
    strbuf_done(&text);
}

void handle_front_page(struct request *request)
{
    respond_console_file(request, "index.html");
}

void handle_console_file(struct request *request)
{
    respond_console_file(request, strrchr(http_path(request->http), '/') + 1);
}

void handle_healthz(struct request *request)
{
    cJSON *data = cJSON_CreateObject();

    cJSON_AddStringToObject(data, "status", "ok");
    cJSON_AddStringToObject(data, "version", VERSION);
    respond_data(request, 200, data);
}

void handle_readyz(struct request *request)
{
    struct readiness_report ready;
    struct error err = ERROR_INIT;
    cJSON *details = cJSON_CreateObject();

    readiness_report(request->gateway->readiness, &ready);
    cJSON_AddStringToObject(details, "postgresql", ready.database);
    cJSON_AddStringToObject(details, "redis", ready.redis);
    cJSON_AddStringToObject(details, "workers", ready.workers);
    /* a provider that is away stops only its own jobs, so it is reported but does not make the
     * gateway unready */
    fleet_describe(request->gateway->fleet, cJSON_AddObjectToObject(details, "providers"));
    if (service_draining()) {
        error_set(&err, ERR_DRAINING, "this gateway is shutting down");
        respond_error_details(request, &err, 0, details, NULL);
    } else if (!ready.ready) {
        error_set(&err, ERR_OVERLOADED, "not ready: postgresql %s, redis %s, workers %s",
                  ready.database, ready.redis, ready.workers);
        respond_error_details(request, &err, 0, details, NULL);
    } else {
        respond_data(request, 200, details);
    }
}

void handle_metrics(struct request *request)
{
    struct strbuf text;

    strbuf_init(&text, METRICS_MAX_BYTES);
    metrics_print(&text);
    fleet_print(request->gateway->fleet, &text);
    respond_text(request, 200, "text/plain; version=0.0.4; charset=utf-8", &text, NULL);
    strbuf_done(&text);
}

void handle_openapi(struct request *request)
{
    respond_json(request, 200, openapi_json(request->gateway->config),
                 "Cache-Control: max-age=60\r\n");
}

void handle_docs(struct request *request)
{
    struct strbuf page;

    strbuf_init(&page, PAGE_MAX_BYTES);
    openapi_html(&page);
    respond_text(request, 200, "text/html; charset=utf-8", &page, PAGE_HEADERS);
    strbuf_done(&page);
}
