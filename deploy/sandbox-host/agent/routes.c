/* routes - see routes.h. */
#include "deploy/sandbox-host/agent/routes.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/json.h"
#include "deploy/sandbox-host/agent/access.h"
#include "deploy/sandbox-host/agent/answers.h"
#include "deploy/sandbox-host/agent/compose.h"
#include "deploy/sandbox-host/agent/download.h"
#include "deploy/sandbox-host/agent/rpc.h"
#include "deploy/sandbox-host/agent/sysinfo.h"
#include "deploy/sandbox-host/agent/upload.h"

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
    answer_json(exchange, 200, root);
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
            download_serve(exchange, config);
            return;
        }
        if (strcmp(method, "POST") == 0) {
            upload_serve(exchange, config);
            return;
        }
    }
    if (config->access_token != NULL &&
        !access_token_matches(config, http_header(exchange, "X-Access-Token"))) {
        answer_error(exchange, 401,
                     "unauthorized access, please provide a valid access token or method "
                     "signing if supported");
        return;
    }
    if (strncmp(path, "/process.Process/", 17) == 0 ||
        strncmp(path, "/filesystem.Filesystem/", 23) == 0) {
        rpc_serve(exchange, config);
    } else if (strcmp(path, "/files/compose") == 0 && strcmp(method, "POST") == 0) {
        compose_serve(exchange, config);
    } else if (strcmp(path, "/metrics") == 0 && get) {
        serve_metrics(exchange);
    } else if (strcmp(path, "/envs") == 0 && get) {
        answer_json(exchange, 200, cJSON_Duplicate(config->envs, true));
    } else if (strcmp(path, "/files") == 0 || strcmp(path, "/files/compose") == 0 ||
               strcmp(path, "/health") == 0 || strcmp(path, "/metrics") == 0 ||
               strcmp(path, "/envs") == 0) {
        http_respond(exchange, 405, NULL, "", "", 0);
    } else {
        http_respond(exchange, 404, "text/plain; charset=utf-8", "", "404 page not found\n", 19);
    }
}
