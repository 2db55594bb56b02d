/*
 * e2b_answer - reads and checks the fields of the API's Sandbox, SandboxDetail and ListedSandbox,
 * and classifies its refusals.
 *
 * Owns: which values may go into URLs, headers and rows. Does not own: what the operations do with
 * them. Threads: no shared state. Failure: -1, 0 or UNKNOWN; the result is then unchanged.
 */
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/provider/e2b.h"
#include "common/provider/step.h"

/* Reads an optional string; absent and null become "". -1: wrong type, too long, or refused by
 * `ok`. */
static int take_text(const cJSON *object, const char *field, char *out, size_t size,
                     bool (*ok)(const char *))
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, field);
    if (!item || cJSON_IsNull(item) || (cJSON_IsString(item) && !item->valuestring[0])) {
        return 0;
    }
    if (!cJSON_IsString(item) || !ok(item->valuestring)) {
        return -1;
    }
    return str_copy(out, size, item->valuestring);
}

int64_t e2b_take_time(const struct provider_call *call, const cJSON *object, const char *field)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, field);
    int64_t ms = 0;
    if (!cJSON_IsString(item) || clock_parse_rfc3339(item->valuestring, &ms) != 0) {
        return 0;
    }
    return provider_call_time(call, ms);
}

enum provider_state e2b_take_state(const cJSON *object)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, "state");
    if (!cJSON_IsString(item)) {
        return PROVIDER_STATE_UNKNOWN;
    }
    if (strcmp(item->valuestring, "running") == 0) {
        return PROVIDER_STATE_RUNNING;
    }
    if (strcmp(item->valuestring, "paused") == 0) {
        return PROVIDER_STATE_PAUSED;
    }
    return PROVIDER_STATE_UNKNOWN;
}

int e2b_take_listed(const cJSON *root, struct provider_call *call)
{
    call->listed_count = 0;
    if (!cJSON_IsArray(root)) {
        return -1;
    }
    for (const cJSON *item = root->child; item; item = item->next) {
        const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(item, "metadata");
        if (step_list(call, json_text(metadata, PROVIDER_TAG_DEPLOYMENT),
                      json_text(metadata, PROVIDER_TAG_SANDBOX), json_text(item, "sandboxID"),
                      e2b_take_state(item)) != 0) {
            return -1;
        }
    }
    return 0;
}

int e2b_take_sandbox(const cJSON *root, struct provider_result *result)
{
    struct provider_result found = *result;
    found.provider_sandbox_id[0] = '\0';
    if (!cJSON_IsObject(root) ||
        take_text(root, "sandboxID", found.provider_sandbox_id, sizeof(found.provider_sandbox_id),
                  provider_is_id) != 0 ||
        found.provider_sandbox_id[0] == '\0' ||
        take_text(root, "domain", found.domain, sizeof(found.domain), e2b_is_domain) != 0 ||
        take_text(root, "envdAccessToken", found.access_token, sizeof(found.access_token),
                  provider_is_header_value) != 0 ||
        take_text(root, "trafficAccessToken", found.traffic_token, sizeof(found.traffic_token),
                  provider_is_header_value) != 0) {
        return -1;
    }
    /* a required field; an invalid version counts as unknown */
    if (take_text(root, "envdVersion", found.agent_version, sizeof(found.agent_version),
                  provider_is_header_value) != 0) {
        found.agent_version[0] = '\0';
    }
    *result = found;
    return 0;
}

static bool is_capacity_code(const char *code)
{
    static const char *const codes[] = {"sandbox_capacity_unavailable", "sandbox_placement_timeout",
                                        "sandbox_no_compatible_node"};
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (strcmp(code, codes[i]) == 0) {
            return true;
        }
    }
    return false;
}

enum outcome e2b_classify(int status, const char *code, bool creating, bool starting,
                          int64_t *retry_after_ms)
{
    switch (status) {
    case 401:
        return OUTCOME_AUTH;
    case 408:
        return creating ? OUTCOME_AMBIGUOUS : OUTCOME_TRANSIENT;
    case 409:
        return !creating                                      ? OUTCOME_TRANSIENT
               : strcmp(code, "sandbox_start_in_flight") == 0 ? OUTCOME_AMBIGUOUS
                                                              : OUTCOME_PERMANENT;
    case 429:
        /* E2B sends Retry-After with its rate limit, but not with its concurrency limit */
        if (*retry_after_ms > 0) {
            return OUTCOME_RATE_LIMITED;
        }
        if (starting) {
            return OUTCOME_CAPACITY;
        }
        *retry_after_ms = 1000;
        return OUTCOME_RATE_LIMITED;
    case 503:
        if (starting && is_capacity_code(code)) {
            return OUTCOME_CAPACITY;
        }
        return creating ? OUTCOME_AMBIGUOUS : OUTCOME_TRANSIENT;
    default:
        break;
    }
    if (status >= 500) {
        return creating ? OUTCOME_AMBIGUOUS : OUTCOME_TRANSIENT;
    }
    return OUTCOME_PERMANENT;
}
