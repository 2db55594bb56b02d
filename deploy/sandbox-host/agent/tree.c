/*
 * tree - see tree.h.
 */
#include "deploy/sandbox-host/agent/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/alloc.h"

#define REMOVE_DEPTH 48 /* folders open at once while removing */

/* ---- walk ---- */

/* The sorted names of one open folder. */
struct level {
    struct dirent **names;
    int count, next;
    size_t real_bytes, shown_bytes; /* of the path up to this folder */
};

static int not_dots(const struct dirent *entry)
{
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int level_open(struct level *level, const char *real, const char *shown)
{
    level->count = scandir(real, &level->names, not_dots, by_bytes);
    level->next = 0;
    level->real_bytes = strlen(real);
    level->shown_bytes = strlen(shown);
    return level->count < 0 ? -1 : 0;
}

static void level_close(struct level *level)
{
    for (int i = level->next; i < level->count; i++) {
        free(level->names[i]);
    }
    free(level->names);
}

/* path[0..bytes) + "/" + name; false when it does not fit. */
static bool join(char path[PATH_MAX], size_t bytes, const char *name)
{
    const size_t length = strlen(name);

    while (bytes > 0 && path[bytes - 1] == '/') {
        bytes--;
    }
    if (bytes + 1 + length >= PATH_MAX) {
        return false;
    }
    path[bytes] = '/';
    memcpy(path + bytes + 1, name, length + 1);
    return true;
}

int tree_walk(const char *real, const char *shown, unsigned depth,
              int (*visit)(void *arg, const char *path), void *arg)
{
    char *real_path = xmalloc(PATH_MAX), *shown_path = xmalloc(PATH_MAX);
    struct level *levels = NULL;
    size_t open_levels = 0, capacity = 0;
    struct stat info;
    int result = -1;

    if (str_copy(real_path, PATH_MAX, real) != 0 || str_copy(shown_path, PATH_MAX, shown) != 0) {
        errno = ENAMETOOLONG;
        goto out;
    }
    capacity = 8;
    levels = xcalloc(capacity, sizeof(*levels));
    if (level_open(&levels[0], real_path, shown_path) != 0) {
        goto out;
    }
    open_levels = 1;
    result = 0;
    while (open_levels > 0) {
        struct level *level = &levels[open_levels - 1];
        if (level->next == level->count) {
            level_close(level);
            open_levels--;
            continue;
        }
        struct dirent *entry = level->names[level->next++];
        const bool fits = join(real_path, level->real_bytes, entry->d_name) &&
                          join(shown_path, level->shown_bytes, entry->d_name);
        free(entry);
        if (!fits) {
            continue;
        }
        if (visit(arg, shown_path) != 0) {
            result = 1;
            break;
        }
        if (open_levels < depth && lstat(real_path, &info) == 0 && S_ISDIR(info.st_mode)) {
            if (open_levels == capacity) {
                capacity *= 2;
                levels = xrealloc(levels, capacity * sizeof(*levels));
            }
            if (level_open(&levels[open_levels], real_path, shown_path) == 0) {
                open_levels++;
            }
        }
    }
out:
    while (open_levels > 0) {
        level_close(&levels[--open_levels]);
    }
    free(levels);
    free(real_path);
    free(shown_path);
    return result;
}

/* ---- remove ---- */

/* State of one removal: what is deeper than REMOVE_DEPTH is moved up into the root and taken in a
 * later round. */
struct removal {
    int root_fd;
    unsigned moved;
    int failure;
};

static void remove_content(struct removal *removal, int folder_fd, int depth);

static void remove_one(struct removal *removal, int folder_fd, const char *name, int depth)
{
    if (unlinkat(folder_fd, name, 0) == 0 || errno == ENOENT) {
        return;
    }
    /* EISDIR is Linux' word for a folder, EPERM is POSIX' */
    int failure = errno;
    if (failure == EISDIR || failure == EPERM) {
        const int fd = openat(folder_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 && depth >= REMOVE_DEPTH) {
            char away[48];
            snprintf(away, sizeof(away), ".removing-%d-%u", (int)getpid(), removal->moved++);
            close(fd);
            if (renameat(folder_fd, name, removal->root_fd, away) == 0) {
                return;
            }
            failure = errno;
        } else if (fd >= 0) {
            remove_content(removal, fd, depth + 1);
            if (unlinkat(folder_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT) {
                return;
            }
            failure = errno;
        } else if (errno != ENOTDIR) {
            failure = errno;
        }
    }
    if (removal->failure == 0) {
        removal->failure = failure;
    }
}

/* Takes folder_fd. */
static void remove_content(struct removal *removal, int folder_fd, int depth)
{
    DIR *folder = fdopendir(folder_fd);
    const struct dirent *entry;

    if (folder == NULL) {
        close(folder_fd);
        return;
    }
    while ((entry = readdir(folder)) != NULL) {
        if (not_dots(entry)) {
            remove_one(removal, dirfd(folder), entry->d_name, depth);
        }
    }
    closedir(folder);
}

int tree_remove(const char *path)
{
    if (unlink(path) == 0 || errno == ENOENT) {
        return 0;
    }
    const int failure = errno;
    const int root_fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (root_fd < 0) {
        errno = errno == ENOTDIR || errno == ELOOP ? failure : errno;
        return -1;
    }
    struct removal removal = {.root_fd = root_fd};
    unsigned moved_before;
    do {
        moved_before = removal.moved;
        const int fd = openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0) {
            removal.failure = errno;
            break;
        }
        remove_content(&removal, fd, 1);
    } while (removal.failure == 0 && removal.moved != moved_before);
    close(root_fd);
    if (rmdir(path) == 0 || errno == ENOENT) {
        return 0;
    }
    errno = removal.failure != 0 ? removal.failure : errno;
    return -1;
}
