/* api - see api.h. */
#include "deploy/sandbox-host/api.h"

#include <ctype.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/encode.h"
#include "common/base/json.h"
#include "deploy/sandbox-host/sandbox.h"

enum {
    BODY_MAX_BYTES = 16 << 20, /* as E2B's API */
    ANSWER_MAX_BYTES = 64 << 20,
    DEFAULT_TIMEOUT_S = 15, /* of E2B's API when a create names none */
    LIST_MAX = 100,
    QUERY_BYTES = 4096,
    ENTRIES_MAX = 1024,
    ENTRY_KEY_BYTES = 1024,
    ENTRY_VALUE_BYTES = 1 << 20,
};
#define ENVD_VERSION "0.6.13"
#define CLIENT_ID    "6532622b" /* a constant of E2B's, deprecated there */

struct call {
    const struct host_config *config;
    struct http_exchange *http;
    cJSON *body;           /* or NULL */
    char id[BOX_ID_BYTES]; /* of the path, or "" */
};

static void send_tree(struct http_exchange *http, int status, const char *headers, cJSON *tree)
{
    struct strbuf text;

    strbuf_init(&text, ANSWER_MAX_BYTES);
    json_print(tree, &text);
    cJSON_Delete(tree);
    http_respond(http, status, "application/json; charset=utf-8", headers, text.data, text.length);
    strbuf_done(&text);
}

static void send_error(struct http_exchange *http, int status, const char *message)
{
    cJSON *tree = cJSON_CreateObject();

    cJSON_AddNumberToObject(tree, "code", status);
    cJSON_AddStringToObject(tree, "message", message);
    send_tree(http, status, "", tree);
}

/* The status E2B answers an error with. */
static void send_failure(struct http_exchange *http, const struct error *err)
{
    int status = 500;

    if (err->code == ERR_INVALID || err->code == ERR_JSON) {
        status = 400;
    } else if (err->code == ERR_NOT_FOUND || err->code == ERR_CONFLICT ||
               err->code == ERR_RATE_LIMITED || err->code == ERR_TOO_LARGE) {
        status = error_code_http_status(err->code);
    }
    send_error(http, status, err->message);
}

void api_bad_request(void *arg, enum error_code code, const char *message, struct strbuf *body)
{
    (void)arg;
    strbuf_printf(body, "{\"code\":%d,\"message\":\"%s\"}", error_code_http_status(code), message);
}

/* ---- how a sandbox looks
 * ------------------------------------------------------------------------------ */

static cJSON *basic(const struct box_view *view)
{
    cJSON *tree = cJSON_CreateObject();

    cJSON_AddStringToObject(tree, "templateID", view->template_id);
    if (view->alias[0] != '\0') {
        cJSON_AddStringToObject(tree, "alias", view->alias);
    }
    cJSON_AddStringToObject(tree, "sandboxID", view->id);
    cJSON_AddStringToObject(tree, "clientID", CLIENT_ID);
    cJSON_AddStringToObject(tree, "envdVersion", ENVD_VERSION);
    return tree;
}

/* What create and connect answer. */
static cJSON *sandbox_tree(const struct call *call, const struct box_view *view)
{
    cJSON *tree = basic(view);

    cJSON_AddStringToObject(tree, "domain", call->config->domain);
    if (view->token[0] != '\0') {
        cJSON_AddStringToObject(tree, "envdAccessToken", view->token);
    }
    return tree;
}

static cJSON *listed_tree(const struct box_view *view)
{
    cJSON *tree = basic(view);

    json_add_time(tree, "startedAt", view->started_ms);
    json_add_time(tree, "endAt", view->end_ms);
    cJSON_AddStringToObject(tree, "state", view->state == BOX_PAUSED ? "paused" : "running");
    cJSON_AddNumberToObject(tree, "cpuCount", 2);
    cJSON_AddNumberToObject(tree, "memoryMB", 1024);
    cJSON_AddNumberToObject(tree, "diskSizeMB", 0);
    cJSON_AddItemToObject(tree, "metadata",
                          view->metadata != NULL ? cJSON_Duplicate(view->metadata, true)
                                                 : cJSON_CreateObject());
    return tree;
}

static cJSON *detail_tree(const struct call *call, const struct box_view *view)
{
    cJSON *tree = listed_tree(view), *lifecycle = cJSON_CreateObject();

    cJSON_AddBoolToObject(lifecycle, "autoResume", view->auto_resume);
    cJSON_AddStringToObject(lifecycle, "onTimeout", view->auto_pause ? "pause" : "kill");
    cJSON_AddItemToObject(tree, "lifecycle", lifecycle);
    if (view->state == BOX_PAUSED) {
        cJSON_AddNullToObject(tree, "domain");
    } else {
        cJSON_AddStringToObject(tree, "domain", call->config->domain);
    }
    if (view->token[0] != '\0') {
        cJSON_AddStringToObject(tree, "envdAccessToken", view->token);
    }
    return tree;
}

/* ---- calls
 * --------------------------------------------------------------------------------------------- */

static int timeout_of(const cJSON *body, const char *field, int64_t fallback_s, int64_t *ret_ms,
                      struct error *err)
{
    int64_t seconds;

    if (json_get_int(body, field, INT32_MIN, INT32_MAX, fallback_s, &seconds, err) < 0) {
        return -1;
    }
    *ret_ms = seconds * 1000;
    return 0;
}

static int read_create(const struct call *call, struct box_options *options, struct error *err)
{
    const cJSON *resume;

    if (json_get_string_req(call->body, "templateID", 1, BOX_TEXT_BYTES - 1, &options->template_id,
                            err) < 0 ||
        timeout_of(call->body, "timeout", DEFAULT_TIMEOUT_S, &options->timeout_ms, err) < 0 ||
        json_get_bool(call->body, "autoPause", false, &options->auto_pause, err) < 0 ||
        json_get_bool(call->body, "secure", false, &options->secure, err) < 0 ||
        json_get_string_map(call->body, "metadata", ENTRIES_MAX, ENTRY_KEY_BYTES, ENTRY_VALUE_BYTES,
                            &options->metadata, err) < 0 ||
        json_get_string_map(call->body, "envVars", ENTRIES_MAX, ENTRY_KEY_BYTES, ENTRY_VALUE_BYTES,
                            &options->envs, err) < 0) {
        return -1;
    }
    resume = cJSON_GetObjectItemCaseSensitive(call->body, "autoResume");
    if (cJSON_IsObject(resume)) {
        return json_get_bool(resume, "enabled", false, &options->auto_resume, err);
    }
    return 0;
}

static void do_create(struct call *call)
{
    struct box_options options = {.timeout_ms = 0};
    struct error err = ERROR_INIT;
    struct box_view view;

    if (read_create(call, &options, &err) < 0 || box_create(&options, &view, &err) < 0) {
        send_failure(call->http, &err);
        return;
    }
    send_tree(call->http, 201, "", sandbox_tree(call, &view));
    box_view_done(&view);
}

static void do_get(struct call *call)
{
    struct error err = ERROR_INIT;
    struct box_view view;

    if (box_get(call->id, &view, &err) < 0) {
        send_failure(call->http, &err);
        return;
    }
    send_tree(call->http, 200, "", detail_tree(call, &view));
    box_view_done(&view);
}

static void answer_empty(struct call *call, int status, const struct error *err)
{
    if (status < 0) {
        send_failure(call->http, err);
    } else {
        http_respond(call->http, 204, NULL, "", "", 0);
    }
}

static void do_kill(struct call *call)
{
    struct error err = ERROR_INIT;

    answer_empty(call, box_kill(call->id, &err), &err);
}

static void do_pause(struct call *call)
{
    struct error err = ERROR_INIT;

    answer_empty(call, box_pause(call->id, &err), &err);
}

static void do_timeout(struct call *call)
{
    struct error err = ERROR_INIT;
    int64_t timeout_ms = 0;
    int status = timeout_of(call->body, "timeout", -1, &timeout_ms, &err);

    if (status == 0) {
        status = box_set_timeout(call->id, timeout_ms, false, &err);
    }
    answer_empty(call, status, &err);
}

static void do_refresh(struct call *call)
{
    struct error err = ERROR_INIT;
    int64_t timeout_ms = 0;
    int status = timeout_of(call->body, "duration", 15, &timeout_ms, &err);

    if (status == 0) {
        status = box_set_timeout(call->id, timeout_ms < 15000 ? 15000 : timeout_ms, true, &err);
    }
    answer_empty(call, status, &err);
}

static void connect_box(struct call *call, int64_t fallback_s, bool resume_only)
{
    struct error err = ERROR_INIT;
    int64_t timeout_ms = 0;
    struct box_view view;
    bool resumed;

    if (resume_only) {
        if (box_get(call->id, &view, &err) < 0) {
            send_failure(call->http, &err);
            return;
        }
        box_view_done(&view);
        if (view.state == BOX_RUNNING) {
            send_error(call->http, 409, "Sandbox is already running");
            return;
        }
    }
    if (timeout_of(call->body, "timeout", fallback_s, &timeout_ms, &err) < 0 ||
        box_connect(call->id, timeout_ms, &resumed, &view, &err) < 0) {
        send_failure(call->http, &err);
        return;
    }
    send_tree(call->http, resumed ? 201 : 200, "", sandbox_tree(call, &view));
    box_view_done(&view);
}

static void do_connect(struct call *call)
{
    connect_box(call, -1, false);
}

static void do_resume(struct call *call)
{
    connect_box(call, DEFAULT_TIMEOUT_S, true);
}

static void do_metrics(struct call *call)
{
    struct error err = ERROR_INIT;
    struct box_view view;

    if (box_get(call->id, &view, &err) < 0) {
        send_failure(call->http, &err);
        return;
    }
    box_view_done(&view);
    send_tree(call->http, 200, "", cJSON_CreateArray());
}

static void do_logs(struct call *call)
{
    struct error err = ERROR_INIT;
    struct box_view view;
    cJSON *tree;

    if (box_get(call->id, &view, &err) < 0) {
        send_failure(call->http, &err);
        return;
    }
    box_view_done(&view);
    tree = cJSON_CreateObject();
    cJSON_AddArrayToObject(tree, "logs");
    cJSON_AddArrayToObject(tree, "logEntries");
    send_tree(call->http, 200, "", tree);
}

/* ---- lists
 * ------------------------------------------------------------------------------------------------
 */

struct filter {
    char metadata[QUERY_BYTES]; /* after the query's own decoding */
    bool running, paused, ascending;
    long limit, offset;
};

/* E2B encodes this filter three times: the query is decoded already, the whole once more, then each
 * key and value. All pairs must be there. */
static bool metadata_matches(const struct filter *filter, const cJSON *metadata)
{
    char pairs[QUERY_BYTES], *save = NULL;

    str_copy(pairs, sizeof(pairs), filter->metadata);
    for (char *pair = strtok_r(pairs, "&", &save); pair != NULL;
         pair = strtok_r(NULL, "&", &save)) {
        char *value = strchr(pair, '=');
        const cJSON *item;

        if (value == NULL) {
            return false;
        }
        *value++ = '\0';
        if (percent_decode(pair, true) < 0 || percent_decode(value, true) < 0) {
            return false;
        }
        item = cJSON_GetObjectItemCaseSensitive(metadata, pair);
        if (!cJSON_IsString(item) || strcmp(item->valuestring, value) != 0) {
            return false;
        }
    }
    return true;
}

static int read_number(const struct call *call, const char *name, long fallback, long min, long max,
                       long *ret, struct error *err)
{
    char text[32], *end;

    *ret = fallback;
    if (http_query_param(call->http, name, text, sizeof(text)) == 0) {
        return 0;
    }
    *ret = strtol(text, &end, 10);
    if (*text == '\0' || *end != '\0' || *ret < min || *ret > max) {
        return error_set(err, ERR_INVALID, "%s is not valid", name);
    }
    return 0;
}

static int read_filter(const struct call *call, bool v2, struct filter *filter, struct error *err)
{
    char text[64];

    *filter = (struct filter){.running = true, .paused = v2, .limit = LIST_MAX};
    if (http_query_param(call->http, "metadata", filter->metadata, sizeof(filter->metadata)) < 0 ||
        percent_decode(filter->metadata, true) < 0) {
        return error_set(err, ERR_INVALID, "metadata filter is not valid");
    }
    if (!v2) {
        return 0;
    }
    if (http_query_param(call->http, "state", text, sizeof(text)) == 1 && text[0] != '\0') {
        filter->running = strstr(text, "running") != NULL;
        filter->paused = strstr(text, "paused") != NULL;
    }
    if (http_query_param(call->http, "order", text, sizeof(text)) == 1) {
        filter->ascending = strcmp(text, "asc") == 0;
    }
    if (read_number(call, "limit", LIST_MAX, 1, LIST_MAX, &filter->limit, err) < 0 ||
        read_number(call, "nextToken", 0, 0, LONG_MAX, &filter->offset, err) < 0) {
        return -1;
    }
    return 0;
}

static void list_boxes(struct call *call, bool v2)
{
    struct error err = ERROR_INIT;
    struct filter filter;
    struct box_view *views;
    size_t count;
    long matched = 0, running = 0;
    cJSON *tree;
    char headers[128];
    int used;

    if (read_filter(call, v2, &filter, &err) < 0) {
        send_failure(call->http, &err);
        return;
    }
    box_list(&views, &count);
    tree = cJSON_CreateArray();
    for (size_t n = 0; n < count; n++) {
        const struct box_view *view = &views[filter.ascending ? count - 1 - n : n];

        running += view->state == BOX_RUNNING;
        if ((view->state == BOX_RUNNING ? filter.running : filter.paused) &&
            metadata_matches(&filter, view->metadata)) {
            if (matched >= filter.offset && (!v2 || matched < filter.offset + filter.limit)) {
                cJSON_AddItemToArray(tree, listed_tree(view));
            }
            matched++;
        }
    }
    for (size_t n = 0; n < count; n++) {
        box_view_done(&views[n]);
    }
    free(views);
    used = snprintf(headers, sizeof(headers), "X-Total-Running: %ld\r\n", running);
    if (v2 && matched > filter.offset + filter.limit) {
        snprintf(headers + used, sizeof(headers) - (size_t)used, "X-Next-Token: %ld\r\n",
                 filter.offset + filter.limit);
    }
    send_tree(call->http, 200, v2 ? headers : "", tree);
}

static void do_list(struct call *call)
{
    list_boxes(call, false);
}

static void do_list_v2(struct call *call)
{
    list_boxes(call, true);
}

/* ---- routes
 * -------------------------------------------------------------------------------------------------
 */

static const struct {
    const char *method, *before, *after; /* the id stands between; after NULL = no id */
    void (*run)(struct call *call);
} routes[] = {
    {"POST", "/sandboxes", NULL, do_create},
    {"GET", "/sandboxes", NULL, do_list},
    {"GET", "/v2/sandboxes", NULL, do_list_v2},
    {"GET", "/sandboxes/", "", do_get},
    {"DELETE", "/sandboxes/", "", do_kill},
    {"POST", "/sandboxes/", "/pause", do_pause},
    {"POST", "/sandboxes/", "/resume", do_resume},
    {"POST", "/sandboxes/", "/connect", do_connect},
    {"POST", "/sandboxes/", "/timeout", do_timeout},
    {"POST", "/sandboxes/", "/refreshes", do_refresh},
    {"GET", "/sandboxes/", "/metrics", do_metrics},
    {"GET", "/sandboxes/", "/logs", do_logs},
    {"GET", "/v2/sandboxes/", "/logs", do_logs},
};

/* "id" or "id-clientID" between before and after; only [a-z0-9]. */
static bool match(const char *path, const char *before, const char *after, char id[BOX_ID_BYTES])
{
    size_t n = strlen(before), length = 0;

    id[0] = '\0';
    if (after == NULL) {
        return strcmp(path, before) == 0;
    }
    if (strncmp(path, before, n) != 0) {
        return false;
    }
    while (isalnum((unsigned char)path[n + length]) && length < BOX_ID_BYTES - 1) {
        id[length] = path[n + length];
        length++;
    }
    id[length] = '\0';
    n += length;
    if (length > 0 && path[n] == '-') {
        n += strcspn(path + n, "/");
    }
    return length > 0 && strcmp(path + n, after) == 0;
}

static int read_body(struct call *call, struct error *err)
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

static bool key_is_right(const struct call *call)
{
    const char *key = http_header(call->http, "X-API-Key");
    size_t length = strlen(call->config->api_key);

    return key != NULL && strlen(key) == length &&
           sodium_memcmp(key, call->config->api_key, length) == 0;
}

void api_handle(void *arg, struct http_exchange *exchange)
{
    struct call call = {.config = arg, .http = exchange};
    struct error err = ERROR_INIT;
    bool known_path = false;

    if (strcmp(http_path(exchange), "/health") == 0) {
        http_respond(exchange, 200, "text/plain", "", "ok\n", 3);
        return;
    }
    if (!key_is_right(&call)) {
        send_error(exchange, 401, "Invalid API key");
        return;
    }
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        if (!match(http_path(exchange), routes[i].before, routes[i].after, call.id)) {
            continue;
        }
        known_path = true;
        if (strcmp(http_method(exchange), routes[i].method) == 0) {
            if (read_body(&call, &err) < 0) {
                send_failure(exchange, &err);
            } else {
                routes[i].run(&call);
            }
            cJSON_Delete(call.body);
            return;
        }
    }
    send_error(exchange, known_path ? 405 : 404, known_path ? "method not allowed" : "not found");
}
