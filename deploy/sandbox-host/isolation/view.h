/*
 * view - what a sandbox sees: the bubblewrap command line.
 *
 * Owns: namespaces, mounts, the first process' environment. Does not own: running it (spawn.h).
 * Pure but for looking at what top-level folders the userland has.
 */
#ifndef SANDBOX_HOST_VIEW_H
#define SANDBOX_HOST_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "deploy/sandbox-host/isolation/kit.h"
#include "deploy/sandbox-host/isolation/userland.h"

/* A list of strings that ends with NULL, owned. */
struct view_argv {
    char **list;
    int count, capacity;
};

struct view_request {
    const struct userland *userland;
    const char *dir; /* the sandbox's folder: its disk is dir/disk */
    const struct kit *kit;
    int64_t memory_folder_bytes; /* each folder that lives in memory */
    int64_t memory_disk_bytes; /* each folder of its disk is memory of this size; 0 = on the disk */
    const char *memory_info;   /* file seen as /proc/meminfo, or NULL */
    const char *boot_id;       /* file seen as the kernel's boot id, or NULL */
    bool layered;              /* the system is seen through dir/sys (layers.h), writable */
    int agent_threads;         /* connections the agent serves at once */
    int info_fd, filter_fd;    /* as bubblewrap gets them; filter_fd -1 = no filter */
};

/* The folders of a sandbox's disk: name below dir/disk, place inside, mode. */
struct view_folder {
    const char *name, *inside;
    unsigned mode;
};
extern const struct view_folder view_folders[];
extern const int view_folder_count;

/* Whether something of the host is put at /name of a sandbox; `root`: the template's, to the end of
 * its line, or NULL. */
bool view_is_place(const char *root, const char *name);
void view_build(struct view_argv *argv, const struct view_request *request);
void view_free(struct view_argv *argv);

#endif
