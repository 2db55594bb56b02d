/* proc_files - see proc_files.h. */
#include "deploy/sandbox-host/isolation/proc_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/id.h"
#include "deploy/sandbox-host/isolation/cgroup.h"
#include "deploy/sandbox-host/isolation/files.h"

enum { TEXT_BYTES = 4096, KIB = 1024 };

static int64_t total_kib;

void proc_files_init(const struct host_config *config)
{
    const int64_t machine = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);

    total_kib = (machine < config->memory_bytes ? machine : config->memory_bytes) / KIB;
}

/* Of the same length whatever the figures: a file is written over while it is read. */
static size_t memory_text(char text[TEXT_BYTES], int64_t used_bytes, int64_t cache_bytes)
{
    const int64_t used = used_bytes / KIB < total_kib ? used_bytes / KIB : total_kib;
    const int64_t cache = cache_bytes / KIB < used ? cache_bytes / KIB : used;
    const struct {
        const char *name;
        int64_t kib;
    } lines[] = {{"MemTotal:", total_kib},
                 {"MemFree:", total_kib - used},
                 {"MemAvailable:", total_kib - used + cache},
                 {"Buffers:", 0},
                 {"Cached:", cache},
                 {"SwapCached:", 0},
                 {"Active:", used - cache / 2},
                 {"Inactive:", cache / 2},
                 {"SwapTotal:", 0},
                 {"SwapFree:", 0},
                 {"Dirty:", 0},
                 {"Writeback:", 0},
                 {"AnonPages:", used - cache},
                 {"Mapped:", 0},
                 {"Shmem:", 0},
                 {"Slab:", 0},
                 {"SReclaimable:", 0},
                 {"SUnreclaim:", 0}};
    size_t length = 0;

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        length += (size_t)snprintf(text + length, TEXT_BYTES - length, "%-16s%13lld kB\n",
                                   lines[i].name, (long long)lines[i].kib);
    }
    return length;
}

int proc_files_make(const char *dir, bool *ret_memory, struct error *err)
{
    char path[PROC_FILES_PATH_BYTES], text[TEXT_BYTES], id[UUID_BYTES];

    id_uuid(id);
    snprintf(text, sizeof(text), "%s\n", id);
    snprintf(path, sizeof(path), "%s/boot_id", dir);
    if (files_write(path, text, strlen(text), 0444, err) < 0) {
        return -1;
    }
    *ret_memory = cgroup_limits_memory();
    if (!*ret_memory) {
        return 0;
    }
    snprintf(path, sizeof(path), "%s/meminfo", dir);
    return files_write(path, text, memory_text(text, 0, 0), 0444, err);
}

int proc_files_update(const char *dir, const char *id, struct error *err)
{
    char path[PROC_FILES_PATH_BYTES], text[TEXT_BYTES];
    int64_t cpu_ns, used, cache;
    size_t length;
    ssize_t n = -1;
    int fd;

    if (cgroup_usage(id, &cpu_ns, &used, &cache, err) < 0) {
        return -1;
    }
    length = memory_text(text, used, cache);
    snprintf(path, sizeof(path), "%s/meminfo", dir);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        n = pwrite(fd, text, length, 0);
    }
    if (n != (ssize_t)length) {
        error_set_errno(err, ERR_INTERNAL, errno, "%s", path);
    }
    if (fd >= 0) {
        close(fd);
    }
    return n == (ssize_t)length ? 0 : -1;
}
