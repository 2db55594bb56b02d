/*
 * user - users and paths; see user.h.
 */
#include "deploy/sandbox-host/agent/user.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/alloc.h"

int user_lookup(const struct agent_config *config, const char *name, struct user *ret,
                struct error *err)
{
    struct passwd entry, *found = NULL;
    char buffer[4096];

    if (name == NULL || name[0] == '\0') {
        name = config->user;
    }
    const bool is_default = strcmp(name, config->user) == 0;
    memset(ret, 0, sizeof(*ret));
    if (str_copy(ret->name, sizeof(ret->name), name) != 0) {
        return error_set(err, ERR_NOT_FOUND, "unknown user %.64s", name);
    }
    if (getpwnam_r(name, &entry, buffer, sizeof(buffer), &found) == 0 && found != NULL) {
        ret->uid = found->pw_uid;
        ret->gid = found->pw_gid;
        (void)str_copy(ret->home, sizeof(ret->home), found->pw_dir);
        ret->group_count = USER_MAX_GROUPS;
        if (getgrouplist(name, ret->gid, ret->groups, &ret->group_count) < 0) {
            ret->group_count = USER_MAX_GROUPS;
        }
    } else if (is_default) {
        ret->uid = geteuid();
        ret->gid = getegid();
    } else if (strcmp(name, "root") == 0) {
        (void)str_copy(ret->home, sizeof(ret->home), "/root");
    } else {
        return error_set(err, ERR_NOT_FOUND, "unknown user %s", name);
    }
    if (is_default) {
        (void)str_copy(ret->home, sizeof(ret->home), config->home);
    }
    if (ret->group_count == 0) {
        ret->groups[0] = ret->gid;
        ret->group_count = 1;
    }
    return 0;
}

void path_clean(char *path)
{
    char *out = path;
    const char *in = path;

    while (*in != '\0') {
        while (*in == '/') {
            in++;
        }
        size_t length = strcspn(in, "/");
        if (length == 0) {
            break;
        }
        if (length == 1 && in[0] == '.') {
            in += length;
            continue;
        }
        if (length == 2 && in[0] == '.' && in[1] == '.') {
            while (out > path && *--out != '/') {}
            in += length;
            continue;
        }
        *out++ = '/';
        memmove(out, in, length);
        out += length;
        in += length;
    }
    if (out == path) {
        *out++ = '/';
    }
    *out = '\0';
}

int user_resolve_path(const struct agent_config *config, const struct user *user, const char *path,
                      char out[PATH_MAX], struct error *err)
{
    const char *base = "";

    if (path[0] == '\0') {
        path = config->workdir != NULL ? config->workdir : user->home;
    }
    if (path[0] == '~') {
        if (path[1] != '\0' && path[1] != '/' && path[1] != '\\') {
            return error_set(err, ERR_INVALID,
                             "failed to expand path '%.128s' for user '%s': cannot expand "
                             "user-specific home dir",
                             path, user->name);
        }
        base = user->home;
        path++;
    } else if (path[0] != '/') {
        base = user->home;
    }
    const bool join = base[0] != '\0';
    const int length = snprintf(out, PATH_MAX, "%s%s%s", base, join ? "/" : "", path);
    if (length < 0 || length >= PATH_MAX) {
        return error_set(err, ERR_INVALID, "the path is longer than %d bytes", PATH_MAX - 1);
    }
    if (join) {
        path_clean(out);
    }
    return 0;
}

void path_base(const char *path, char *out, size_t size)
{
    size_t end = strlen(path);

    while (end > 1 && path[end - 1] == '/') {
        end--;
    }
    size_t start = end;
    while (start > 0 && path[start - 1] != '/') {
        start--;
    }
    if (start == end) { /* "/" */
        start = 0;
    }
    size_t length = end - start < size - 1 ? end - start : size - 1;
    memcpy(out, path + start, length);
    out[length] = '\0';
}

void path_dir(const char *path, char out[PATH_MAX])
{
    size_t end = strlen(path);

    while (end > 1 && path[end - 1] == '/') {
        end--;
    }
    while (end > 0 && path[end - 1] != '/') {
        end--;
    }
    while (end > 1 && path[end - 1] == '/') {
        end--;
    }
    if (end == 0) {
        end = 1;
    }
    memcpy(out, path, end < PATH_MAX ? end : PATH_MAX - 1);
    out[end < PATH_MAX ? end : PATH_MAX - 1] = '\0';
}

void user_own(const struct user *user, const char *path)
{
    /* also where it is the user's already: as envd's, this change is one that a watch tells of.
     * EPERM/EINVAL: a namespace that maps one id only; the file then stays the agent's, who is the
     * one user of such a sandbox. */
    if (lchown(path, user->uid, user->gid) != 0) {
        return;
    }
}

bool user_disk_is_full(int errnum)
{
    return errnum == ENOSPC || errnum == EDQUOT;
}

int user_make_dirs(const struct user *user, const char *path, struct error *err)
{
    char part[PATH_MAX];
    struct stat info;

    if (str_copy(part, sizeof(part), path) != 0) {
        return error_set(err, ERR_INTERNAL, "the path is too long");
    }
    for (char *slash = part;;) {
        slash = strchr(slash + 1, '/');
        if (slash != NULL) {
            *slash = '\0';
        }
        if (stat(part, &info) == 0) {
            if (!S_ISDIR(info.st_mode)) {
                return error_set(err, ERR_INTERNAL, "path is a file: %.200s", part);
            }
        } else if (errno != ENOENT) {
            return error_set_errno(err, ERR_INTERNAL, errno, "failed to stat directory");
        } else if (mkdir(part, 0755) == 0) {
            user_own(user, part);
        } else if (errno != EEXIST) {
            const int failed = errno;
            return error_set_errno(err, user_disk_is_full(failed) ? ERR_LIMIT : ERR_INTERNAL,
                                   failed, "failed to create directory");
        }
        if (slash == NULL) {
            return 0;
        }
        *slash = '/';
    }
}
