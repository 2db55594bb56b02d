/*
 * daytona_wire - writes requests to Daytona's API, checks and classifies its answers.
 *
 * Owns: the frame of a request, the create's body, which values may go into URLs and rows, the
 * states, the class of a refusal. Does not own: what the operations do then. Threads: no shared
 * state. Failure: -1; the result is then unchanged.
 */
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/cidr.h"
#include "common/base/clock.h"
#include "common/provider/daytona.h"
#include "common/provider/step.h"

enum { RESPONSE_MAX_BYTES = 1024 * 1024 };

/* ---- requests -------------------------------------------------------------------------------- */

void daytona_api_request(const struct daytona *daytona, const char *method,
                         struct http_request *ret)
{
    str_copy(ret->method, sizeof(ret->method), method);
    strbuf_puts(&ret->url, daytona->api_base);
    strbuf_printf(&ret->headers,
                  "Authorization: Bearer %s\nAccept: application/json\n"
                  "X-Daytona-Source: sandbox-server\n",
                  daytona->config.api_key);
    ret->timeout_ms = daytona->config.request_timeout_ms;
    ret->max_response_bytes = RESPONSE_MAX_BYTES;
}

int64_t daytona_autostop_minutes(const struct provider_call *call)
{
    return call->timeout_ms <= 0 ? 1 : (call->timeout_ms - 1) / 60000 + 1;
}

/* ---- outgoing traffic ------------------------------------------------------------------------ */

static const cJSON *rules_of(const cJSON *network, const char *field)
{
    return cJSON_GetObjectItemCaseSensitive(network, field);
}

/* E2B's form of no internet, beside its own field. */
static bool is_everything(const cJSON *rule)
{
    return cJSON_IsString(rule) && strcmp(rule->valuestring, "0.0.0.0/0") == 0;
}

/* True when only the allow list may be reached. */
static bool is_closed(const cJSON *network, bool no_internet)
{
    const cJSON *rule;

    cJSON_ArrayForEach(rule, rules_of(network, "denyOut"))
    {
        no_internet = no_internet || is_everything(rule);
    }
    return no_internet;
}

int daytona_network_check(const cJSON *network, bool no_internet, struct error *err)
{
    static const char *const known[] = {"allowOut", "denyOut", "allowPublicTraffic"};
    const cJSON *rule;

    cJSON_ArrayForEach(rule, network)
    {
        size_t i = 0;

        while (i < sizeof(known) / sizeof(known[0]) && strcmp(rule->string, known[i]) != 0) {
            i++;
        }
        if (i == sizeof(known) / sizeof(known[0])) {
            return error_set(err, ERR_UNSUPPORTED, "network: daytona cannot keep this field");
        }
    }
    cJSON_ArrayForEach(rule, rules_of(network, "denyOut"))
    {
        if (!is_everything(rule)) {
            return error_set(err, ERR_UNSUPPORTED,
                             "network: daytona cannot deny single networks, only all of them");
        }
    }
    if (!is_closed(network, no_internet)) {
        return 0; /* everything is allowed already */
    }
    if (cJSON_GetArraySize(rules_of(network, "allowOut")) > DAYTONA_NETWORKS_MAX) {
        return error_set(err, ERR_UNSUPPORTED, "network: daytona allows at most %d networks",
                         DAYTONA_NETWORKS_MAX);
    }
    cJSON_ArrayForEach(rule, rules_of(network, "allowOut"))
    {
        struct cidr ignored;

        if (!cJSON_IsString(rule) ||
            !cidr_parse(rule->valuestring, strlen(rule->valuestring), &ignored)) {
            return error_set(err, ERR_UNSUPPORTED,
                             "network: daytona allows IPv4 networks only, no names, no IPv6");
        }
    }
    return 0;
}

static void add_network(cJSON *body, const struct provider_call *call)
{
    const cJSON *rule;
    struct strbuf list;

    if (!is_closed(call->network, call->no_internet)) {
        return;
    }
    strbuf_init(&list, DAYTONA_NETWORKS_MAX * 20); /* "255.255.255.255/32," each */
    cJSON_ArrayForEach(rule, rules_of(call->network, "allowOut"))
    {
        strbuf_printf(&list, "%s%s%s", list.length > 0 ? "," : "", rule->valuestring,
                      strchr(rule->valuestring, '/') != NULL ? "" : "/32");
    }
    if (list.length == 0 || list.overflow) { /* the check refuses longer lists */
        cJSON_AddTrueToObject(body, "networkBlockAll");
    } else {
        cJSON_AddStringToObject(body, "networkAllowList", list.data);
    }
    strbuf_done(&list);
}

cJSON *daytona_create_body(const struct daytona *daytona, const struct provider_call *call)
{
    const struct daytona_config *config = &daytona->config;
    cJSON *labels = step_tags(call);
    if (!labels) {
        return NULL;
    }
    const char *snapshot =
        call->template_id && call->template_id[0] ? call->template_id : config->snapshot;
    cJSON *body = cJSON_CreateObject();
    cJSON_AddStringToObject(body, "name", step_text(call->sandbox_id));
    if (snapshot[0]) {
        cJSON_AddStringToObject(body, "snapshot", snapshot);
    }
    if (config->target && config->target[0]) {
        cJSON_AddStringToObject(body, "target", config->target);
    }
    cJSON_AddItemToObject(body, "labels", labels);
    add_network(body, call);
    cJSON_AddItemToObject(body, "env",
                          call->envs ? cJSON_Duplicate(call->envs, 1) : cJSON_CreateObject());
    json_add_int64(body, "autoStopInterval", daytona_autostop_minutes(call));
    json_add_int64(body, "autoArchiveInterval", config->auto_archive_minutes);
    /* Daytona must not delete a stopped sandbox, because we promised to keep it */
    json_add_int64(body, "autoDeleteInterval", -1);
    return body;
}

/* ---- answers --------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    enum daytona_kind kind;
} states[] = {
    {"started", DAYTONA_STARTED},       {"stopped", DAYTONA_STOPPED},
    {"archived", DAYTONA_STOPPED},      {"archiving", DAYTONA_STOPPED}, /* start is accepted */
    {"paused", DAYTONA_STOPPED},        {"error", DAYTONA_FAILED},
    {"build_failed", DAYTONA_FAILED},   {"destroying", DAYTONA_GONE},
    {"destroyed", DAYTONA_GONE},        {"creating", DAYTONA_CHANGING},
    {"restoring", DAYTONA_CHANGING},    {"starting", DAYTONA_CHANGING},
    {"stopping", DAYTONA_CHANGING},     {"pending_build", DAYTONA_CHANGING},
    {"resizing", DAYTONA_CHANGING},     {"building_snapshot", DAYTONA_CHANGING},
    {"snapshotting", DAYTONA_CHANGING}, {"pulling_snapshot", DAYTONA_CHANGING},
    {"forking", DAYTONA_CHANGING},      {"pausing", DAYTONA_CHANGING},
    {"resuming", DAYTONA_CHANGING},
};

enum daytona_kind daytona_kind_of(const char *state)
{
    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
        if (strcmp(states[i].name, state) == 0) {
            return states[i].kind;
        }
    }
    return DAYTONA_UNKNOWN;
}

int daytona_box_take(const cJSON *root, const char *deployment_id, const char *sandbox_id,
                     struct daytona_box *ret)
{
    memset(ret, 0, sizeof(*ret));
    const char *id = json_text(root, "id");
    char url[DOMAIN_BYTES];
    if (!cJSON_IsObject(root) || !provider_is_id(id) ||
        str_copy(url, sizeof(url), json_text(root, "toolboxProxyUrl")) != 0 ||
        (url[0] && !provider_normalize_url(url))) {
        return -1;
    }
    str_copy(ret->id, sizeof(ret->id), id);
    str_copy(ret->toolbox_url, sizeof(ret->toolbox_url), url);
    str_copy(ret->state, sizeof(ret->state), json_text(root, "state"));
    ret->kind = daytona_kind_of(json_text(root, "state"));
    const char *reason = json_text(root, "errorReason");
    provider_clean_text(ret->reason, sizeof(ret->reason), reason, strlen(reason), NULL, 0);
    const cJSON *labels = cJSON_GetObjectItemCaseSensitive(root, "labels");
    ret->ours = strcmp(json_text(labels, PROVIDER_TAG_DEPLOYMENT), deployment_id) == 0 &&
                strcmp(json_text(labels, PROVIDER_TAG_SANDBOX), sandbox_id) == 0;
    ret->recoverable = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(root, "recoverable"));
    const char *class_name = json_text(root, "sandboxClass");
    ret->is_vm = strcmp(class_name, "linux-vm") == 0 || strcmp(class_name, "windows") == 0;
    const cJSON *autostop = cJSON_GetObjectItemCaseSensitive(root, "autoStopInterval");
    ret->autostop_minutes =
        cJSON_IsNumber(autostop) && autostop->valuedouble >= 0 && autostop->valuedouble < 1e9
            ? (int64_t)autostop->valuedouble
            : -1;
    if (clock_parse_rfc3339(json_text(root, "createdAt"), &ret->created_at_ms) != 0) {
        ret->created_at_ms = 0;
    }
    return 0;
}

void daytona_error_text(const struct daytona *daytona, const struct http_response *response,
                        char *out, size_t size)
{
    const char *const secrets[] = {daytona->config.api_key};
    struct error ignored = ERROR_INIT; /* an empty body or a proxy's HTML is an answer, too */
    if (response->transport != HTTP_ANSWERED) {
        provider_clean_text(out, size, response->error, strlen(response->error), secrets, 1);
        return;
    }
    cJSON *root = response->body_bytes > 0
                      ? json_parse(response->body, response->body_bytes, &ignored)
                      : NULL;
    const cJSON *errors = cJSON_GetObjectItemCaseSensitive(root, "errors");
    const cJSON *first = cJSON_GetArrayItem(errors, 0);
    const char *text = cJSON_IsString(first) ? first->valuestring : json_text(root, "message");
    provider_clean_text(out, size, text, strlen(text), secrets, 1);
    cJSON_Delete(root);
}

/* field of an error body that repeats the HTTP status */
#define STATUS_FIELD "statusCode"

/* True for the API router's answer to an unknown path: the base URL is wrong. */
static bool is_unknown_route(const struct http_response *response)
{
    struct error ignored =
        ERROR_INIT; /* the caller has checked that this is the API's own refusal, which is JSON */
    cJSON *root = json_parse(response->body, response->body_bytes, &ignored);
    bool unknown = strncmp(json_text(root, "message"), "Cannot ", 7) == 0;
    cJSON_Delete(root);
    return unknown;
}

bool daytona_is_foreign(const struct http_response *response)
{
    return step_is_foreign(response, STATUS_FIELD) ||
           (step_answered(response, 404) && is_unknown_route(response));
}

bool daytona_is_not_found(const struct http_response *response)
{
    return step_answered(response, 404) && !daytona_is_foreign(response);
}

/* True for texts about missing capacity, not about the request. */
static bool is_capacity_text(const char *text)
{
    static const char *const words[] = {"quota", "limit exceeded", "no available runner",
                                        "suspended", "depleted"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcasestr(text, words[i])) {
            return true;
        }
    }
    return false;
}

enum outcome daytona_classify(int status, const char *text, bool starting, int64_t *retry_after_ms)
{
    switch (status) {
    case 401:
        return OUTCOME_AUTH;
    case 429:
        if (*retry_after_ms <= 0) {
            *retry_after_ms = 1000;
        }
        return OUTCOME_RATE_LIMITED;
    case 400:
    case 403:
        return starting && is_capacity_text(text) ? OUTCOME_CAPACITY : OUTCOME_PERMANENT;
    case 408: /* the server timed out */
    case 409: /* a change is under way */
    case 425:
        return OUTCOME_TRANSIENT;
    default:
        break;
    }
    /* a redirect is a proxy's login page; the API never sends one */
    return status >= 500 ? OUTCOME_TRANSIENT : OUTCOME_PERMANENT;
}
