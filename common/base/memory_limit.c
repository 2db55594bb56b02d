/* memory_limit - see memory_limit.h. */
#include "common/base/memory_limit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

int64_t memory_limit_machine(void)
{
    return (int64_t)sysconf(_SC_PHYS_PAGES) * (int64_t)sysconf(_SC_PAGESIZE);
}

/* Reads the number in root/folder/path/name; 0: "max", or no such file. */
static int64_t read_limit(const char *root, const char *folder, const char *path, const char *name)
{
    char file_name[PATH_BYTES + 64], text[32] = "";
    FILE *file;

    if (snprintf(file_name, sizeof(file_name), "%s%s%s/%s", root, folder, path, name) >=
        (int)sizeof(file_name)) {
        return 0;
    }
    file = fopen(file_name, "re");
    if (file == NULL) {
        return 0;
    }
    if (fgets(text, sizeof(text), file) == NULL) {
        text[0] = '\0';
    }
    fclose(file);
    return strtoll(text, NULL, 10);
}

static int64_t tighter(int64_t a, int64_t b)
{
    return b > 0 && (a == 0 || b < a) ? b : a;
}

/* The lowest limit of the group at `path` and of all its parents. In a container the path is often
 * the host's, while the group is mounted as the root, so the root is read, too. */
static int64_t walk_up(const char *root, const char *folder, char *path, const char *name)
{
    int64_t limit = 0;

    for (;;) {
        char *slash;

        limit = tighter(limit, read_limit(root, folder, path, name));
        slash = strrchr(path, '/');
        if (slash == NULL) {
            return limit;
        }
        *slash = '\0';
    }
}

/* True when the comma list between two colons contains the memory controller. */
static int is_memory(const char *list)
{
    const char *end = strchr(list, ':');

    for (const char *at = list; end != NULL && at < end;) {
        const size_t length = strcspn(at, ",:");

        if (length == strlen("memory") && strncmp(at, "memory", length) == 0) {
            return 1;
        }
        at += length + 1;
    }
    return 0;
}

int64_t memory_limit_cgroup(const char *root)
{
    char file_name[PATH_BYTES], line[PATH_BYTES];
    int64_t limit = 0;
    FILE *file;

    snprintf(file_name, sizeof(file_name), "%s/proc/self/cgroup", root);
    file = fopen(file_name, "re");
    if (file == NULL) {
        return 0;
    }
    /* hierarchy:controllers:path; version 2 is hierarchy 0 without controllers */
    while (fgets(line, sizeof(line), file) != NULL) {
        char *controllers = strchr(line, ':');
        char *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;

        if (path == NULL) {
            continue;
        }
        path++;
        path[strcspn(path, "\n")] = '\0';
        if (strncmp(line, "0::", 3) == 0) {
            limit = tighter(limit, walk_up(root, "/sys/fs/cgroup", path, "memory.max"));
        } else if (is_memory(controllers + 1)) {
            limit = tighter(limit,
                            walk_up(root, "/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"));
        }
    }
    fclose(file);
    /* cgroup version 1 expresses "no limit" by a number larger than any memory */
    return limit < memory_limit_machine() ? limit : 0;
}
