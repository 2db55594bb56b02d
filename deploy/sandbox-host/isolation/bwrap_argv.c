/* bwrap_argv - see bwrap_argv.h. */
#include "deploy/sandbox-host/isolation/bwrap_argv.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/alloc.h"

enum { SANDBOX_UID = 1000 };

const struct bwrap_argv_folder bwrap_argv_folders[] = {
    {"top", "/", 0755}, /* first: all else lies on it */
    {"home", "/home/user", 0755}, {"root", "/root", 0700},
    {"tmp", "/tmp", 01777},       {"vartmp", "/var/tmp", 01777},
};
const int bwrap_argv_folder_count = sizeof(bwrap_argv_folders) / sizeof(bwrap_argv_folders[0]);

/* of a template's root: made by the sandbox itself */
static const char *const own[] = {"proc", "sys",  "dev", "tmp",      "run",
                                  "home", "root", "etc", ".sandbox", "lost+found"};

static void add(struct bwrap_argv *argv, const char *word)
{
    if (argv->count + 1 >= argv->capacity) {
        argv->capacity = argv->capacity == 0 ? 128 : 2 * argv->capacity;
        argv->list = xrealloc(argv->list, (size_t)argv->capacity * sizeof(*argv->list));
    }
    argv->list[argv->count++] = xstrdup(word);
    argv->list[argv->count] = NULL;
}

static void add2(struct bwrap_argv *argv, const char *option, const char *value)
{
    add(argv, option);
    add(argv, value);
}

static void add3(struct bwrap_argv *argv, const char *option, const char *from, const char *to)
{
    add(argv, option);
    add(argv, from);
    add(argv, to);
}

void bwrap_argv_free(struct bwrap_argv *argv)
{
    for (int i = 0; i < argv->count; i++) {
        free(argv->list[i]);
    }
    free(argv->list);
    *argv = (struct bwrap_argv){.list = NULL};
}

/* One top-level entry of the userland, writable where `layer` shows it. /var is taken whole:
 * /var/tmp is laid over it later. */
static void add_entry(struct bwrap_argv *argv, const char *root, const char *name,
                      const char *layer)
{
    char path[PATH_MAX], target[PATH_MAX], inside[NAME_MAX + 2];
    struct stat status;
    ssize_t n;

    snprintf(path, sizeof(path), "%s/%s", root, name);
    snprintf(inside, sizeof(inside), "/%s", name);
    if (lstat(path, &status) < 0) {
        return;
    }
    if (S_ISLNK(status.st_mode)) {
        n = readlink(path, target, sizeof(target) - 1);
        if (n > 0) {
            target[n] = '\0';
            add3(argv, "--symlink", target, inside);
        }
    } else if (S_ISDIR(status.st_mode) && layer != NULL) {
        add3(argv, "--bind", layer, inside);
    } else if (S_ISDIR(status.st_mode)) {
        add3(argv, "--ro-bind", path, inside);
    }
}

static const char *const names[] = {"usr", "bin", "sbin", "lib", "lib64", "lib32", "libx32"};

bool bwrap_argv_is_place(const char *root, const char *name)
{
    char path[PATH_MAX];
    struct stat status;

    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        if (strcmp(own[i], name) == 0) {
            return true;
        }
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(names[i], name) == 0) {
            return true;
        }
    }
    if (root == NULL) {
        return strcmp(name, "var") == 0;
    }
    return snprintf(path, sizeof(path), "%.*s/%s", (int)strcspn(root, "\n"), root, name) >=
               (int)sizeof(path) ||
           lstat(path, &status) == 0;
}

/* This machine's. */
static void add_own_userland(struct bwrap_argv *argv, const struct bwrap_argv_request *request)
{
    char path[PATH_MAX];

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/sys/%s", request->dir, names[i]);
        add_entry(argv, "", names[i], request->layered && i == 0 ? path : NULL);
    }
    snprintf(path, sizeof(path), "%s/sys/dpkg", request->dir);
    if (request->layered && access("/var/lib/dpkg", F_OK) == 0) {
        add3(argv, "--bind", path, "/var/lib/dpkg");
    }
}

static void add_userland(struct bwrap_argv *argv, const struct bwrap_argv_request *request)
{
    const struct userland *userland = request->userland;
    char layer[PATH_MAX];
    struct dirent *entry;
    DIR *folder;

    if (userland->root == NULL) {
        add_own_userland(argv, request);
        return;
    }
    folder = opendir(userland->root);
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        bool skipped = entry->d_name[0] == '.';

        for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
            skipped = skipped || strcmp(entry->d_name, own[i]) == 0;
        }
        if (!skipped) {
            snprintf(layer, sizeof(layer), "%s/sys/root/%s", request->dir, entry->d_name);
            add_entry(argv, userland->root, entry->d_name, request->layered ? layer : NULL);
        }
    }
    if (folder != NULL) {
        closedir(folder);
    }
}

static void add_memory_folder(struct bwrap_argv *argv, const char *inside, int64_t bytes)
{
    char text[32];

    snprintf(text, sizeof(text), "%lld", (long long)bytes);
    add2(argv, "--size", text);
    add2(argv, "--tmpfs", inside);
}

/* One of bwrap_argv_folders, on the sandbox's disk. */
static void add_own_folder(struct bwrap_argv *argv, const struct bwrap_argv_request *request, int i)
{
    char text[PATH_MAX];

    if (request->memory_disk_bytes > 0) {
        snprintf(text, sizeof(text), "%o", bwrap_argv_folders[i].mode);
        add2(argv, "--perms", text);
        add_memory_folder(argv, bwrap_argv_folders[i].inside, request->memory_disk_bytes);
    } else {
        snprintf(text, sizeof(text), "%s/disk/%s", request->dir, bwrap_argv_folders[i].name);
        add3(argv, "--bind", text, bwrap_argv_folders[i].inside);
    }
}

void bwrap_argv_build(struct bwrap_argv *argv, const struct bwrap_argv_request *request)
{
    char text[PATH_MAX];
    const cJSON *mount;

    *argv = (struct bwrap_argv){.list = NULL};
    add(argv, "bwrap");
    add(argv, "--unshare-all");
    /* not --disable-userns: the agent runs commands asked for as root in a user namespace of their
     * own */
    add(argv, "--unshare-user");
    add(argv, "--die-with-parent");
    add(argv, "--new-session");
    add(argv, "--as-pid-1");
    add(argv, "--clearenv");
    snprintf(text, sizeof(text), "%d", SANDBOX_UID);
    add2(argv, "--uid", text);
    add2(argv, "--gid", text);
    add2(argv, "--cap-drop", "ALL");
    /* as envd, the agent reads and writes files whatever their mode says; commands do not have it
     */
    add2(argv, "--cap-add", "CAP_DAC_OVERRIDE");
    add2(argv, "--hostname", "sandbox");
    snprintf(text, sizeof(text), "%d", request->info_fd);
    add2(argv, "--info-fd", text);
    if (request->filter_fd >= 0) {
        snprintf(text, sizeof(text), "%d", request->filter_fd);
        add2(argv, "--seccomp", text);
    }
    add_own_folder(argv, request, 0);
    add_userland(argv, request);
    snprintf(text, sizeof(text), "%s/sys/etc", request->dir);
    add3(argv, request->layered ? "--bind" : "--ro-bind",
         request->layered ? text : request->userland->etc, "/etc");
    add2(argv, "--proc", "/proc");
    if (request->memory_info != NULL) {
        add3(argv, "--ro-bind", request->memory_info, "/proc/meminfo");
    }
    if (request->boot_id != NULL) {
        add3(argv, "--ro-bind", request->boot_id, "/proc/sys/kernel/random/boot_id");
    }
    add2(argv, "--dev", "/dev");
    add_memory_folder(argv, "/run", request->memory_folder_bytes);
    add_memory_folder(argv, "/dev/shm", request->memory_folder_bytes);
    for (int i = 1; i < bwrap_argv_folder_count; i++) {
        add_own_folder(argv, request, i);
    }
    cJSON_ArrayForEach(mount, request->userland->mounts)
    {
        add3(argv, "--ro-bind", mount->valuestring, mount->string);
    }
    add3(argv, "--ro-bind", request->tools->folder, "/.sandbox");
    /* /dev is memory: what is made in it would escape every other limit */
    add2(argv, "--remount-ro", "/dev");
    add2(argv, "--chdir", "/home/user");
    add3(argv, "--setenv", "PATH",
         "/.sandbox/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    add3(argv, "--setenv", "LANG", "C.UTF-8");
    snprintf(text, sizeof(text), "%d", request->agent_threads);
    add3(argv, "--setenv", "SANDBOX_AGENT_THREADS", text);
    add(argv, "--");
    if (request->userland->root != NULL && request->tools->loader[0] != '\0') {
        snprintf(text, sizeof(text), "/.sandbox/lib/%s", request->tools->loader);
        add(argv, text);
        add2(argv, "--library-path", "/.sandbox/lib");
    }
    add(argv, "/.sandbox/agent");
}
