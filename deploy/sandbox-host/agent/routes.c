/*
 * routes - dispatch and access; see routes.h.
 */
#include "deploy/sandbox-host/agent/routes.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/json.h"
#include "deploy/sandbox-host/agent/files.h"
#include "deploy/sandbox-host/agent/rpc.h"
#include "deploy/sandbox-host/agent/sysinfo.h"

bool routes_token_matches(const struct agent_config *config, const char *header)
{
    const size_t length = config->access_token != NULL ? strlen(config->access_token) : 0;

    return header != NULL && strlen(header) == length &&
           sodium_memcmp(header, config->access_token, length) == 0;
}

static void respond_json(struct http_exchange *exchange, int status, cJSON *root)
{
    struct strbuf text;

    strbuf_init(&text, 4u << 20);
    if (json_print(root, &text) != 0) {
        strbuf_reset(&text);
        status = 500;
    }
    cJSON_Delete(root);
    http_respond(exchange, status, "application/json", "", text.data, text.length);
    strbuf_done(&text);
}

static cJSON *error_json(int status, const char *message)
{
    cJSON *root = cJSON_CreateObject();

    cJSON_AddNumberToObject(root, "code", status);
    cJSON_AddStringToObject(root, "message", message);
    return root;
}

void routes_respond_error(struct http_exchange *exchange, int status, const char *message)
{
    respond_json(exchange, status, error_json(status, message));
}

void routes_bad_request(void *arg, const struct http_exchange *exchange, enum error_code code,
                        const char *message, struct strbuf *headers, struct strbuf *body)
{
    cJSON *root = error_json(error_code_http_status(code), message);

    (void)arg;
    (void)exchange;
    (void)headers;
    (void)json_print(root, body);
    cJSON_Delete(root);
}

static void serve_metrics(struct http_exchange *exchange)
{
    struct sysinfo_sample sample;
    cJSON *root = cJSON_CreateObject();

    sysinfo_read(&sample);
    json_add_int64(root, "ts", clock_wall_ms() / 1000);
    json_add_int64(root, "cpu_count", sample.cpu_count);
    cJSON_AddNumberToObject(root, "cpu_used_pct", sample.cpu_used_pct);
    json_add_int64(root, "mem_total", sample.mem_total);
    json_add_int64(root, "mem_used", sample.mem_used);
    json_add_int64(root, "mem_cache", sample.mem_cache);
    json_add_int64(root, "mem_total_mib", sample.mem_total >> 20);
    json_add_int64(root, "mem_used_mib", sample.mem_used >> 20);
    json_add_int64(root, "disk_used", sample.disk_used);
    json_add_int64(root, "disk_total", sample.disk_total);
    respond_json(exchange, 200, root);
}

void routes_serve(void *arg, struct http_exchange *exchange)
{
    const struct agent_config *config = arg;
    const char *method = http_method(exchange), *path = http_path(exchange);
    const bool get = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;

    if (strcmp(path, "/health") == 0 && get) {
        http_respond(exchange, 204, NULL, "Cache-Control: no-store\r\n", "", 0);
        return;
    }
    if (strcmp(path, "/files") == 0) { /* checks token or signature itself */
        if (get) {
            files_get(exchange, config);
            return;
        }
        if (strcmp(method, "POST") == 0) {
            files_post(exchange, config);
            return;
        }
    }
    if (config->access_token != NULL &&
        !routes_token_matches(config, http_header(exchange, "X-Access-Token"))) {
        routes_respond_error(exchange, 401,
                             "unauthorized access, please provide a valid access token or method "
                             "signing if supported");
        return;
    }
    if (strncmp(path, "/process.Process/", 17) == 0 ||
        strncmp(path, "/filesystem.Filesystem/", 23) == 0) {
        rpc_serve(exchange, config);
    } else if (strcmp(path, "/files/compose") == 0 && strcmp(method, "POST") == 0) {
        files_compose(exchange, config);
    } else if (strcmp(path, "/metrics") == 0 && get) {
        serve_metrics(exchange);
    } else if (strcmp(path, "/envs") == 0 && get) {
        respond_json(exchange, 200, cJSON_Duplicate(config->envs, true));
    } else if (strcmp(path, "/files") == 0 || strcmp(path, "/files/compose") == 0 ||
               strcmp(path, "/health") == 0 || strcmp(path, "/metrics") == 0 ||
               strcmp(path, "/envs") == 0) {
        http_respond(exchange, 405, NULL, "", "", 0);
    } else {
        http_respond(exchange, 404, "text/plain; charset=utf-8", "", "404 page not found\n", 19);
    }
}
