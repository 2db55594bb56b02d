/* job_params - see job_params.h. */
#include "common/domain/job_params.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"

enum { ENVS_MAX = 256, ENV_NAME_MAX_BYTES = 256, ENV_VALUE_MAX_BYTES = 32768 };
static const int64_t timeout_max_ms = INT64_C(86400) * 1000;

static int read_places(const cJSON *object, struct job_params *params, struct error *err)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(object, "places"), *item;

    if (list == NULL) {
        return 0;
    }
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) > JOB_PLACES_MAX) {
        return error_set(err, ERR_INVALID, "places must be an array of at most %d", JOB_PLACES_MAX);
    }
    cJSON_ArrayForEach(item, list)
    {
        struct job_place *place = &params->places[params->place_count];
        const char *provider, *template_id;

        if (!cJSON_IsObject(item) ||
            json_get_string_req(item, "provider", 1, PROVIDER_BYTES - 1, &provider, err) < 0 ||
            json_get_string(item, "template", TEMPLATE_BYTES - 1, "", &template_id, err) < 0) {
            return error_set(err, ERR_INVALID, "places holds something that is no place");
        }
        str_copy(place->provider, sizeof(place->provider), provider);
        str_copy(place->template_id, sizeof(place->template_id), template_id);
        params->place_count++;
    }
    return 0;
}

static int read_fields(const cJSON *object, struct job_params *params, struct error *err)
{
    const char *on_timeout, *reason, *absent;
    const cJSON *envs, *network;

    if (json_get_int(object, "timeout_ms", 0, timeout_max_ms, 0, &params->timeout_ms, err) < 0 ||
        json_get_string(object, "on_timeout", 16, NULL, &on_timeout, err) < 0 ||
        json_get_bool(object, "extend_provider", false, &params->extend_provider, err) < 0 ||
        json_get_bool(object, "only_extend", false, &params->only_extend, err) < 0 ||
        json_get_bool(object, "ends_deadline", false, &params->ends_deadline, err) < 0 ||
        json_get_bool(object, "no_internet", false, &params->no_internet, err) < 0 ||
        json_get_string(object, "reason", REASON_BYTES - 1, "", &reason, err) < 0 ||
        json_get_string(object, "absent", 16, "none", &absent, err) < 0 ||
        json_get_string_map(object, "envs", ENVS_MAX, ENV_NAME_MAX_BYTES, ENV_VALUE_MAX_BYTES,
                            &envs, err) < 0 ||
        read_places(object, params, err) < 0) {
        return -1;
    }
    if (on_timeout != NULL) {
        if (on_timeout_parse(on_timeout, &params->on_timeout) < 0) {
            return error_set(err, ERR_INVALID, "on_timeout must be pause or delete");
        }
        params->has_on_timeout = true;
    }
    if (absence_evidence_parse(absent, &params->absent) < 0) {
        return error_set(err, ERR_INVALID, "absent must be none, proven or unproven");
    }
    str_copy(params->reason, sizeof(params->reason), reason);
    if (envs != NULL) {
        params->envs = cJSON_Duplicate(envs, true);
    }
    network = cJSON_GetObjectItemCaseSensitive(object, "network");
    if (network != NULL) {
        params->network = cJSON_Duplicate(network, true);
    }
    return 0;
}

int job_params_parse(const char *text, struct job_params *ret, struct error *err)
{
    struct job_params params = {0};
    cJSON *tree;
    int status;

    if (text == NULL || *text == '\0') {
        *ret = params;
        return 0;
    }
    tree = json_parse(text, strlen(text), err);
    if (tree == NULL) {
        return -1;
    }
    if (!cJSON_IsObject(tree)) {
        status = error_set(err, ERR_INVALID, "params must be an object");
    } else {
        status = read_fields(tree, &params, err);
    }
    cJSON_Delete(tree);
    if (status == 0) {
        *ret = params;
    }
    return status;
}

char *job_params_format(const struct job_params *params)
{
    cJSON *tree = cJSON_CreateObject();
    struct strbuf text;

    if (params->timeout_ms > 0) {
        json_add_int64(tree, "timeout_ms", params->timeout_ms);
    }
    if (params->has_on_timeout) {
        cJSON_AddStringToObject(tree, "on_timeout", on_timeout_name(params->on_timeout));
    }
    if (params->extend_provider) {
        cJSON_AddTrueToObject(tree, "extend_provider");
    }
    if (params->only_extend) {
        cJSON_AddTrueToObject(tree, "only_extend");
    }
    if (params->ends_deadline) {
        cJSON_AddTrueToObject(tree, "ends_deadline");
    }
    if (params->absent != ABSENCE_NO_LIST) {
        cJSON_AddStringToObject(tree, "absent", absence_evidence_name(params->absent));
    }
    if (params->reason[0] != '\0') {
        cJSON_AddStringToObject(tree, "reason", params->reason);
    }
    if (params->envs != NULL) {
        cJSON_AddItemToObject(tree, "envs", cJSON_Duplicate(params->envs, true));
    }
    if (params->network != NULL) {
        cJSON_AddItemToObject(tree, "network", cJSON_Duplicate(params->network, true));
    }
    if (params->no_internet) {
        cJSON_AddTrueToObject(tree, "no_internet");
    }
    if (params->place_count > 0) {
        cJSON *list = cJSON_AddArrayToObject(tree, "places");

        for (int i = 0; i < params->place_count; i++) {
            cJSON *item = cJSON_CreateObject();

            cJSON_AddStringToObject(item, "provider", params->places[i].provider);
            if (params->places[i].template_id[0] != '\0') {
                cJSON_AddStringToObject(item, "template", params->places[i].template_id);
            }
            cJSON_AddItemToArray(list, item);
        }
    }
    /* envs are bounded where they are accepted; their sum stays far below this */
    strbuf_init(&text, 64U << 20);
    json_print(tree, &text);
    cJSON_Delete(tree);
    return strbuf_take(&text);
}

void job_params_done(struct job_params *params)
{
    if (params != NULL) {
        cJSON_Delete(params->envs);
        cJSON_Delete(params->network);
        params->envs = params->network = NULL;
    }
}
