/* e2b_view - see e2b_view.h. */
#include "gateway/e2b/e2b_view.h"

#include <string.h>

#include "gateway/auth/api_key.h"
#include "gateway/work/lifecycle.h"

/* E2B's SDKs require a client id in the answer and never use it. */
#define CLIENT_ID "6532622b"

int e2b_get_visible(struct request *request, struct sandbox *ret, struct error *err)
{
    if (lifecycle_get(request, request->path_id, ret, err) < 0) {
        return -1;
    }
    if (ret->status == SANDBOX_CREATING || ret->status == SANDBOX_DELETING ||
        ret->status == SANDBOX_FAILED) {
        sandbox_done(ret);
        return error_set(err, ERR_SANDBOX_NOT_FOUND, "no such sandbox");
    }
    return 0;
}

static cJSON *basic(const struct request *request, const struct sandbox *sandbox)
{
    const char *alias =
        placement_name_of(request->gateway->placement, sandbox->provider, sandbox->template_id);
    cJSON *tree = cJSON_CreateObject();
    char id[UUID_PLAIN_BYTES];

    id_uuid_plain(sandbox->id, id);
    cJSON_AddStringToObject(tree, "templateID", sandbox->template_id);
    if (alias != NULL) {
        cJSON_AddStringToObject(tree, "alias", alias);
    }
    cJSON_AddStringToObject(tree, "sandboxID", id);
    cJSON_AddStringToObject(tree, "clientID", CLIENT_ID);
    cJSON_AddStringToObject(tree, "envdVersion",
                            sandbox->agent_version[0] != '\0' ? sandbox->agent_version
                                                              : E2B_OLDEST_ENVD);
    return tree;
}

/* The tokens reach into the sandbox: a key that may not run commands there does not get them. */
static int add_tokens(struct request *request, const struct sandbox *sandbox, cJSON *tree,
                      struct error *err)
{
    struct sandbox_tokens *tokens = request->gateway->sandbox_tokens;
    const struct principal *principal = &request->principal;
    char envd[SANDBOX_TOKEN_BYTES], traffic[SANDBOX_TOKEN_BYTES];

    if (principal->by_key && (principal->scopes & SCOPE_EXEC) == 0) {
        return 0;
    }
    if (sandbox_token_make(tokens, sandbox->id, SANDBOX_TOKEN_ENVD, envd, err) < 0 ||
        sandbox_token_make(tokens, sandbox->id, SANDBOX_TOKEN_TRAFFIC, traffic, err) < 0) {
        return -1;
    }
    cJSON_AddStringToObject(tree, "envdAccessToken", envd);
    cJSON_AddStringToObject(tree, "trafficAccessToken", traffic);
    return 0;
}

int e2b_view_sandbox(struct request *request, const struct sandbox *sandbox, cJSON **ret,
                     struct error *err)
{
    cJSON *tree = basic(request, sandbox);

    json_add_string_or_null(tree, "domain", request->gateway->sandbox_domain);
    if (add_tokens(request, sandbox, tree, err) < 0) {
        cJSON_Delete(tree);
        return -1;
    }
    *ret = tree;
    return 0;
}

static bool is_running(const struct sandbox *sandbox)
{
    return sandbox->status == SANDBOX_RUNNING;
}

static cJSON *metadata_of(const struct sandbox *sandbox)
{
    struct error ignored = ERROR_INIT; /* the database holds only what was checked */
    cJSON *metadata = NULL;

    if (sandbox->metadata_json != NULL) {
        metadata = json_parse(sandbox->metadata_json, strlen(sandbox->metadata_json), &ignored);
    }
    return metadata != NULL ? metadata : cJSON_CreateObject();
}

cJSON *e2b_view_listed(const struct request *request, const struct sandbox *sandbox,
                       const cJSON *sizes)
{
    static const char *const size_names[] = {"cpuCount", "memoryMB", "diskSizeMB"};
    cJSON *tree = basic(request, sandbox);

    json_add_time(tree, "startedAt",
                  sandbox->started_at_ms > 0 ? sandbox->started_at_ms : sandbox->created_at_ms);
    /* of a paused one E2B tells when it was paused */
    json_add_time(tree, "endAt",
                  is_running(sandbox) || sandbox->stopped_at_ms == 0 ? sandbox->expires_at_ms
                                                                     : sandbox->stopped_at_ms);
    cJSON_AddStringToObject(tree, "state", is_running(sandbox) ? "running" : "paused");
    for (size_t i = 0; i < sizeof(size_names) / sizeof(size_names[0]); i++) {
        const cJSON *size = cJSON_GetObjectItemCaseSensitive(sizes, size_names[i]);

        cJSON_AddNumberToObject(tree, size_names[i], cJSON_IsNumber(size) ? size->valuedouble : 0);
    }
    cJSON_AddItemToObject(tree, "metadata", metadata_of(sandbox));
    return tree;
}

int e2b_view_detail(struct request *request, const struct sandbox *sandbox, const cJSON *sizes,
                    cJSON **ret, struct error *err)
{
    static const char *const told[] = {"allowInternetAccess", "network"};
    cJSON *tree = e2b_view_listed(request, sandbox, sizes), *lifecycle = cJSON_CreateObject();

    cJSON_AddTrueToObject(lifecycle, "autoResume");
    cJSON_AddStringToObject(lifecycle, "onTimeout",
                            sandbox->on_timeout == ON_TIMEOUT_PAUSE ? "pause" : "kill");
    cJSON_AddItemToObject(tree, "lifecycle", lifecycle);
    json_add_string_or_null(tree, "domain",
                            is_running(sandbox) ? request->gateway->sandbox_domain : NULL);
    for (size_t i = 0; i < sizeof(told) / sizeof(told[0]); i++) {
        const cJSON *value = cJSON_GetObjectItemCaseSensitive(sizes, told[i]);

        if (value != NULL) {
            cJSON_AddItemToObject(tree, told[i], cJSON_Duplicate(value, true));
        }
    }
    if (add_tokens(request, sandbox, tree, err) < 0) {
        cJSON_Delete(tree);
        return -1;
    }
    *ret = tree;
    return 0;
}
