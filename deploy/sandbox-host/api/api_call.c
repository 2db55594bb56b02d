/* api_call - see api_call.h. */
#include "deploy/sandbox-host/api/api_call.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/json.h"
#include "deploy/sandbox-host/isolation/disk.h"

enum { BODY_MAX_BYTES = 16 << 20 /* as E2B's API */, ANSWER_MAX_BYTES = 64 << 20 };
#define CLIENT_ID "6532622b" /* a constant of E2B's, deprecated there */

/* ---- answers ---- */

void api_send_tree(struct http_exchange *http, int status, const char *headers, cJSON *tree)
{
    struct strbuf text;

    strbuf_init(&text, ANSWER_MAX_BYTES);
    json_print(tree, &text);
    cJSON_Delete(tree);
    http_respond(http, status, "application/json; charset=utf-8", headers, text.data, text.length);
    strbuf_done(&text);
}

void api_send_error(struct http_exchange *http, int status, const char *message)
{
    cJSON *tree = cJSON_CreateObject();

    cJSON_AddNumberToObject(tree, "code", status);
    cJSON_AddStringToObject(tree, "message", message);
    api_send_tree(http, status, "", tree);
}

/* The status E2B answers an error with. */
void api_send_failure(struct http_exchange *http, const struct error *err)
{
    int status = 500;

    if (err->code == ERR_INVALID || err->code == ERR_JSON) {
        status = 400;
    } else if (err->code == ERR_NOT_FOUND || err->code == ERR_CONFLICT ||
               err->code == ERR_RATE_LIMITED || err->code == ERR_TOO_LARGE ||
               err->code == ERR_OVERLOADED || err->code == ERR_DRAINING) {
        status = error_code_http_status(err->code);
    }
    api_send_error(http, status, err->message);
}

/* ---- a sandbox as JSON ---- */

cJSON *api_basic_tree(const struct sandbox_view *view)
{
    cJSON *tree = cJSON_CreateObject();

    cJSON_AddStringToObject(tree, "templateID", view->template_id);
    if (view->alias[0] != '\0') {
        cJSON_AddStringToObject(tree, "alias", view->alias);
    }
    cJSON_AddStringToObject(tree, "sandboxID", view->id);
    cJSON_AddStringToObject(tree, "clientID", CLIENT_ID);
    cJSON_AddStringToObject(tree, "envdVersion", API_ENVD_VERSION);
    return tree;
}

cJSON *api_sandbox_tree(const struct call *call, const struct sandbox_view *view)
{
    cJSON *tree = api_basic_tree(view);

    cJSON_AddStringToObject(tree, "domain", call->config->domain);
    if (view->token[0] != '\0') {
        cJSON_AddStringToObject(tree, "envdAccessToken", view->token);
    }
    json_add_string_or_null(tree, "trafficAccessToken", view->traffic_token);
    return tree;
}

cJSON *api_listed_tree(const struct call *call, const struct sandbox_view *view)
{
    const struct host_config *config = call->config;
    cJSON *tree = api_basic_tree(view);

    json_add_time(tree, "startedAt", view->started_ms);
    json_add_time(tree, "endAt", view->end_ms);
    cJSON_AddStringToObject(tree, "state", view->state == SANDBOX_PAUSED ? "paused" : "running");
    json_add_int64(tree, "cpuCount", (config->cpu_percent + 99) / 100);
    json_add_int64(tree, "memoryMB", config->memory_bytes >> 20);
    json_add_int64(tree, "diskSizeMB", disk_mode() == DISK_FOLDER ? 0 : config->disk_bytes >> 20);
    cJSON_AddItemToObject(tree, "metadata",
                          view->metadata != NULL ? cJSON_Duplicate(view->metadata, true)
                                                 : cJSON_CreateObject());
    return tree;
}

/* ---- reading ---- */

int api_query_number(const struct call *call, const char *name, int64_t fallback, int64_t min,
                     int64_t max, int64_t *ret, struct error *err)
{
    char text[32], *end;
    int found = http_query_param(call->http, name, text, sizeof(text));

    *ret = fallback;
    if (found == 0) {
        return 0;
    }
    errno = 0;
    *ret = found < 0 ? 0 : strtoll(text, &end, 10);
    if (found < 0 || *text == '\0' || *end != '\0' || errno != 0 || *ret < min || *ret > max) {
        return error_set(err, ERR_INVALID, "%s is not valid", name);
    }
    return 0;
}

int api_read_body(struct call *call, struct error *err)
{
    struct strbuf text;
    int status = 0;

    if (http_body_length(call->http) == 0) {
        return 0;
    }
    strbuf_init(&text, BODY_MAX_BYTES);
    if (http_read_body(call->http, &text, err) < 0) {
        status = -1;
    } else if (text.length > 0) {
        call->body = json_parse(text.data, text.length, err);
        status = call->body == NULL ? -1 : 0;
    }
    strbuf_done(&text);
    return status;
}
