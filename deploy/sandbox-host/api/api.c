/* api - see api.h. */
#include "deploy/sandbox-host/api/api.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/encode.h"
#include "common/base/json.h"
#include "deploy/sandbox-host/api/api_build.h"
#include "deploy/sandbox-host/api/api_call.h"
#include "deploy/sandbox-host/api/api_list.h"
#include "deploy/sandbox-host/api/api_observe.h"
#include "deploy/sandbox-host/api/api_template.h"
#include "deploy/sandbox-host/sandbox/sandbox_copy.h"
#include "deploy/sandbox-host/sandbox/sandbox_query.h"

enum {
    REFRESH_MAX_MS = 3600 * 1000,
    DEFAULT_TIMEOUT_S = 15, /* of E2B's API when a create names none */
    ENTRIES_MAX = 1024,
    ENTRY_KEY_BYTES = 1024,
    ENTRY_VALUE_BYTES = 1 << 20,
};

void api_bad_request(void *arg, const struct http_exchange *exchange, enum error_code code,
                     const char *message, struct strbuf *headers, struct strbuf *body)
{
    (void)arg;
    (void)exchange;
    (void)headers;
    strbuf_printf(body, "{\"code\":%d,\"message\":\"%s\"}", error_code_http_status(code), message);
}

static cJSON *detail_tree(const struct call *call, const struct sandbox_view *view)
{
    cJSON *tree = api_listed_tree(call, view), *lifecycle = cJSON_CreateObject();

    cJSON_AddBoolToObject(lifecycle, "autoResume", view->auto_resume);
    cJSON_AddStringToObject(lifecycle, "onTimeout", view->auto_pause ? "pause" : "kill");
    cJSON_AddItemToObject(tree, "lifecycle", lifecycle);
    json_add_string_or_null(tree, "domain",
                            view->state == SANDBOX_PAUSED ? NULL : call->config->domain);
    if (view->token[0] != '\0') {
        cJSON_AddStringToObject(tree, "envdAccessToken", view->token);
    }
    if (view->internet == SANDBOX_INTERNET_UNSET) {
        cJSON_AddNullToObject(tree, "allowInternetAccess");
    } else {
        cJSON_AddBoolToObject(tree, "allowInternetAccess", view->internet == SANDBOX_INTERNET_YES);
    }
    if (view->network != NULL) {
        cJSON_AddItemToObject(tree, "network", cJSON_Duplicate(view->network, true));
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

static int internet_of(const cJSON *body, enum sandbox_internet *ret, struct error *err)
{
    const cJSON *field = cJSON_GetObjectItemCaseSensitive(body, "allow_internet_access");
    bool allowed;

    if (json_get_bool(body, "allow_internet_access", true, &allowed, err) < 0) {
        return -1;
    }
    *ret = field == NULL || cJSON_IsNull(field) ? SANDBOX_INTERNET_UNSET
           : allowed                            ? SANDBOX_INTERNET_YES
                                                : SANDBOX_INTERNET_NO;
    return 0;
}

/* Fields of E2B's that this host cannot honour are refused, not ignored; absent, null and empty
 * ones ask for nothing. */
static int refuse_fields(const cJSON *object, const char *prefix, const char *const *names,
                         struct error *err)
{
    for (; *names != NULL; names++) {
        const cJSON *field = cJSON_GetObjectItemCaseSensitive(object, *names);

        if (field != NULL && !cJSON_IsNull(field) &&
            !((cJSON_IsObject(field) || cJSON_IsArray(field)) && field->child == NULL) &&
            !(cJSON_IsString(field) && field->valuestring[0] == '\0')) {
            return error_set(err, ERR_INVALID, "%s%s: this host does not support it", prefix,
                             *names);
        }
    }
    return 0;
}

static int read_network(struct sandbox_options *options, struct error *err)
{
    static const char *const unsupported[] = {"egressProxy", "rules", NULL};
    const char *mask;
    bool is_public;

    if (options->network == NULL || cJSON_IsNull(options->network)) {
        options->network = NULL;
        return 0;
    }
    if (!cJSON_IsObject(options->network)) {
        return error_set(err, ERR_INVALID, "network: not an object");
    }
    if (json_get_bool(options->network, "allowPublicTraffic", true, &is_public, err) < 0 ||
        json_get_string(options->network, "maskRequestHost", ROUTE_MASK_BYTES - 1, "", &mask, err) <
            0) {
        return error_prefix(err, "network");
    }
    if (*mask != '\0' && !route_mask_valid(mask)) {
        return error_set(err, ERR_INVALID,
                         "network.maskRequestHost: not the name of a host, with or without a port");
    }
    options->private_traffic = !is_public;
    if (!is_public && !options->secure) {
        return error_set(err, ERR_INVALID,
                         "network.allowPublicTraffic: false needs secure to be true");
    }
    return refuse_fields(options->network, "network.", unsupported, err);
}

static int read_lifecycle(const struct call *call, struct sandbox_options *options,
                          struct error *err)
{
    const cJSON *resume = cJSON_GetObjectItemCaseSensitive(call->body, "autoResume");
    bool keeps_memory;

    if (json_get_bool(call->body, "autoPause", false, &options->auto_pause, err) < 0 ||
        json_get_bool(call->body, "autoPauseMemory", true, &keeps_memory, err) < 0) {
        return -1;
    }
    if (resume != NULL && !cJSON_IsNull(resume) && !cJSON_IsObject(resume)) {
        return error_set(err, ERR_INVALID, "autoResume: not an object");
    }
    if (resume != NULL && json_get_bool(resume, "enabled", false, &options->auto_resume, err) < 0) {
        return error_prefix(err, "autoResume");
    }
    options->auto_pause_drops = !keeps_memory;
    if (!keeps_memory && !sandbox_keeps_disks()) {
        return error_set(err, ERR_INVALID,
                         "autoPauseMemory: this host always keeps a paused sandbox's memory (its "
                         "disks are no images)");
    }
    return !keeps_memory && options->auto_resume
               ? error_set(err, ERR_INVALID,
                           "autoPauseMemory: traffic cannot resume a sandbox without memory, so it "
                           "cannot be false with autoResume")
               : 0;
}

/* Version 2 of the calls: what E2B's newer SDKs send. Sandboxes are always secure and the default
 * timeout is the SDKs'. */
enum { V2_TIMEOUT_S = 300 };

static int read_create(const struct call *call, bool v2, struct sandbox_options *options,
                       struct error *err)
{
    static const char *const unsupported[] = {"iam", "volumeMounts", NULL};

    if (json_get_string_req(call->body, "templateID", 1, SANDBOX_TEXT_BYTES - 1,
                            &options->template_id, err) < 0 ||
        timeout_of(call->body, "timeout", v2 ? V2_TIMEOUT_S : DEFAULT_TIMEOUT_S,
                   &options->timeout_ms, err) < 0 ||
        json_get_bool(call->body, "secure", false, &options->secure, err) < 0 ||
        internet_of(call->body, &options->internet, err) < 0 ||
        json_get_string_map(call->body, "metadata", ENTRIES_MAX, ENTRY_KEY_BYTES, ENTRY_VALUE_BYTES,
                            &options->metadata, err) < 0 ||
        json_get_string_map(call->body, "envVars", ENTRIES_MAX, ENTRY_KEY_BYTES, ENTRY_VALUE_BYTES,
                            &options->envs, err) < 0 ||
        refuse_fields(call->body, "", unsupported, err) < 0) {
        return -1;
    }
    options->secure = options->secure || v2;
    options->network = cJSON_GetObjectItemCaseSensitive(call->body, "network");
    return read_lifecycle(call, options, err) < 0 ? -1 : read_network(options, err);
}

static void create_sandbox(struct call *call, bool v2)
{
    struct sandbox_options options = {.timeout_ms = 0};
    struct error err = ERROR_INIT;
    struct sandbox_view view;

    if (read_create(call, v2, &options, &err) < 0 || sandbox_create(&options, &view, &err) < 0) {
        api_send_failure(call->http, &err);
        return;
    }
    api_send_tree(call->http, 201, "", api_sandbox_tree(call, &view));
    sandbox_view_done(&view);
}

static void do_create(struct call *call)
{
    create_sandbox(call, false);
}

static void do_create_v2(struct call *call)
{
    create_sandbox(call, true);
}

static void do_get(struct call *call)
{
    struct error err = ERROR_INIT;
    struct sandbox_view view;

    if (sandbox_get(call->id, &view, &err) < 0) {
        api_send_failure(call->http, &err);
        return;
    }
    api_send_tree(call->http, 200, "", detail_tree(call, &view));
    sandbox_view_done(&view);
}

static void answer_empty(struct call *call, int status, const struct error *err)
{
    if (status < 0) {
        api_send_failure(call->http, err);
    } else {
        http_respond(call->http, 204, NULL, "", "", 0);
    }
}

static void do_kill(struct call *call)
{
    struct error err = ERROR_INIT;

    answer_empty(call, sandbox_kill(call->id, &err), &err);
}

static void do_pause(struct call *call)
{
    struct error err = ERROR_INIT;
    bool keeps_memory = true;
    int status = json_get_bool(call->body, "memory", true, &keeps_memory, &err);

    answer_empty(call, status < 0 ? status : sandbox_pause(call->id, keeps_memory, &err), &err);
}

static void do_timeout(struct call *call)
{
    struct error err = ERROR_INIT;
    int64_t timeout_ms = 0;
    int status = timeout_of(call->body, "timeout", -1, &timeout_ms, &err);

    if (status == 0) {
        status = sandbox_set_timeout(call->id, timeout_ms, false, &err);
    }
    answer_empty(call, status, &err);
}

static void do_refresh(struct call *call)
{
    struct error err = ERROR_INIT;
    int64_t timeout_ms = 0;
    int status = timeout_of(call->body, "duration", 15, &timeout_ms, &err);

    if (status == 0 && (timeout_ms < 0 || timeout_ms > REFRESH_MAX_MS)) {
        status = error_set(&err, ERR_INVALID, "duration is not between 0 and 3600 seconds");
    }
    if (status == 0) {
        status = sandbox_set_timeout(call->id, timeout_ms < 15000 ? 15000 : timeout_ms, true, &err);
    }
    answer_empty(call, status, &err);
}

static void do_network(struct call *call)
{
    static const char *const unsupported[] = {"egressProxy", "rules", NULL};
    enum sandbox_internet internet = SANDBOX_INTERNET_UNSET;
    struct error err = ERROR_INIT;
    int status;

    if (!cJSON_IsObject(call->body)) {
        status = error_set(&err, ERR_INVALID, "the body is not an object");
    } else {
        status = refuse_fields(call->body, "network.", unsupported, &err) < 0 ||
                         internet_of(call->body, &internet, &err) < 0
                     ? -1
                     : sandbox_set_network(call->id, internet, call->body, &err);
    }
    answer_empty(call, status, &err);
}

static void connect_sandbox(struct call *call, int64_t fallback_s, bool resume_only)
{
    struct error err = ERROR_INIT;
    int64_t timeout_ms = 0;
    struct sandbox_view view;
    bool resumed;

    if (resume_only) {
        if (sandbox_get(call->id, &view, &err) < 0) {
            api_send_failure(call->http, &err);
            return;
        }
        sandbox_view_done(&view);
        if (view.state == SANDBOX_RUNNING) {
            api_send_error(call->http, 409, "Sandbox is already running");
            return;
        }
    }
    if (timeout_of(call->body, "timeout", fallback_s, &timeout_ms, &err) < 0 ||
        sandbox_connect(call->id, timeout_ms, &resumed, &view, &err) < 0) {
        api_send_failure(call->http, &err);
        return;
    }
    api_send_tree(call->http, resumed ? 201 : 200, "", api_sandbox_tree(call, &view));
    sandbox_view_done(&view);
}

static void do_connect(struct call *call)
{
    connect_sandbox(call, -1, false);
}

static void do_connect_v2(struct call *call)
{
    connect_sandbox(call, V2_TIMEOUT_S, false);
}

static void do_resume(struct call *call)
{
    connect_sandbox(call, DEFAULT_TIMEOUT_S, true);
}

/* ---- routes
 * -------------------------------------------------------------------------------------------------
 */

static const struct {
    const char *method, *before, *after; /* the id stands between; after NULL = no id */
    void (*run)(struct call *call);
} routes[] = {
    {"POST", "/sandboxes", NULL, do_create},
    {"GET", "/sandboxes", NULL, api_list},
    {"POST", "/v2/sandboxes", NULL, do_create_v2},
    {"GET", "/v2/sandboxes", NULL, api_list_v2},
    {"GET", "/sandboxes/metrics", NULL, api_metrics_of_many},
    {"GET", "/sandboxes/", "", do_get},
    {"DELETE", "/sandboxes/", "", do_kill},
    {"POST", "/sandboxes/", "/pause", do_pause},
    {"POST", "/sandboxes/", "/resume", do_resume},
    {"POST", "/sandboxes/", "/connect", do_connect},
    {"POST", "/v2/sandboxes/", "/connect", do_connect_v2},
    {"POST", "/sandboxes/", "/timeout", do_timeout},
    {"POST", "/sandboxes/", "/refreshes", do_refresh},
    {"PUT", "/sandboxes/", "/network", do_network},
    {"GET", "/sandboxes/", "/metrics", api_metrics},
    {"GET", "/sandboxes/", "/logs", api_logs},
    {"GET", "/v2/sandboxes/", "/logs", api_logs_v2},
    {"POST", "/sandboxes/", "/snapshots", api_snapshot},
    {"POST", "/sandboxes/", "/fork", api_fork},
};

enum match { MATCH_NO, MATCH_YES, MATCH_BAD_ID };

/* "id" or "id-clientID" between before and after. */
static enum match match(const char *path, const char *before, const char *after,
                        char id[SANDBOX_ID_BYTES])
{
    size_t n = strlen(before), whole, length;

    id[0] = '\0';
    if (after == NULL) {
        return strcmp(path, before) == 0 ? MATCH_YES : MATCH_NO;
    }
    if (strncmp(path, before, n) != 0) {
        return MATCH_NO;
    }
    whole = strcspn(path + n, "/");
    if (whole == 0 || strcmp(path + n + whole, after) != 0) {
        return MATCH_NO;
    }
    length = strcspn(path + n, "/-");
    if (length == 0 || length >= SANDBOX_ID_BYTES) {
        return MATCH_BAD_ID;
    }
    memcpy(id, path + n, length);
    id[length] = '\0';
    return strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789") == length ? MATCH_YES : MATCH_BAD_ID;
}

static bool key_is_right(const struct call *call)
{
    const char *key = http_header(call->http, "X-API-Key");
    size_t length = strlen(call->config->api_key);

    return key != NULL && strlen(key) == length &&
           sodium_memcmp(key, call->config->api_key, length) == 0;
}

/* What E2B's API has and this host has not: to be told apart from what is not there. */
static bool is_absent_here(const char *path)
{
    return strncmp(path, "/volumes", 8) == 0 && (path[8] == '\0' || path[8] == '/');
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
    if (!key_is_right(&call) && !api_upload_allowed(&call)) {
        api_send_error(exchange, 401, "Invalid API key");
        return;
    }
    if (api_is_template_path(http_path(exchange))) {
        api_templates(&call);
        cJSON_Delete(call.body);
        return;
    }
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        enum match matched = match(http_path(exchange), routes[i].before, routes[i].after, call.id);

        if (matched == MATCH_NO) {
            continue;
        }
        known_path = true;
        if (strcmp(http_method(exchange), routes[i].method) != 0) {
            continue;
        }
        if (matched == MATCH_BAD_ID) {
            api_send_error(exchange, 400, "Invalid sandbox ID");
        } else if (api_read_body(&call, &err) < 0) {
            api_send_failure(exchange, &err);
        } else {
            routes[i].run(&call);
        }
        cJSON_Delete(call.body);
        return;
    }
    if (!known_path && is_absent_here(http_path(exchange))) {
        api_send_error(exchange, 501, "this host has no volumes");
        return;
    }
    api_send_error(exchange, known_path ? 405 : 404,
                   known_path ? "method not allowed" : "not found");
}
