/* template - see template.h. */
#include "deploy/sandbox-host/sandbox/template.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "common/base/alloc.h"
#include "common/base/encode.h"
#include "common/base/strbuf.h"
#include "deploy/sandbox-host/isolation/etc.h"
#include "deploy/sandbox-host/isolation/files.h"
#include "deploy/sandbox-host/sandbox/template_archive.h"
#include "deploy/sandbox-host/sandbox/template_description.h"

#define BASE "base"

static const struct host_config *config;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct template *templates;

/* ---- the folder ---- */

static void in_folder(char out[PATH_MAX], const char *name, const char *suffix)
{
    if (config->templates == NULL ||
        snprintf(out, PATH_MAX, "%s/%s%s", config->templates, name, suffix) >= PATH_MAX) {
        out[0] = '\0';
    }
}

static void add_stamp(struct strbuf *text, const struct stat *status)
{
    strbuf_printf(text, "%lld.%09ld.%lld.", (long long)status->st_mtim.tv_sec,
                  status->st_mtim.tv_nsec, (long long)status->st_size);
}

/* What of `name` is there now, as a text that changes with it; "" = nothing. */
static void stamp_of(const char *name, char out[96])
{
    struct stat status;
    struct strbuf text;
    char path[PATH_MAX];

    strbuf_init(&text, 1024);
    in_folder(path, name, "");
    if (path[0] != '\0' && stat(path, &status) == 0 && S_ISDIR(status.st_mode)) {
        /* a folder's content may change without its time: its /etc is taken as it was */
        add_stamp(&text, &status);
    }
    if (template_archive_find(config->templates, name, path, &status)) {
        add_stamp(&text, &status);
    }
    in_folder(path, name, ".json");
    if (path[0] != '\0' && stat(path, &status) == 0) {
        add_stamp(&text, &status);
    }
    str_copy(out, 96, text.data);
    strbuf_done(&text);
}

/* ---- loading ---- */

void template_free(struct template *template)
{
    free(template->root);
    free(template->etc);
    free(template->image);
    free(template->start_command);
    free(template->ready_command);
    cJSON_Delete(template->description);
    free(template);
}

static int load(const char *name, const char *stamp, struct template **ret, struct error *err)
{
    struct template *template = xcalloc(1, sizeof(*template));
    struct stat status;
    char path[PATH_MAX];
    int result = 0;

    str_copy(template->id, sizeof(template->id), name);
    str_copy(template->stamp, sizeof(template->stamp), stamp);
    template->references = 1; /* the list's */
    in_folder(path, name, "");
    if (path[0] != '\0' && stat(path, &status) == 0 && S_ISDIR(status.st_mode)) {
        template->root = realpath(path, NULL);
    } else if (template_archive_find(config->templates, name, path, &status)) {
        result =
            template_archive_unpack(config->state_dir, name, path, &status, &template->root, err);
    }
    snprintf(path, sizeof(path), "%s/t/%s.etc", config->state_dir, name);
    template->etc = xstrdup(path);
    in_folder(path, name, ".json");
    if (result < 0 || template_description_read(template, path, err) < 0 ||
        etc_prepare(template->root, template->etc, err) < 0) {
        template_free(template);
        return -1;
    }
    *ret = template;
    return 0;
}

void template_let_go(struct template *template)
{
    if (--template->references == 0) {
        template_free(template);
    }
}

/* Brings the entry of `name` up to date with the folder. With the lock held. */
static int refresh(const char *name, struct error *err)
{
    struct template **at = &templates, *fresh = NULL, *old;
    char stamp[96];

    stamp_of(name, stamp);
    while (*at != NULL && strcmp((*at)->id, name) != 0) {
        at = &(*at)->next;
    }
    if (*at != NULL && strcmp((*at)->stamp, stamp) == 0) {
        return 0;
    }
    if ((stamp[0] != '\0' || strcmp(name, BASE) == 0) && load(name, stamp, &fresh, err) < 0) {
        return -1;
    }
    old = *at;
    if (old != NULL) {
        *at = old->next;
        template_let_go(old);
    }
    if (fresh != NULL) {
        fresh->next = templates;
        templates = fresh;
    }
    return 0;
}

/* The template a file of the folder belongs to; false: none. */
static bool name_of(const char *file, char out[TEMPLATE_NAME_BYTES])
{
    size_t length = strcspn(file, ".");

    if (!template_name_valid(file, length)) {
        return false;
    }
    memcpy(out, file, length);
    out[length] = '\0';
    return true;
}

static int refresh_all(struct error *err)
{
    char name[TEMPLATE_NAME_BYTES];
    struct dirent *entry;
    DIR *folder;
    int status = refresh(BASE, err);

    if (status < 0 || config->templates == NULL) {
        return status;
    }
    folder = opendir(config->templates);
    if (folder == NULL) {
        return error_set_errno(err, ERR_CONFIG, errno, "SANDBOX_HOST_TEMPLATES: %s",
                               config->templates);
    }
    while (status == 0 && (entry = readdir(folder)) != NULL) {
        if (name_of(entry->d_name, name)) {
            status = refresh(name, err);
        }
    }
    closedir(folder);
    return status;
}

int templates_init(const struct host_config *host_config, struct error *err)
{
    char folder[PATH_MAX];
    int status;

    config = host_config;
    snprintf(folder, sizeof(folder), "%s/t", config->state_dir);
    if (files_make_dir(folder, 0711, err) < 0) {
        return -1;
    }
    pthread_mutex_lock(&lock);
    status = refresh_all(err);
    pthread_mutex_unlock(&lock);
    return status;
}

int templates_refresh(struct error *err)
{
    int status;

    pthread_mutex_lock(&lock);
    status = refresh_all(err);
    pthread_mutex_unlock(&lock);
    return status;
}

void templates_done(void)
{
    pthread_mutex_lock(&lock);
    while (templates != NULL) {
        struct template *first = templates;

        templates = first->next;
        template_let_go(first);
    }
    pthread_mutex_unlock(&lock);
}

/* ---- use ---- */

void template_lock(void)
{
    pthread_mutex_lock(&lock);
}

void template_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

struct template **template_list(void)
{
    return &templates;
}

/* Whether the settings make it a name of base. */
static bool is_base_alias(const char *name)
{
    const size_t length = strlen(name);

    for (const char *at = config->base_aliases; at != NULL && *(at += strspn(at, ", ")) != '\0';
         at += strcspn(at, ", ")) {
        if (strcspn(at, ", ") == length && strncasecmp(at, name, length) == 0) {
            return true;
        }
    }
    return false;
}

struct template *template_find_saved(const char *name, const char *tag)
{
    char full[2 * TEMPLATE_NAME_BYTES];

    snprintf(full, sizeof(full), "%s:%s", name, tag);
    for (struct template *t = templates; t != NULL; t = t->next) {
        const cJSON *one;

        if (t->image == NULL) {
            continue;
        }
        if (strcmp(t->id, name) == 0) {
            return t;
        }
        cJSON_ArrayForEach(one, cJSON_GetObjectItemCaseSensitive(t->description, "names"))
        {
            if (strcmp(one->valuestring, full) == 0) {
                return t;
            }
        }
    }
    return NULL;
}

static struct template *find(const char *name, const char *tag)
{
    struct template *saved;

    for (struct template *t = templates; t != NULL; t = t->next) {
        if (strcmp(t->id, name) == 0) {
            return t;
        }
    }
    saved = template_find_saved(name, tag);
    if (saved != NULL) {
        return saved;
    }
    for (struct template *t = templates; t != NULL; t = t->next) {
        const cJSON *aliases = cJSON_GetObjectItemCaseSensitive(t->description, "aliases"), *alias;

        cJSON_ArrayForEach(alias, aliases)
        {
            if (strcmp(alias->valuestring, name) == 0) {
                return t;
            }
        }
    }
    return is_base_alias(name) && strcmp(name, BASE) != 0 ? find(BASE, TEMPLATE_TAG) : NULL;
}

int template_take(const char *reference, const struct template **ret, struct error *err)
{
    char name[TEMPLATE_NAME_BYTES], tag[TEMPLATE_NAME_BYTES];
    struct template *found;
    int status = 0;

    if (template_normalize(reference, name, err) < 0) {
        return -1;
    }
    template_name_tag(reference, tag);
    pthread_mutex_lock(&lock);
    found = find(name, tag);
    if (found == NULL) {
        status = refresh_all(err);
    } else if (found->image == NULL) {
        /* by its id: name may be an alias */
        str_copy(name, sizeof(name), found->id);
        status = refresh(name, err);
    }
    if (status == 0) {
        found = find(name, tag);
        if (found == NULL && config->any_template) {
            found = find(BASE, TEMPLATE_TAG);
        }
        if (found == NULL) {
            status = error_set(err, ERR_NOT_FOUND, "template '%.64s' not found", name);
        } else {
            found->references++;
            *ret = found;
        }
    }
    pthread_mutex_unlock(&lock);
    return status;
}

void template_release(const struct template *template)
{
    if (template != NULL) {
        pthread_mutex_lock(&lock);
        template_let_go((struct template *)template);
        pthread_mutex_unlock(&lock);
    }
}
