/*
 * api_template - templates as E2B's API lists, names and deletes them; snapshots and forks.
 *
 * A snapshot is the disk alone, and the answers that make one say so ("memory": false): a sandbox
 * made from it starts its processes anew.
 */
#include "deploy/sandbox-host/api/api_template.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/encode.h"
#include "deploy/sandbox-host/api/api_build.h"
#include "deploy/sandbox-host/api/api_names.h"
#include "deploy/sandbox-host/isolation/disk.h"
#include "deploy/sandbox-host/sandbox/sandbox_copy.h"
#include "deploy/sandbox-host/sandbox/saved.h"
#include "deploy/sandbox-host/sandbox/template.h"

enum {
    PARTS_MAX = 8,
    PATH_BYTES = 1024,
    LIST_MAX = 100,
    FORKS_MAX = 100,
    FORK_TIMEOUT_S = 15,
};

/* A path in its parts, decoded. */
struct parts {
    char text[PATH_BYTES];
    const char *list[PARTS_MAX];
    int count;
};

static bool split(const char *path, struct parts *ret)
{
    char *save = NULL;

    *ret = (struct parts){.count = 0};
    if (strlen(path) >= sizeof(ret->text)) {
        return false;
    }
    str_copy(ret->text, sizeof(ret->text), path);
    for (char *part = strtok_r(ret->text, "/", &save); part != NULL;
         part = strtok_r(NULL, "/", &save)) {
        if (ret->count == PARTS_MAX || percent_decode(part, false) < 0) {
            return false;
        }
        ret->list[ret->count++] = part;
    }
    return ret->count > 0;
}

bool api_is_template_path(const char *path)
{
    static const char *const places[] = {"/templates", "/v2/templates", "/v3/templates",
                                         "/snapshots"};

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        const size_t n = strlen(places[i]);

        if (strncmp(path, places[i], n) == 0 && (path[n] == '\0' || path[n] == '/')) {
            return true;
        }
    }
    return false;
}

/* ---- how a template looks ---- */

static const char *build_of(const struct template *template)
{
    const char *id = json_text(template->description, "buildID");

    return template->image != NULL && *id != '\0' ? id : template->id;
}

/* Files of this machine have no time of their own that means anything to a client. */
static int64_t created_of(const struct template *template)
{
    static int64_t first_asked_ms;

    if (first_asked_ms == 0) {
        first_asked_ms = clock_wall_ms();
    }
    return template->created_ms != 0 ? template->created_ms : first_asked_ms;
}

static void add_size(cJSON *tree, const struct call *call)
{
    const struct host_config *config = call->config;

    json_add_int64(tree, "cpuCount", (config->cpu_percent + 99) / 100);
    json_add_int64(tree, "memoryMB", config->memory_bytes >> 20);
    json_add_int64(tree, "diskSizeMB", disk_mode() == DISK_FOLDER ? 0 : config->disk_bytes >> 20);
    cJSON_AddStringToObject(tree, "envdVersion", API_ENVD_VERSION);
}

static cJSON *basic_template_tree(const struct template *template)
{
    cJSON *tree = cJSON_CreateObject();

    cJSON_AddStringToObject(tree, "templateID", template->id);
    cJSON_AddBoolToObject(tree, "public", false);
    cJSON_AddItemToObject(tree, "aliases", api_aliases_tree(template));
    cJSON_AddItemToObject(tree, "names", api_names_tree(template));
    json_add_time(tree, "createdAt", created_of(template));
    json_add_time(tree, "updatedAt", created_of(template));
    cJSON_AddNullToObject(tree, "lastSpawnedAt");
    json_add_int64(tree, "spawnCount", 0);
    return tree;
}

static cJSON *template_tree(const struct call *call, const struct template *template)
{
    cJSON *tree = basic_template_tree(template);

    cJSON_AddStringToObject(tree, "buildID", build_of(template));
    cJSON_AddStringToObject(tree, "buildStatus", "ready");
    json_add_int64(tree, "buildCount", 1);
    cJSON_AddNullToObject(tree, "createdBy");
    add_size(tree, call);
    return tree;
}

static cJSON *snapshot_tree(const struct template *template)
{
    cJSON *tree = cJSON_CreateObject(), *names = api_names_tree(template);
    const cJSON *first = cJSON_GetArrayItem(names, 0);
    char id[TEMPLATE_NAME_BYTES + 16];

    snprintf(id, sizeof(id), "%s:" TEMPLATE_TAG, template->id);
    cJSON_AddStringToObject(tree, "snapshotID", first != NULL ? first->valuestring : id);
    cJSON_AddItemToObject(tree, "names", names);
    cJSON_AddBoolToObject(tree, "memory", false);
    return tree;
}

/* ---- lists ---- */

static bool is_snapshot(const struct template *template)
{
    return template->image != NULL && *json_text(template->description, "sandboxID") != '\0';
}

static bool snapshot_matches(const struct template *template, const char *sandbox_id,
                             const char *name)
{
    return is_snapshot(template) &&
           (*sandbox_id == '\0' ||
            strcmp(json_text(template->description, "sandboxID"), sandbox_id) == 0) &&
           (*name == '\0' || strcmp(template->alias, name) == 0 || strcmp(template->id, name) == 0);
}

/* One page: `limit` entries from the number `nextToken` on. */
static void answer_page(struct call *call, cJSON *all)
{
    struct error err = ERROR_INIT;
    int64_t limit, from;
    char headers[64] = "";
    cJSON *page;

    if (api_query_number(call, "limit", LIST_MAX, 1, LIST_MAX, &limit, &err) < 0 ||
        api_query_number(call, "nextToken", 0, 0, INT32_MAX, &from, &err) < 0) {
        cJSON_Delete(all);
        api_send_failure(call->http, &err);
        return;
    }
    page = cJSON_CreateArray();
    for (int64_t i = 0; i < from + limit && all->child != NULL; i++) {
        cJSON *item = cJSON_DetachItemFromArray(all, 0);

        if (i >= from) {
            cJSON_AddItemToArray(page, item);
        } else {
            cJSON_Delete(item);
        }
    }
    if (all->child != NULL) {
        snprintf(headers, sizeof(headers), "X-Next-Token: %lld\r\n", (long long)(from + limit));
    }
    cJSON_Delete(all);
    api_send_tree(call->http, 200, headers, page);
}

static void list_templates(struct call *call, bool paged)
{
    struct error broken = ERROR_INIT; /* the others are there */
    cJSON *all = cJSON_CreateArray();

    (void)!templates_refresh(&broken);
    template_lock();
    for (const struct template *t = *template_list(); t != NULL; t = t->next) {
        if (!is_snapshot(t)) {
            cJSON_InsertItemInArray(all, 0, template_tree(call, t));
        }
    }
    template_unlock();
    if (paged) {
        answer_page(call, all);
    } else {
        api_send_tree(call->http, 200, "", all);
    }
}

static void list_snapshots(struct call *call)
{
    char sandbox_id[SANDBOX_ID_BYTES] = "", given[TEMPLATE_NAME_BYTES] = "",
         name[TEMPLATE_NAME_BYTES];
    struct error err = ERROR_INIT;
    cJSON *all;

    name[0] = '\0';
    if (http_query_param(call->http, "sandboxID", sandbox_id, sizeof(sandbox_id)) < 0 ||
        http_query_param(call->http, "name", given, sizeof(given)) < 0 ||
        (given[0] != '\0' && template_normalize(given, name, &err) < 0)) {
        api_send_error(call->http, 400, "sandboxID or name is not valid");
        return;
    }
    sandbox_id[strcspn(sandbox_id, "-")] = '\0';
    all = cJSON_CreateArray();
    template_lock();
    for (const struct template *t = *template_list(); t != NULL; t = t->next) {
        if (snapshot_matches(t, sandbox_id, name)) {
            cJSON_AddItemToArray(all, snapshot_tree(t)); /* the newest are first */
        }
    }
    template_unlock();
    answer_page(call, all);
}

/* ---- one template ---- */

static void get_alias(struct call *call, const char *alias)
{
    const struct template *template;
    struct error err = ERROR_INIT;
    cJSON *tree;

    if (api_take_exactly(alias, &template, &err) < 0) {
        api_send_failure(call->http, &err);
        return;
    }
    tree = cJSON_CreateObject();
    cJSON_AddStringToObject(tree, "templateID", template->id);
    cJSON_AddBoolToObject(tree, "public", false);
    template_release(template);
    api_send_tree(call->http, 200, "", tree);
}

static void get_template(struct call *call, const char *reference)
{
    const struct template *template;
    struct error err = ERROR_INIT;
    cJSON *tree, *build;

    if (api_take_exactly(reference, &template, &err) < 0) {
        api_send_failure(call->http, &err);
        return;
    }
    tree = basic_template_tree(template);
    build = cJSON_CreateObject();
    cJSON_AddStringToObject(build, "buildID", build_of(template));
    cJSON_AddStringToObject(build, "status", "ready");
    json_add_time(build, "createdAt", created_of(template));
    json_add_time(build, "updatedAt", created_of(template));
    json_add_time(build, "finishedAt", created_of(template));
    add_size(build, call);
    cJSON_AddItemToArray(cJSON_AddArrayToObject(tree, "builds"), build);
    template_release(template);
    api_send_tree(call->http, 200, "", tree);
}

static void get_tags(struct call *call, const char *reference)
{
    cJSON *tree = cJSON_CreateArray();
    struct error err = ERROR_INIT;
    char name[TEMPLATE_NAME_BYTES];

    if (template_normalize(reference, name, &err) < 0) {
        cJSON_Delete(tree);
        api_send_failure(call->http, &err);
        return;
    }
    template_lock();
    for (const struct template *t = *template_list(); t != NULL; t = t->next) {
        cJSON *names = api_names_tree(t);
        const cJSON *one;

        cJSON_ArrayForEach(one, names)
        {
            const char *colon = strchr(one->valuestring, ':');
            const size_t length = strcspn(one->valuestring, ":");

            if ((strlen(name) == length && strncmp(one->valuestring, name, length) == 0) ||
                strcmp(t->id, name) == 0) {
                cJSON *tag = cJSON_CreateObject();

                cJSON_AddStringToObject(tag, "tag", colon != NULL ? colon + 1 : TEMPLATE_TAG);
                cJSON_AddStringToObject(tag, "buildID", build_of(t));
                json_add_time(tag, "createdAt", created_of(t));
                cJSON_AddItemToArray(tree, tag);
            }
        }
        cJSON_Delete(names);
    }
    template_unlock();
    if (tree->child == NULL) {
        cJSON_Delete(tree);
        api_send_error(call->http, 404, "template not found");
        return;
    }
    api_send_tree(call->http, 200, "", tree);
}

static void change_tags(struct call *call)
{
    const bool add = strcmp(http_method(call->http), "POST") == 0;
    struct error err = ERROR_INIT;
    char build_id[64] = "";
    const char *target;
    const cJSON *tags;
    cJSON *tree;

    if (json_get_string_req(call->body, add ? "target" : "name", 1, TEMPLATE_NAME_BYTES, &target,
                            &err) < 0 ||
        api_read_tags(call->body, true, &tags, &err) < 0 ||
        (add ? saved_tag(target, tags, build_id, &err) : saved_untag(target, tags, &err)) < 0) {
        api_send_failure(call->http, &err);
        return;
    }
    if (!add) {
        http_respond(call->http, 204, NULL, "", "", 0);
        return;
    }
    tree = cJSON_CreateObject();
    cJSON_AddItemToObject(tree, "tags", cJSON_Duplicate(tags, true));
    cJSON_AddStringToObject(tree, "buildID", build_id);
    api_send_tree(call->http, 201, "", tree);
}

static void delete_template(struct call *call, const char *reference)
{
    struct error err = ERROR_INIT;

    if (saved_delete(reference, &err) < 0) {
        api_send_failure(call->http, &err);
    } else {
        http_respond(call->http, 204, NULL, "", "", 0);
    }
}

void api_templates(struct call *call)
{
    const char *method = http_method(call->http);
    const bool get = strcmp(method, "GET") == 0;
    struct error err = ERROR_INIT;
    struct parts parts;
    const char **part = parts.list;

    if (!split(http_path(call->http), &parts)) {
        api_send_error(call->http, 400, "the path is not valid");
        return;
    }
    if (part[0][0] == 'v') {
        part++; /* a version; what differs is said below */
        parts.count--;
    }
    if (strcmp(method, "PUT") != 0 && api_read_body(call, &err) < 0) {
        api_send_failure(call->http, &err);
        return;
    }
    if (api_build(call, part, parts.count)) {
        return;
    }
    if (strcmp(part[0], "snapshots") == 0) {
        if (get && parts.count == 1) {
            list_snapshots(call);
        } else {
            api_send_error(call->http, parts.count == 1 ? 405 : 404, "not found");
        }
    } else if (get && parts.count == 1) {
        list_templates(call, part != parts.list);
    } else if (get && parts.count == 3 && strcmp(part[1], "aliases") == 0) {
        get_alias(call, part[2]);
    } else if (!get && parts.count == 2 && strcmp(part[1], "tags") == 0) {
        change_tags(call);
    } else if (get && parts.count == 3 && strcmp(part[2], "tags") == 0) {
        get_tags(call, part[1]);
    } else if (get && parts.count == 2) {
        get_template(call, part[1]);
    } else if (strcmp(method, "DELETE") == 0 && parts.count == 2) {
        delete_template(call, part[1]);
    } else {
        api_send_error(call->http, 501, "this host has no such call of templates");
    }
}

/* ---- snapshots and forks ---- */

/* What a snapshot's sandboxes start with, from the template of the sandbox it was taken of. */
static int commit_snapshot(const char *id, const struct sandbox_view *view, const char *name,
                           const char *tag, struct error *err)
{
    struct saved_about about = {.id = id,
                                .base = view->base_id,
                                .name = name,
                                .sandbox_id = view->id,
                                .ready_timeout_ms = 1};
    cJSON *tags = cJSON_CreateStringArray(&tag, 1);
    const struct template *template;
    struct error gone = ERROR_INIT;
    int status;

    if (template_take(view->template_id, &template, &gone) < 0 &&
        template_take(view->base_id, &template, err) < 0) {
        cJSON_Delete(tags);
        return -1;
    }
    about.tags = tags;
    about.start_command = template->start_command;
    about.ready_command = template->ready_command;
    about.ready_port = template->ready_port;
    about.ready_timeout_ms = template->ready_timeout_ms;
    about.user = template->user;
    about.workdir = template->workdir;
    about.envs = template->envs;
    about.mounts = template->mounts;
    status = saved_commit(&about, err);
    template_release(template);
    cJSON_Delete(tags);
    return status;
}

void api_snapshot(struct call *call)
{
    char id[SAVED_ID_BYTES], image[SAVED_PATH_BYTES], name[TEMPLATE_NAME_BYTES],
        tag[TEMPLATE_NAME_BYTES] = TEMPLATE_TAG;
    struct error err = ERROR_INIT;
    const char *given = NULL;
    struct sandbox_view view;
    const struct template *made;
    cJSON *tree;
    int status;

    if (json_get_string(call->body, "name", TEMPLATE_NAME_BYTES, NULL, &given, &err) < 0 ||
        (given != NULL && api_check_name(given, name, tag, &err) < 0) ||
        saved_begin(id, image, &err) < 0) {
        api_send_failure(call->http, &err);
        return;
    }
    status = sandbox_copy_disk(call->id, image, &view, &err);
    if (status == 0) {
        status = commit_snapshot(id, &view, given != NULL ? name : NULL, tag, &err);
        sandbox_view_done(&view);
    }
    if (status == 0) {
        status = template_take(id, &made, &err);
    }
    if (status < 0) {
        saved_abandon(id);
        api_send_failure(call->http, &err);
        return;
    }
    tree = snapshot_tree(made);
    template_release(made);
    api_send_tree(call->http, 201, "", tree);
}

static void fork_one(struct call *call, const struct sandbox_view *view, const char *image,
                     int64_t timeout_ms, cJSON *results)
{
    const struct sandbox_options options = {.template_id = view->template_id,
                                            .base_id = view->base_id,
                                            .disk = image,
                                            .timeout_ms = timeout_ms,
                                            .auto_pause = view->auto_pause,
                                            .auto_pause_drops = view->auto_pause_drops,
                                            .auto_resume = view->auto_resume,
                                            .secure = view->token[0] != '\0',
                                            .private_traffic = view->traffic_token[0] != '\0',
                                            .internet = view->internet,
                                            .metadata = view->metadata,
                                            .envs = view->envs,
                                            .network = view->network};
    cJSON *result = cJSON_CreateObject();
    struct error err = ERROR_INIT;
    struct sandbox_view made;

    if (sandbox_create(&options, &made, &err) == 0) {
        cJSON_AddItemToObject(result, "sandbox", api_sandbox_tree(call, &made));
        sandbox_view_done(&made);
    } else {
        cJSON *error = cJSON_AddObjectToObject(result, "error");

        json_add_int64(error, "code", error_code_http_status(err.code));
        cJSON_AddStringToObject(error, "message", err.message);
    }
    cJSON_AddBoolToObject(result, "memory", false);
    cJSON_AddItemToArray(results, result);
}

void api_fork(struct call *call)
{
    char id[SAVED_ID_BYTES], image[SAVED_PATH_BYTES];
    struct error err = ERROR_INIT;
    int64_t count, timeout_s;
    struct sandbox_view view;
    cJSON *results;

    if (json_get_int(call->body, "count", 1, FORKS_MAX, 1, &count, &err) < 0 ||
        json_get_int(call->body, "timeout", 1, INT32_MAX, FORK_TIMEOUT_S, &timeout_s, &err) < 0 ||
        saved_begin(id, image, &err) < 0) {
        api_send_failure(call->http, &err);
        return;
    }
    if (sandbox_copy_disk(call->id, image, &view, &err) < 0) {
        saved_abandon(id);
        api_send_failure(call->http, &err);
        return;
    }
    results = cJSON_CreateArray();
    for (int64_t i = 0; i < count; i++) {
        fork_one(call, &view, image, timeout_s * 1000, results);
    }
    sandbox_view_done(&view);
    saved_abandon(id);
    api_send_tree(call->http, 201, "", results);
}
