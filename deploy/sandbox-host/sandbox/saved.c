/* saved - see saved.h. */
#include "deploy/sandbox-host/sandbox/saved.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/id.h"
#include "common/base/log.h"
#include "deploy/sandbox-host/isolation/files.h"

enum { ABOUT_MAX_BYTES = 4 << 20, ID_RANDOM = 20, TEXT_MAX_BYTES = 65536, ENTRIES_MAX = 1024 };
#define UNFINISHED ".new"

static const struct host_config *config;

static void folder_of(char out[SAVED_PATH_BYTES], const char *id, const char *suffix)
{
    snprintf(out, SAVED_PATH_BYTES, "%.60s/i/%.*s%s", config->state_dir, SAVED_ID_BYTES, id,
             suffix);
}

/* ---- about.json ---- */

static int write_about(const char *folder, const cJSON *tree, struct error *err)
{
    char path[SAVED_PATH_BYTES + 16];
    struct strbuf text;
    int status;

    strbuf_init(&text, ABOUT_MAX_BYTES);
    snprintf(path, sizeof(path), "%s/about.json", folder);
    status = json_print(tree, &text) < 0 ? error_set(err, ERR_LIMIT, "the template is too large")
                                         : files_write(path, text.data, text.length, 0600, err);
    strbuf_done(&text);
    return status;
}

static int read_fields(struct template *template, struct error *err)
{
    const cJSON *tree = template->description;
    const char *base, *start, *ready;
    int64_t port;

    if (json_get_string_req(tree, "base", 1, TEMPLATE_NAME_BYTES - 1, &base, err) < 0 ||
        json_get_string(tree, "startCommand", TEXT_MAX_BYTES, NULL, &start, err) < 0 ||
        json_get_string(tree, "readyCommand", TEXT_MAX_BYTES, NULL, &ready, err) < 0 ||
        json_get_string(tree, "user", TEMPLATE_NAME_BYTES, NULL, &template->user, err) < 0 ||
        json_get_string(tree, "workdir", TEXT_MAX_BYTES, NULL, &template->workdir, err) < 0 ||
        json_get_int(tree, "readyPort", 0, 65535, 0, &port, err) < 0 ||
        json_get_int_req(tree, "readyTimeoutMs", 1, INT32_MAX, &template->ready_timeout_ms, err) <
            0 ||
        json_get_int_req(tree, "createdMs", 0, INT64_MAX, &template->created_ms, err) < 0 ||
        json_get_string_map(tree, "envs", ENTRIES_MAX, ABOUT_MAX_BYTES, ABOUT_MAX_BYTES,
                            &template->envs, err) < 0 ||
        json_get_string_map(tree, "mounts", ENTRIES_MAX, ABOUT_MAX_BYTES, ABOUT_MAX_BYTES,
                            &template->mounts, err) < 0) {
        return -1;
    }
    str_copy(template->base, sizeof(template->base), base);
    template->start_command = start != NULL ? xstrdup(start) : NULL;
    template->ready_command = ready != NULL ? xstrdup(ready) : NULL;
    template->ready_port = (int)port;
    return 0;
}

/* The system below it is that of a template of the folder, which must be there. */
static int read_base(struct template *template, struct error *err)
{
    const struct template *base;

    if (template_take(template->base, &base, err) < 0) {
        return error_prefix(err, "the template below it");
    }
    template->root = base->root != NULL ? xstrdup(base->root) : NULL;
    template->etc = xstrdup(base->etc);
    template_release(base);
    return 0;
}

static const cJSON *names_of(const struct template *template)
{
    return cJSON_GetObjectItemCaseSensitive(template->description, "names");
}

/* The first name, without its tag. */
static void set_alias(struct template *template)
{
    const cJSON *first = cJSON_GetArrayItem(names_of(template), 0);
    const char *text = cJSON_IsString(first) ? first->valuestring : "";

    snprintf(template->alias, sizeof(template->alias), "%.*s", (int)strcspn(text, ":"), text);
}

static int load(const char *id, struct template **ret, struct error *err)
{
    struct template *template = xcalloc(1, sizeof(*template));
    char folder[SAVED_PATH_BYTES], path[SAVED_PATH_BYTES + 16];
    struct strbuf text;
    int status;

    folder_of(folder, id, "");
    snprintf(path, sizeof(path), "%s/about.json", folder);
    str_copy(template->id, sizeof(template->id), id);
    template->references = 1;
    strbuf_init(&text, ABOUT_MAX_BYTES);
    status = files_read(path, &text, err);
    if (status == 0) {
        template->description = json_parse(text.data, text.length, err);
        status = template->description == NULL || read_fields(template, err) < 0 ||
                         read_base(template, err) < 0
                     ? -1
                     : 0;
    }
    strbuf_done(&text);
    if (status < 0) {
        template_free(template);
        return -1;
    }
    snprintf(path, sizeof(path), "%s/disk.img", folder);
    template->image = xstrdup(path);
    set_alias(template);
    *ret = template;
    return 0;
}

static void enlist(struct template *template)
{
    struct template **list;

    template_lock();
    list = template_list();
    template->next = *list;
    *list = template;
    template_unlock();
}

int saved_init(const struct host_config *host_config, struct error *err)
{
    char all[SAVED_PATH_BYTES];
    struct dirent *entry;
    DIR *folder;

    config = host_config;
    folder_of(all, "", "");
    if (files_make_dir(all, 0700, err) < 0) {
        return -1;
    }
    folder = opendir(all);
    if (folder == NULL) {
        return error_set_errno(err, ERR_CONFIG, errno, "%s", all);
    }
    while ((entry = readdir(folder)) != NULL) {
        struct error failure = ERROR_INIT;
        struct template *template;

        if (entry->d_name[0] == '.' || strlen(entry->d_name) >= SAVED_ID_BYTES) {
            continue;
        }
        if (strstr(entry->d_name, UNFINISHED) != NULL) {
            saved_abandon(entry->d_name); /* its host ended while it was made */
        } else if (load(entry->d_name, &template, &failure) == 0) {
            enlist(template);
        } else {
            log_event(LOG_ERROR, "template.not_read", LOG_S("template", entry->d_name),
                      LOG_S("why", failure.message));
        }
    }
    closedir(folder);
    return 0;
}

/* ---- making one ---- */

int saved_begin(char id[SAVED_ID_BYTES], char image[SAVED_PATH_BYTES], struct error *err)
{
    char folder[SAVED_PATH_BYTES];

    id_random_alnum(id, ID_RANDOM - 4); /* leaves room for the suffix */
    folder_of(folder, id, UNFINISHED);
    if (files_make_dir(folder, 0700, err) < 0) {
        return -1;
    }
    if (snprintf(image, SAVED_PATH_BYTES, "%.140s/disk.img", folder) >= SAVED_PATH_BYTES) {
        return error_set(err, ERR_CONFIG, "%s: path too long", folder);
    }
    return 0;
}

void saved_abandon(const char *id)
{
    struct error left = ERROR_INIT;
    char folder[SAVED_PATH_BYTES];

    folder_of(folder, id, strstr(id, UNFINISHED) != NULL ? "" : UNFINISHED);
    if (files_remove_tree(folder, &left) < 0) { /* the next start tries again */
        log_error(LOG_WARN, "template.not_removed", &left);
    }
}

static void add_or_skip(cJSON *tree, const char *field, const char *value)
{
    if (value != NULL) {
        cJSON_AddStringToObject(tree, field, value);
    }
}

static void add_name(cJSON *names, const char *name, const char *tag)
{
    char full[2 * TEMPLATE_NAME_BYTES];

    snprintf(full, sizeof(full), "%s:%s", name, tag);
    cJSON_AddItemToArray(names, cJSON_CreateString(full));
}

static cJSON *about_tree(const struct saved_about *about)
{
    cJSON *tree = cJSON_CreateObject(), *names;
    const cJSON *tag;

    cJSON_AddStringToObject(tree, "base", about->base);
    names = cJSON_AddArrayToObject(tree, "names");
    cJSON_ArrayForEach(tag, about->tags)
    {
        if (about->name != NULL) {
            add_name(names, about->name, tag->valuestring);
        }
    }
    if (about->name != NULL && cJSON_GetArraySize(about->tags) == 0) {
        add_name(names, about->name, TEMPLATE_TAG);
    }
    add_or_skip(tree, "sandboxID", about->sandbox_id);
    add_or_skip(tree, "buildID", about->build_id);
    add_or_skip(tree, "startCommand", about->start_command);
    add_or_skip(tree, "readyCommand", about->ready_command);
    add_or_skip(tree, "user", about->user);
    add_or_skip(tree, "workdir", about->workdir);
    json_add_int64(tree, "readyPort", about->ready_port);
    json_add_int64(tree, "readyTimeoutMs", about->ready_timeout_ms);
    json_add_int64(tree, "createdMs", clock_wall_ms());
    if (about->envs != NULL) {
        cJSON_AddItemToObject(tree, "envs", cJSON_Duplicate(about->envs, true));
    }
    if (about->mounts != NULL) {
        cJSON_AddItemToObject(tree, "mounts", cJSON_Duplicate(about->mounts, true));
    }
    return tree;
}

/* With the lock held: whoever has the name has it no longer. Who has none left is told in
 * ret_nameless, else that stays as it is. */
static int take_name_away(const char *full, char ret_nameless[SAVED_ID_BYTES], struct error *err)
{
    for (struct template *t = *template_list(); t != NULL; t = t->next) {
        cJSON *names = (cJSON *)names_of(t);
        char folder[SAVED_PATH_BYTES];

        for (int i = 0; t->image != NULL && i < cJSON_GetArraySize(names); i++) {
            if (strcmp(cJSON_GetArrayItem(names, i)->valuestring, full) == 0) {
                cJSON_DeleteItemFromArray(names, i);
                set_alias(t);
                if (cJSON_GetArraySize(names) == 0) {
                    str_copy(ret_nameless, SAVED_ID_BYTES, t->id);
                }
                folder_of(folder, t->id, "");
                return write_about(folder, t->description, err);
            }
        }
    }
    return 0;
}

/* Whom the new one took its last name from cannot be named any more: it goes. */
static void remove_nameless(const char *lost, struct error *err)
{
    if (lost[0] != '\0' && saved_delete(lost, err) < 0) {
        log_error(LOG_WARN, "template.not_removed", err);
        *err = (struct error)ERROR_INIT;
    }
}

int saved_commit(const struct saved_about *about, struct error *err)
{
    char lost[SAVED_ID_BYTES] = "";
    char fresh[SAVED_PATH_BYTES], folder[SAVED_PATH_BYTES];
    cJSON *tree = about_tree(about);
    struct template *template;
    const cJSON *name;
    int status;

    folder_of(fresh, about->id, UNFINISHED);
    folder_of(folder, about->id, "");
    status = write_about(fresh, tree, err);
    if (status == 0 && rename(fresh, folder) < 0) {
        status = error_set_errno(err, ERR_INTERNAL, errno, "%s", folder);
    }
    if (status == 0) {
        status = load(about->id, &template, err);
    }
    if (status == 0) {
        template_lock();
        cJSON_ArrayForEach(name, cJSON_GetObjectItemCaseSensitive(tree, "names"))
        {
            status = take_name_away(name->valuestring, lost, err) < 0 ? -1 : status;
        }
        template_unlock();
        enlist(template);
        remove_nameless(lost, err);
    }
    cJSON_Delete(tree);
    return status;
}

/* ---- by name ---- */

/* With the lock held; the reference may name a tag. */
static struct template *find_reference(const char *reference, struct error *err)
{
    char name[TEMPLATE_NAME_BYTES], tag[TEMPLATE_NAME_BYTES] = TEMPLATE_TAG;
    const char *colon = strchr(reference, ':');
    struct template *found;

    if (template_normalize(reference, name, err) < 0) {
        return NULL;
    }
    if (colon != NULL) {
        str_copy(tag, sizeof(tag), colon + 1);
    }
    found = template_find_saved(name, tag);
    if (found == NULL) {
        error_set(err, ERR_NOT_FOUND, "template '%.64s' not found", reference);
    }
    return found;
}

int saved_delete(const char *reference, struct error *err)
{
    struct template *found, **at = template_list();
    char folder[SAVED_PATH_BYTES] = "";
    const struct template *other;

    template_lock();
    found = find_reference(reference, err);
    while (found != NULL && *at != NULL && *at != found) {
        at = &(*at)->next;
    }
    if (found != NULL) {
        folder_of(folder, found->id, "");
        *at = found->next;
        template_let_go(found);
    }
    template_unlock();
    if (found != NULL) {
        return files_remove_tree(folder, err);
    }
    if (err->code == ERR_NOT_FOUND) {
        struct error none = ERROR_INIT;

        if (template_take(reference, &other, &none) == 0) {
            template_release(other);
            return error_set(err, ERR_INVALID,
                             "template '%.64s' is a file of this machine, not the API's to delete",
                             reference);
        }
    }
    return -1;
}

int saved_tag(const char *reference, const cJSON *tags, char build_id[64], struct error *err)
{
    char folder[SAVED_PATH_BYTES], full[2 * TEMPLATE_NAME_BYTES], nameless[SAVED_ID_BYTES];
    struct template *found;
    const cJSON *tag;
    int status = 0;

    template_lock();
    found = find_reference(reference, err);
    const cJSON *given = found != NULL ? tags : NULL;

    cJSON_ArrayForEach(tag, given)
    {
        cJSON *names = (cJSON *)names_of(found);
        char name[TEMPLATE_NAME_BYTES];

        str_copy(name, sizeof(name), found->alias[0] != '\0' ? found->alias : found->id);
        snprintf(full, sizeof(full), "%s:%s", name, tag->valuestring);
        status = take_name_away(full, nameless, err) < 0 ? -1 : status;
        add_name(names, name, tag->valuestring);
    }
    if (found != NULL) {
        str_copy(build_id, 64, json_text(found->description, "buildID"));
        folder_of(folder, found->id, "");
        set_alias(found);
        status = status < 0 ? -1 : write_about(folder, found->description, err);
    }
    template_unlock();
    return found == NULL ? -1 : status;
}

int saved_untag(const char *reference, const cJSON *tags, struct error *err)
{
    char name[TEMPLATE_NAME_BYTES], full[2 * TEMPLATE_NAME_BYTES], nameless[SAVED_ID_BYTES];
    const cJSON *tag;
    int status = 0;

    if (template_normalize(reference, name, err) < 0) {
        return -1;
    }
    template_lock();
    cJSON_ArrayForEach(tag, tags)
    {
        snprintf(full, sizeof(full), "%s:%s", name, tag->valuestring);
        if (template_find_saved(name, tag->valuestring) == NULL) {
            status = error_set(err, ERR_NOT_FOUND, "template '%.128s' not found", full);
        } else if (status == 0) {
            status = take_name_away(full, nameless, err);
        }
    }
    template_unlock();
    return status;
}
