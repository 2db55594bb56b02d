/* handlers_ops - the index page, health, readiness, metrics, documents. */
#include "common/base/metrics.h"
#include "gateway/http/handlers.h"
#include "gateway/http/openapi.h"

enum { METRICS_MAX_BYTES = 16 << 20, PAGE_MAX_BYTES = 1 << 18 };

#define PAGE_HEADERS                                                                               \
    "Cache-Control: max-age=60\r\nX-Content-Type-Options: nosniff\r\n"                             \
    "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; "                     \
    "frame-ancestors 'none'\r\n"

void handle_front_page(struct request *request)
{
    struct strbuf page;

    strbuf_init(&page, PAGE_MAX_BYTES);
    strbuf_puts(
        &page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Sandbox "
        "Server</title><meta name=\"viewport\" content=\"width=device-width\"><style>body{font:"
        "16px/1.5 system-ui,sans-serif;max-width:40rem;margin:2rem auto;padding:0 1rem}</style>"
        "</head><body><h1>Sandbox Server</h1><p>This server makes sandboxes, in which programs run "
        "commands and keep files, and ends them in time. It is an HTTP API; there is nothing to "
        "log in to here.</p><ul><li><a href=\"/docs\">The API, field by field</a>, and <a "
        "href=\"/openapi.json\">the same for programs</a></li><li><a href=\"/readyz\">Is it able "
        "to serve?</a></li></ul><p>The first call is <code>POST /api/v1/auth/login</code>; the "
        "token it answers with goes into every other.</p></body></html>\n");
    respond_text(request, 200, "text/html; charset=utf-8", &page, PAGE_HEADERS);
    strbuf_done(&page);
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
