/*
 * entry - files as JSON; see entry.h.
 */
#include "deploy/sandbox-host/agent/entry.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/encode.h"
#include "common/base/strbuf.h"
#include "deploy/sandbox-host/agent/user.h"

#define XATTR_LIST_BYTES  8192
#define XATTR_VALUE_BYTES 4097

void entry_add_name(cJSON *object, const char *field, const char *name)
{
    struct strbuf text;

    strbuf_init(&text, UTF8_CLEAN_GROWTH * PATH_MAX);
    (void)utf8_put_clean(&text, name, strlen(name));
    cJSON_AddStringToObject(object, field, text.data);
    strbuf_done(&text);
}

/* As Go prints a file mode: type letters, then rwx three times. */
static void format_mode(mode_t mode, char out[16])
{
    size_t at = 0;

    if (S_ISDIR(mode)) {
        out[at++] = 'd';
    }
    if (S_ISLNK(mode)) {
        out[at++] = 'L';
    }
    if (S_ISBLK(mode) || S_ISCHR(mode)) {
        out[at++] = 'D';
    }
    if (S_ISFIFO(mode)) {
        out[at++] = 'p';
    }
    if (S_ISSOCK(mode)) {
        out[at++] = 'S';
    }
    if ((mode & S_ISUID) != 0) {
        out[at++] = 'u';
    }
    if ((mode & S_ISGID) != 0) {
        out[at++] = 'g';
    }
    if (S_ISCHR(mode)) {
        out[at++] = 'c';
    }
    if ((mode & S_ISVTX) != 0) {
        out[at++] = 't';
    }
    if (at == 0) {
        out[at++] = '-';
    }
    for (int bit = 8; bit >= 0; bit--) {
        out[at++] = (mode & (1u << bit)) != 0 ? "xwr"[bit % 3] : '-';
    }
    out[at] = '\0';
}

static void add_owner(cJSON *object, const struct stat *info)
{
    char buffer[2048], number[24];
    struct passwd user, *found_user = NULL;
    struct group group, *found_group = NULL;

    snprintf(number, sizeof(number), "%lu", (unsigned long)info->st_uid);
    const bool has_user =
        getpwuid_r(info->st_uid, &user, buffer, sizeof(buffer), &found_user) == 0 &&
        found_user != NULL;
    cJSON_AddStringToObject(object, "owner", has_user ? user.pw_name : number);
    snprintf(number, sizeof(number), "%lu", (unsigned long)info->st_gid);
    const bool has_group =
        getgrgid_r(info->st_gid, &group, buffer, sizeof(buffer), &found_group) == 0 &&
        found_group != NULL;
    cJSON_AddStringToObject(object, "group", has_group ? group.gr_name : number);
}

static void add_modified(cJSON *object, const struct timespec *when)
{
    struct tm parts;
    char text[64];
    const long ns = when->tv_nsec;

    if (gmtime_r(&when->tv_sec, &parts) == NULL) {
        return;
    }
    size_t at = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts);
    if (ns != 0) {
        at += (size_t)snprintf(text + at, sizeof(text) - at, ".%09ld", ns);
        at -= ns % 1000000 == 0 ? 6 : ns % 1000 == 0 ? 3 : 0;
    }
    text[at++] = 'Z';
    text[at] = '\0';
    cJSON_AddStringToObject(object, "modifiedTime", text);
}

cJSON *entry_metadata(int fd, const char *path)
{
    char *names = xmalloc(XATTR_LIST_BYTES), *value = xmalloc(XATTR_VALUE_BYTES);
    const size_t prefix = strlen(ENTRY_XATTR_PREFIX);
    cJSON *metadata = NULL;
    const ssize_t total = fd >= 0 ? flistxattr(fd, names, XATTR_LIST_BYTES)
                                  : llistxattr(path, names, XATTR_LIST_BYTES);

    for (ssize_t at = 0; at < total; at += (ssize_t)strlen(names + at) + 1) {
        const char *name = names + at;
        if (strncmp(name, ENTRY_XATTR_PREFIX, prefix) != 0) {
            continue;
        }
        const ssize_t length = fd >= 0 ? fgetxattr(fd, name, value, XATTR_VALUE_BYTES - 1)
                                       : lgetxattr(path, name, value, XATTR_VALUE_BYTES - 1);
        if (length < 0) {
            continue;
        }
        value[length] = '\0';
        if (!utf8_is_valid(value, strlen(value)) || !utf8_is_valid(name, strlen(name))) {
            continue; /* written by something else under our prefix */
        }
        if (metadata == NULL) {
            metadata = cJSON_CreateObject();
        }
        cJSON_AddStringToObject(metadata, name + prefix, value);
    }
    free(names);
    free(value);
    return metadata;
}

static const char *type_name(mode_t mode)
{
    return S_ISREG(mode) ? "FILE_TYPE_FILE" : S_ISDIR(mode) ? "FILE_TYPE_DIRECTORY" : NULL;
}

cJSON *entry_json(const char *path)
{
    struct stat info, target;
    char name[NAME_MAX + 1], text[24];

    if (lstat(path, &info) != 0) {
        return NULL;
    }
    cJSON *object = cJSON_CreateObject();
    const char *type = type_name(info.st_mode);
    mode_t mode = info.st_mode;
    path_base(path, name, sizeof(name));
    entry_add_name(object, "name", name);
    if (S_ISLNK(info.st_mode)) {
        char *resolved = realpath(path, NULL);
        entry_add_name(object, "symlinkTarget", resolved != NULL ? resolved : path);
        free(resolved);
        const bool there = stat(path, &target) == 0;
        type = there ? type_name(target.st_mode) : NULL;
        mode = there ? target.st_mode : 0;
    }
    if (type != NULL) {
        cJSON_AddStringToObject(object, "type", type);
    }
    entry_add_name(object, "path", path);
    if (info.st_size > 0) {
        snprintf(text, sizeof(text), "%lld", (long long)info.st_size);
        cJSON_AddStringToObject(object, "size", text);
    }
    if ((mode & 0777) != 0) {
        cJSON_AddNumberToObject(object, "mode", mode & 0777);
    }
    format_mode(info.st_mode, text);
    cJSON_AddStringToObject(object, "permissions", text);
    add_owner(object, &info);
    add_modified(object, &info.st_mtim);
    if (S_ISREG(info.st_mode)) {
        cJSON *metadata = entry_metadata(-1, path);
        if (metadata != NULL) {
            cJSON_AddItemToObject(object, "metadata", metadata);
        }
    }
    return object;
}
