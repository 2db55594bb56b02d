/*
 * agent - reads the one JSON object the host (or a test) configures the agent with.
 *
 * Owns: names, defaults and bounds of its fields. Does not own: where the text comes from.
 * Threads: once, before any other thread. Failure: ERR_INVALID or ERR_JSON, naming the field.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/json.h"
#include "deploy/sandbox-host/agent/agent.h"

#define MARKS_DIR "/run/e2b"

static char *copy_non_empty(const char *text)
{
    return text != NULL && text[0] != '\0' ? xstrdup(text) : NULL;
}

/* What envd tells every command, unless the sandbox was made with a value of its own. */
static void add_default_envs(struct agent_config *config)
{
    const char *const values[][2] = {
        {"E2B_SANDBOX", config->sandbox_id != NULL ? "true" : NULL},
        {"E2B_SANDBOX_ID", config->sandbox_id},
        {"E2B_TEMPLATE_ID", config->template_id},
    };

    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        if (values[i][1] != NULL &&
            cJSON_GetObjectItemCaseSensitive(config->envs, values[i][0]) == NULL) {
            cJSON_AddStringToObject(config->envs, values[i][0], values[i][1]);
        }
    }
}

static int write_mark(const char *name, const char *value, struct error *err)
{
    char path[64];

    snprintf(path, sizeof(path), MARKS_DIR "/.%s", name);
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0444);
    if (fd < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "%s", path);
    }
    const size_t length = strlen(value);
    const bool whole = write(fd, value, length) == (ssize_t)length;
    const int failure = errno;
    close(fd);
    return whole ? 0 : error_set_errno(err, ERR_INTERNAL, failure, "%s", path);
}

int agent_config_leave_marks(const struct agent_config *config, struct error *err)
{
    if (config->sandbox_id == NULL) {
        return 0;
    }
    if (mkdir(MARKS_DIR, 0755) != 0 && errno != EEXIST) {
        return error_set_errno(err, ERR_INTERNAL, errno, MARKS_DIR);
    }
    if (write_mark("E2B_SANDBOX", "true", err) != 0 ||
        write_mark("E2B_SANDBOX_ID", config->sandbox_id, err) != 0) {
        return -1;
    }
    return config->template_id != NULL ? write_mark("E2B_TEMPLATE_ID", config->template_id, err)
                                       : 0;
}

int agent_config_parse(struct agent_config *config, const char *text, size_t length,
                       struct error *err)
{
    const char *token = NULL, *user = NULL, *home = NULL, *workdir = NULL;
    const char *sandbox_id = NULL, *template_id = NULL;
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
        json_get_string(root, "sandbox_id", 128, NULL, &sandbox_id, err) != 0 ||
        json_get_string(root, "template_id", 256, NULL, &template_id, err) != 0 ||
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
    config->sandbox_id = copy_non_empty(sandbox_id);
    config->template_id = copy_non_empty(template_id);
    add_default_envs(config);
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
    free(config->sandbox_id);
    free(config->template_id);
    cJSON_Delete(config->envs);
    *config = (struct agent_config){.access_token = NULL};
}
