/*
 * record - what of a sandbox a restarted host must know, as JSON in the sandbox's folder.
 *
 * Written at each change of it, in one step. It holds the sandbox's tokens: mode 0600, in a folder
 * that no sandbox sees.
 */
#include <pthread.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/strbuf.h"
#include "deploy/sandbox-host/isolation/files.h"
#include "deploy/sandbox-host/sandbox/record.h"

enum { RECORD_MAX_BYTES = 64 << 20, RECORD_ENTRIES = 4096 };

static void path_of(char out[SPAWN_PATH_BYTES + 16], const char *id)
{
    char dir[SPAWN_PATH_BYTES];

    spawn_dir(dir, id);
    snprintf(out, SPAWN_PATH_BYTES + 16, "%s/record.json", dir);
}

static void add_process(cJSON *tree, const char *name, const struct spawn_process *process)
{
    cJSON *one = cJSON_AddObjectToObject(tree, name);

    json_add_int64(one, "pid", process->pid);
    json_add_int64(one, "startAt", process->start_at);
}

int record_write(const struct sandbox *sandbox, struct error *err)
{
    const struct sandbox_view *view = &sandbox->view;
    cJSON *tree = cJSON_CreateObject();
    char path[SPAWN_PATH_BYTES + 16];
    struct strbuf text;
    int status;

    table_lock();
    cJSON_AddStringToObject(tree, "templateID", view->template_id);
    cJSON_AddStringToObject(tree, "alias", view->alias);
    cJSON_AddStringToObject(tree, "token", view->token);
    cJSON_AddStringToObject(tree, "trafficToken", view->traffic_token);
    cJSON_AddBoolToObject(tree, "paused", view->state == SANDBOX_PAUSED);
    cJSON_AddBoolToObject(tree, "autoPause", view->auto_pause);
    cJSON_AddBoolToObject(tree, "autoResume", view->auto_resume);
    cJSON_AddBoolToObject(tree, "autoPauseDrops", view->auto_pause_drops);
    cJSON_AddBoolToObject(tree, "cold", view->cold);
    cJSON_AddBoolToObject(tree, "explicitResume", view->explicit_resume);
    cJSON_AddBoolToObject(tree, "internal", view->internal);
    cJSON_AddStringToObject(tree, "baseID", view->base_id);
    json_add_int64(tree, "internet", view->internet);
    json_add_int64(tree, "startedMs", view->started_ms);
    json_add_int64(tree, "endMs", view->end_ms);
    json_add_int64(tree, "timeoutMs", sandbox->timeout_ms);
    json_add_int64(tree, "livedFromMs", sandbox->lived_from_ms);
    json_add_int64(tree, "uid", sandbox->uid);
    if (view->metadata != NULL) {
        cJSON_AddItemToObject(tree, "metadata", cJSON_Duplicate(view->metadata, true));
    }
    if (view->network != NULL) {
        cJSON_AddItemToObject(tree, "network", cJSON_Duplicate(view->network, true));
    }
    if (view->envs != NULL) {
        cJSON_AddItemToObject(tree, "envs", cJSON_Duplicate(view->envs, true));
    }
    table_unlock();
    add_process(tree, "wrapper", &sandbox->processes.wrapper);
    add_process(tree, "init", &sandbox->processes.init);
    strbuf_init(&text, RECORD_MAX_BYTES);
    path_of(path, view->id);
    status = json_print(tree, &text) < 0 ? error_set(err, ERR_LIMIT, "the record is too large")
                                         : files_write(path, text.data, text.length, 0600, err);
    cJSON_Delete(tree);
    strbuf_done(&text);
    return status;
}

static int get_text(const cJSON *tree, const char *field, char out[SANDBOX_TEXT_BYTES],
                    struct error *err)
{
    const char *text;

    if (json_get_string_req(tree, field, 0, SANDBOX_TEXT_BYTES - 1, &text, err) < 0) {
        return -1;
    }
    str_copy(out, SANDBOX_TEXT_BYTES, text);
    return 0;
}

static int get_process(const cJSON *tree, const char *name, struct spawn_process *ret,
                       struct error *err)
{
    const cJSON *one = cJSON_GetObjectItemCaseSensitive(tree, name);
    int64_t pid;

    if (json_get_int_req(one, "pid", 1, INT32_MAX, &pid, err) < 0 ||
        json_get_int_req(one, "startAt", 0, INT64_MAX, &ret->start_at, err) < 0) {
        return -1;
    }
    ret->pid = (pid_t)pid;
    return 0;
}

static int read_tree(const cJSON *tree, struct sandbox *sandbox, struct error *err)
{
    struct sandbox_view *view = &sandbox->view;
    const cJSON *metadata, *network, *envs;
    int64_t internet, uid;
    bool paused;

    if (get_text(tree, "templateID", view->template_id, err) < 0 ||
        get_text(tree, "alias", view->alias, err) < 0 ||
        get_text(tree, "baseID", view->base_id, err) < 0 ||
        get_text(tree, "token", view->token, err) < 0 ||
        get_text(tree, "trafficToken", view->traffic_token, err) < 0 ||
        json_get_bool(tree, "paused", false, &paused, err) < 0 ||
        json_get_bool(tree, "autoPause", false, &view->auto_pause, err) < 0 ||
        json_get_bool(tree, "autoResume", false, &view->auto_resume, err) < 0 ||
        json_get_bool(tree, "autoPauseDrops", false, &view->auto_pause_drops, err) < 0 ||
        json_get_bool(tree, "cold", false, &view->cold, err) < 0 ||
        json_get_bool(tree, "explicitResume", false, &view->explicit_resume, err) < 0 ||
        json_get_bool(tree, "internal", false, &view->internal, err) < 0 ||
        json_get_string_map(tree, "envs", RECORD_ENTRIES, RECORD_MAX_BYTES, RECORD_MAX_BYTES, &envs,
                            err) < 0 ||
        json_get_int_req(tree, "internet", 0, SANDBOX_INTERNET_NO, &internet, err) < 0 ||
        json_get_int_req(tree, "startedMs", 0, INT64_MAX, &view->started_ms, err) < 0 ||
        json_get_int_req(tree, "endMs", 0, INT64_MAX, &view->end_ms, err) < 0 ||
        json_get_int_req(tree, "timeoutMs", 0, INT64_MAX, &sandbox->timeout_ms, err) < 0 ||
        json_get_int_req(tree, "livedFromMs", 0, INT64_MAX, &sandbox->lived_from_ms, err) < 0 ||
        json_get_int_req(tree, "uid", 0, UINT32_MAX, &uid, err) < 0 ||
        json_get_string_map(tree, "metadata", RECORD_ENTRIES, RECORD_MAX_BYTES, RECORD_MAX_BYTES,
                            &metadata, err) < 0 ||
        (!view->cold && (get_process(tree, "wrapper", &sandbox->processes.wrapper, err) < 0 ||
                         get_process(tree, "init", &sandbox->processes.init, err) < 0))) {
        return -1;
    }
    view->state = paused ? SANDBOX_PAUSED : SANDBOX_RUNNING;
    view->internet = (enum sandbox_internet)internet;
    sandbox->uid = (uid_t)uid;
    network = cJSON_GetObjectItemCaseSensitive(tree, "network");
    view->metadata = metadata != NULL ? cJSON_Duplicate(metadata, true) : NULL;
    view->envs = envs != NULL ? cJSON_Duplicate(envs, true) : NULL;
    view->network = network != NULL ? cJSON_Duplicate(network, true) : NULL;
    return 0;
}

int record_read(const char *id, struct sandbox *sandbox, struct error *err)
{
    char path[SPAWN_PATH_BYTES + 16];
    struct strbuf text;
    cJSON *tree;
    int status;

    path_of(path, id);
    strbuf_init(&text, RECORD_MAX_BYTES);
    status = files_read(path, &text, err);
    if (status == 0) {
        tree = json_parse(text.data, text.length, err);
        status = tree == NULL ? -1 : read_tree(tree, sandbox, err);
        cJSON_Delete(tree);
    }
    strbuf_done(&text);
    if (status == 0) {
        str_copy(sandbox->view.id, sizeof(sandbox->view.id), id);
    }
    return status;
}
