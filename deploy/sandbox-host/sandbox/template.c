/* template - see template.h. */
#include "deploy/sandbox-host/sandbox/template.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/encode.h"
#include "common/base/id.h"
#include "common/base/log.h"
#include "deploy/sandbox-host/isolation/etc.h"
#include "deploy/sandbox-host/isolation/files.h"

enum {
    DESCRIPTION_MAX_BYTES = 1 << 20,
    COMMAND_MAX_BYTES = 65536,
    ALIASES_MAX = 64,
    ENTRIES_MAX = 256,
    NAME_MAX_BYTES = 255,
    VALUE_MAX_BYTES = 131071,
    READY_TIMEOUT_MAX_MS = 600000,
    READY_TIMEOUT_MS = 30000,
};
#define BASE "base"

static const struct host_config *config;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct template *templates;
extern char **environ;

/* ---- names ---- */

static bool is_name(const char *text, size_t length)
{
    if (length == 0 || length >= TEMPLATE_NAME_BYTES) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        if (!islower((unsigned char)text[i]) && !isdigit((unsigned char)text[i]) &&
            strchr("-_", text[i]) == NULL) {
            return false;
        }
    }
    return true;
}

int template_normalize(const char *reference, char out[TEMPLATE_NAME_BYTES], struct error *err)
{
    const char *slash;
    size_t length;

    while (isspace((unsigned char)*reference)) {
        reference++;
    }
    slash = strchr(reference, '/');
    if (slash != NULL) {
        reference = slash + 1;
    }
    length = strcspn(reference, ":");
    while (length > 0 && isspace((unsigned char)reference[length - 1])) {
        length--;
    }
    if (length >= TEMPLATE_NAME_BYTES) {
        return error_set(err, ERR_INVALID, "Invalid template reference");
    }
    memcpy(out, reference, length);
    out[length] = '\0';
    id_lower(out);
    return is_name(out, length) ? 0 : error_set(err, ERR_INVALID, "Invalid template reference");
}

/* ---- the folder ---- */

static void in_folder(char out[PATH_MAX], const char *name, const char *suffix)
{
    if (config->templates == NULL ||
        snprintf(out, PATH_MAX, "%s/%s%s", config->templates, name, suffix) >= PATH_MAX) {
        out[0] = '\0';
    }
}

/* The packed root of `name`, if there is one. */
static bool find_archive(const char *name, char out[PATH_MAX], struct stat *status)
{
    static const char *const suffixes[] = {".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.zst"};

    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        in_folder(out, name, suffixes[i]);
        if (stat(out, status) == 0 && S_ISREG(status->st_mode)) {
            return true;
        }
    }
    return false;
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
    if (find_archive(name, path, &status)) {
        add_stamp(&text, &status);
    }
    in_folder(path, name, ".json");
    if (path[0] != '\0' && stat(path, &status) == 0) {
        add_stamp(&text, &status);
    }
    str_copy(out, 96, text.data);
    strbuf_done(&text);
}

/* Unpacks with the system's tar, which knows the compressions. */
static int unpack(const char *archive, const char *out, struct error *err)
{
    char *argv[] = {"tar", "-x", "--no-same-owner", "-f", (char *)archive, "-C", (char *)out, NULL};
    pid_t pid;
    int status, failure;

    failure = posix_spawnp(&pid, "tar", NULL, NULL, argv, environ);
    if (failure != 0) {
        return error_set_errno(err, ERR_CONFIG, failure, "tar, to unpack %s", archive);
    }
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return error_set_errno(err, ERR_INTERNAL, errno, "tar");
        }
    }
    return status == 0 ? 0
                       : error_set(err, ERR_CONFIG, "template archive %s: tar failed (status %d)",
                                   archive, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

/* The unpacked root of an archive, kept in the state folder under a name that changes with it. */
static int unpacked_root(const char *name, const char *archive, const struct stat *status,
                         char **ret, struct error *err)
{
    char folder[PATH_MAX], fresh[PATH_MAX];
    int result;

    snprintf(folder, sizeof(folder), "%s/t/%s.%lld.%lld", config->state_dir, name,
             (long long)status->st_mtim.tv_sec, (long long)status->st_size);
    if (access(folder, F_OK) != 0) {
        snprintf(fresh, sizeof(fresh), "%s/t/%s.unpacking", config->state_dir, name);
        result = files_remove_tree(fresh, err) < 0 ? -1 : files_make_dir(fresh, 0755, err);
        if (result == 0) {
            result = unpack(archive, fresh, err);
        }
        if (result == 0 && (chmod(fresh, 0755) < 0 || rename(fresh, folder) < 0)) {
            result = error_set_errno(err, ERR_INTERNAL, errno, "%s", folder);
        }
        if (result < 0) {
            struct error left = ERROR_INIT;

            if (files_remove_tree(fresh, &left) < 0) { /* the next unpacking tries again */
                log_error(LOG_WARN, "template.not_removed", &left);
            }
            return -1;
        }
    }
    *ret = xstrdup(folder);
    return 0;
}

/* ---- descriptions ---- */

static int check_aliases(const cJSON *aliases, struct error *err)
{
    const cJSON *alias;

    if (aliases == NULL || cJSON_IsNull(aliases)) {
        return 0;
    }
    if (!cJSON_IsArray(aliases) || cJSON_GetArraySize(aliases) > ALIASES_MAX) {
        return error_set(err, ERR_INVALID, "aliases: not an array of at most %d names",
                         ALIASES_MAX);
    }
    cJSON_ArrayForEach(alias, aliases)
    {
        if (!cJSON_IsString(alias) || !is_name(alias->valuestring, strlen(alias->valuestring))) {
            return error_set(err, ERR_INVALID, "aliases: each is a name of [a-z0-9_-]");
        }
    }
    return 0;
}

static int check_mounts(const cJSON *mounts, struct error *err)
{
    const cJSON *mount;

    cJSON_ArrayForEach(mount, mounts)
    {
        if (mount->string[0] != '/' || strstr(mount->string, "..") != NULL) {
            return error_set(err, ERR_INVALID, "mounts: %.64s is no absolute path inside",
                             mount->string);
        }
        if (mount->valuestring[0] != '/' || access(mount->valuestring, F_OK) != 0) {
            return error_set(err, ERR_INVALID, "mounts: %.128s is not there", mount->valuestring);
        }
    }
    return 0;
}

static int read_fields(struct template *template, struct error *err)
{
    static const char *const known[] = {
        "aliases", "startCommand", "readyCommand", "readyPort", "readyTimeoutMs", "envs", "mounts"};
    const char *start = NULL, *ready = NULL;
    const cJSON *tree = template->description, *aliases, *field;
    int64_t port = 0;

    if (!cJSON_IsObject(tree)) {
        return error_set(err, ERR_INVALID, "not a JSON object");
    }
    cJSON_ArrayForEach(field, tree)
    {
        bool found = false;

        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
            found = found || strcmp(field->string, known[i]) == 0;
        }
        if (!found) {
            return error_set(err, ERR_INVALID, "%.64s: no such field", field->string);
        }
    }
    aliases = cJSON_GetObjectItemCaseSensitive(tree, "aliases");
    if (check_aliases(aliases, err) < 0 ||
        json_get_string(tree, "startCommand", COMMAND_MAX_BYTES, NULL, &start, err) < 0 ||
        json_get_string(tree, "readyCommand", COMMAND_MAX_BYTES, NULL, &ready, err) < 0 ||
        json_get_int(tree, "readyPort", 1, 65535, 0, &port, err) < 0 ||
        json_get_int(tree, "readyTimeoutMs", 1, READY_TIMEOUT_MAX_MS, READY_TIMEOUT_MS,
                     &template->ready_timeout_ms, err) < 0 ||
        json_get_string_map(tree, "envs", ENTRIES_MAX, NAME_MAX_BYTES, VALUE_MAX_BYTES,
                            &template->envs, err) < 0 ||
        json_get_string_map(tree, "mounts", ENTRIES_MAX, PATH_MAX / 2, PATH_MAX / 2,
                            &template->mounts, err) < 0 ||
        check_mounts(template->mounts, err) < 0) {
        return -1;
    }
    template->start_command = start != NULL &&*start != '\0' ? xstrdup(start) : NULL;
    template->ready_command = ready != NULL &&*ready != '\0' ? xstrdup(ready) : NULL;
    template->ready_port = (int)port;
    if (cJSON_GetArraySize(aliases) > 0) {
        str_copy(template->alias, sizeof(template->alias),
                 cJSON_GetArrayItem(aliases, 0)->valuestring);
    }
    return 0;
}

static int read_description(struct template *template, struct error *err)
{
    struct strbuf text;
    char path[PATH_MAX];
    int status;

    template->ready_timeout_ms = READY_TIMEOUT_MS;
    in_folder(path, template->id, ".json");
    if (path[0] == '\0' || access(path, F_OK) != 0) {
        return 0;
    }
    strbuf_init(&text, DESCRIPTION_MAX_BYTES);
    status = files_read(path, &text, err);
    if (status == 0) {
        template->description = json_parse(text.data, text.length, err);
        status = template->description == NULL || read_fields(template, err) < 0
                     ? error_prefix(err, "%s", path)
                     : 0;
    }
    strbuf_done(&text);
    if (status < 0) {
        err->code = ERR_CONFIG;
    }
    return status;
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
    } else if (find_archive(name, path, &status)) {
        result = unpacked_root(name, path, &status, &template->root, err);
    }
    snprintf(path, sizeof(path), "%s/t/%s.etc", config->state_dir, name);
    template->etc = xstrdup(path);
    if (result < 0 || read_description(template, err) < 0 ||
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

    if (!is_name(file, length)) {
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

/* The tag behind the name of a reference, or "default". */
static void tag_of(const char *reference, char out[TEMPLATE_NAME_BYTES])
{
    const char *colon = strchr(reference, ':');
    size_t length;

    if (colon == NULL) {
        str_copy(out, TEMPLATE_NAME_BYTES, TEMPLATE_TAG);
        return;
    }
    colon += 1 + strspn(colon + 1, " \t");
    length = strcspn(colon, " \t");
    snprintf(out, TEMPLATE_NAME_BYTES, "%.*s", (int)length, colon);
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
    tag_of(reference, tag);
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
