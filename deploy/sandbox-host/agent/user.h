/*
 * user - the Linux users of a sandbox and how their paths resolve.
 *
 * Owns: lookup by name, supplementary groups, `~` and relative paths, making parent folders that
 * belong to the user. Does not own: becoming the user (spawn). Threads: no shared state.
 */
#ifndef AGENT_USER_H
#define AGENT_USER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "deploy/sandbox-host/agent/agent.h"

#define USER_MAX_GROUPS 32

struct user {
    char name[64];
    char home[PATH_MAX / 2];
    uid_t uid;
    gid_t gid;
    gid_t groups[USER_MAX_GROUPS];
    int group_count;
};

/* `name` NULL or "" is the sandbox's default user. ERR_NOT_FOUND when there is no such user. */
int user_lookup(const struct agent_config *config, const char *name, struct user *ret,
                struct error *err) MUST_CHECK;

/*
 * `path` as envd resolves it: empty is the default folder, `~` and `~/x` the home, relative ones
 * start at the home, absolute ones stay as they are. ERR_INVALID for `~other` and for a path that
 * does not fit.
 */
int user_resolve_path(const struct agent_config *config, const struct user *user, const char *path,
                      char out[PATH_MAX], struct error *err) MUST_CHECK;

/* mkdir -p, mode 0755, what it makes belongs to the user. ERR_INTERNAL with the reason; the code
 * is ERR_LIMIT when the disk is full. */
int user_make_dirs(const struct user *user, const char *path, struct error *err) MUST_CHECK;

/* Gives an open file to the user where this process may; a namespace without that id keeps it. */
void user_own(const struct user *user, const char *path);

/* Whether an errno says that no more fits on the disk, or into the user's share of it. */
bool user_disk_is_full(int errnum);

/* "/a/b/" -> "b", "/" -> "/". Copied into out. */
void path_base(const char *path, char *out, size_t size);
/* "/a/b/" -> "/a". Copied into out. */
void path_dir(const char *path, char out[PATH_MAX]);
/* Removes empty, "." and ".." parts of an absolute path in place, lexically. */
void path_clean(char *path);

#endif
