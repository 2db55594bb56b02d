/*
 * config - reads the one JSON object the host (or a test) configures the agent with.
 *
 * Owns: names, defaults and bounds of its fields. Does not own: where the text comes from.
 * Threads: once, before any other thread. Failure: ERR_INVALID or ERR_JSON, naming the field.
 */
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/json.h"
#include "deploy/sandbox-host/agent/agent.h"

static char *copy_non_empty(const char *text)
{
    return text != NULL && text[0] != '\0' ? xstrdup(text) : NULL;
}

int agent_config_parse(struct agent_config *config, const char *text, size_t length,
                       struct error *err)
{
    const char *token = NULL, *user = NULL, *home = NULL, *workdir = NULL;
    const cJSON *envs = NULL;
    int result = -1;

    *config = (struct agent_config){.access_token = NULL};
    cJSON *root = json_parse(text, length, err);
    if (root == NULL) {
        return -1;
    }
    if (!cJSON_IsObject(root)) {
        error_set(err, ERR_INVALID, "the configuration is not a JSON object");
        goto out;
    }
    if (json_get_string(root, "access_token", 512, NULL, &token, err) != 0 ||
        json_get_string(root, "user", 64, "user", &user, err) != 0 ||
        json_get_string(root, "home", PATH_MAX / 2, "/home/user", &home, err) != 0 ||
        json_get_string(root, "workdir", PATH_MAX / 2, NULL, &workdir, err) != 0 ||
        json_get_string_map(root, "envs", AGENT_MAX_ENVS, AGENT_MAX_NAME_BYTES, AGENT_MAX_ARG_BYTES,
                            &envs, err) != 0) {
        goto out;
    }
    config->access_token = copy_non_empty(token);
    config->user = xstrdup(user);
    config->home = xstrdup(home);
    config->workdir = copy_non_empty(workdir);
    config->envs = envs != NULL ? cJSON_Duplicate(envs, true) : cJSON_CreateObject();
    if (config->envs == NULL) {
        abort();
    }
    result = 0;
out:
    cJSON_Delete(root);
    return result;
}

void agent_config_done(struct agent_config *config)
{
    free(config->access_token);
    free(config->user);
    free(config->home);
    free(config->workdir);
    cJSON_Delete(config->envs);
    *config = (struct agent_config){.access_token = NULL};
}
