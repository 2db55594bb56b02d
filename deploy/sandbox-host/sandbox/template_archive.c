/* template_archive - see template_archive.h. */
#include "deploy/sandbox-host/sandbox/template_archive.h"

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/log.h"
#include "deploy/sandbox-host/isolation/files.h"

extern char **environ;

bool template_archive_find(const char *folder, const char *name, char out[PATH_MAX],
                           struct stat *status)
{
    static const char *const suffixes[] = {".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.zst"};

    out[0] = '\0';
    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]) && folder != NULL; i++) {
        if (snprintf(out, PATH_MAX, "%s/%s%s", folder, name, suffixes[i]) < PATH_MAX &&
            stat(out, status) == 0 && S_ISREG(status->st_mode)) {
            return true;
        }
    }
    return false;
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

int template_archive_unpack(const char *state_dir, const char *name, const char *archive,
                            const struct stat *status, char **ret, struct error *err)
{
    char folder[PATH_MAX], fresh[PATH_MAX];
    int result;

    snprintf(folder, sizeof(folder), "%s/t/%s.%lld.%lld", state_dir, name,
             (long long)status->st_mtim.tv_sec, (long long)status->st_size);
    if (access(folder, F_OK) != 0) {
        snprintf(fresh, sizeof(fresh), "%s/t/%s.unpacking", state_dir, name);
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
