/*
 * bwrap_argv - what a sandbox sees: the bubblewrap command line.
 *
 * Owns: namespaces, mounts, the first process' environment. Does not own: running it (spawn.h).
 * Pure but for looking at what top-level folders the userland has.
 */
#ifndef SANDBOX_HOST_BWRAP_ARGV_H
#define SANDBOX_HOST_BWRAP_ARGV_H

#include <stdbool.h>
#include <stdint.h>

#include "deploy/sandbox-host/isolation/sandbox_tools.h"
#include "deploy/sandbox-host/isolation/userland.h"

/* A list of strings that ends with NULL, owned. */
struct bwrap_argv {
    char **list;
    int count, capacity;
};

struct bwrap_argv_request {
    const struct userland *userland;
    const char *dir; /* the sandbox's folder: its disk is dir/disk */
    const struct sandbox_tools *tools;
    int64_t memory_folder_bytes; /* each folder that lives in memory */
    int64_t memory_disk_bytes; /* each folder of its disk is memory of this size; 0 = on the disk */
    const char *memory_info;   /* file seen as /proc/meminfo, or NULL */
    const char *boot_id;       /* file seen as the kernel's boot id, or NULL */
    bool layered;              /* the system is seen through dir/sys (layers.h), writable */
    int agent_threads;         /* connections the agent serves at once */
    int info_fd, filter_fd;    /* as bubblewrap gets them; filter_fd -1 = no filter */
};

/* The folders of a sandbox's disk: name below dir/disk, place inside, mode. */
struct bwrap_argv_folder {
    const char *name, *inside;
    unsigned mode;
};
extern const struct bwrap_argv_folder bwrap_argv_folders[];
extern const int bwrap_argv_folder_count;

/* Whether something of the host is put at /name of a sandbox; `root`: the template's, to the end of
 * its line, or NULL. */
bool bwrap_argv_is_place(const char *root, const char *name);
void bwrap_argv_build(struct bwrap_argv *argv, const struct bwrap_argv_request *request);
void bwrap_argv_free(struct bwrap_argv *argv);

#endif
