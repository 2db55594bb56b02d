/* cgroup - see cgroup.h. */
#include "deploy/sandbox-host/isolation/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "deploy/sandbox-host/isolation/kernel_file.h"
#include "deploy/sandbox-host/isolation/process_stop.h"

#define PARENT "sandbox-host"

enum { ROOTS = 5, PATH_BYTES = 256, FREEZE_TIMEOUT_MS = 5000, KILL_ROUNDS = 50 };

/* Where each controller lives; "" = not usable. On v2 all are the same folder. */
static struct {
    char memory[PATH_BYTES], pids[PATH_BYTES], cpu[PATH_BYTES], freezer[PATH_BYTES];
    char cpuacct[PATH_BYTES]; /* often the same folder as cpu */
    bool v2, freezer_v2;
} roots;

/* Takes `base` as a root if we can make our parent group there and it has `probe`. */
static void try_root(char root[PATH_BYTES], const char *base, const char *probe, int access_mode)
{
    char path[PATH_BYTES];

    snprintf(path, sizeof(path), "%s/" PARENT, base);
    if (mkdir(path, 0755) < 0 && errno != EEXIST) {
        return;
    }
    {
        char file[PATH_BYTES + 64];

        snprintf(file, sizeof(file), "%s/%s", path, probe);
        if (access(file, access_mode) == 0) {
            str_copy(root, PATH_BYTES, path);
        }
    }
}

void cgroup_detect(void)
{
    memset(&roots, 0, sizeof(roots));
    if (access("/sys/fs/cgroup/cgroup.controllers", R_OK) == 0) {
        /* what our parent does not hand down cannot be limited; each write may fail on its own */
        kernel_file_write("/sys/fs/cgroup", "cgroup.subtree_control", "+memory");
        kernel_file_write("/sys/fs/cgroup", "cgroup.subtree_control", "+pids");
        kernel_file_write("/sys/fs/cgroup", "cgroup.subtree_control", "+cpu");
        try_root(roots.freezer, "/sys/fs/cgroup", "cgroup.freeze", W_OK);
        if (roots.freezer[0] != '\0') {
            kernel_file_write(roots.freezer, "cgroup.subtree_control", "+memory");
            kernel_file_write(roots.freezer, "cgroup.subtree_control", "+pids");
            kernel_file_write(roots.freezer, "cgroup.subtree_control", "+cpu");
        }
        try_root(roots.memory, "/sys/fs/cgroup", "memory.max", W_OK);
        try_root(roots.pids, "/sys/fs/cgroup", "pids.max", W_OK);
        try_root(roots.cpu, "/sys/fs/cgroup", "cpu.max", W_OK);
        try_root(roots.cpuacct, "/sys/fs/cgroup", "cpu.stat", R_OK);
        roots.v2 = roots.freezer_v2 = true;
        return;
    }
    try_root(roots.memory, "/sys/fs/cgroup/memory", "memory.limit_in_bytes", W_OK);
    try_root(roots.pids, "/sys/fs/cgroup/pids", "pids.max", W_OK);
    try_root(roots.cpu, "/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", W_OK);
    try_root(roots.cpuacct, "/sys/fs/cgroup/cpuacct", "cpuacct.usage", W_OK);
    try_root(roots.freezer, "/sys/fs/cgroup/freezer", "freezer.state", W_OK);
    if (roots.freezer[0] == '\0') {
        try_root(roots.freezer, "/sys/fs/cgroup/unified", "cgroup.freeze", W_OK);
        roots.freezer_v2 = roots.freezer[0] != '\0';
    }
}

bool cgroup_limits_memory(void)
{
    return roots.memory[0] != '\0';
}

bool cgroup_limits_processes(void)
{
    return roots.pids[0] != '\0';
}

bool cgroup_limits_cpu(void)
{
    return roots.cpu[0] != '\0';
}

void cgroup_report(FILE *out)
{
    fprintf(out, "%-15s %s\n", "memory by",
            roots.memory[0] ? roots.memory : "none (no writable cgroup)");
    fprintf(out, "%-15s %s\n", "processes by", roots.pids[0] ? roots.pids : "RLIMIT_NPROC only");
    fprintf(out, "%-15s %s\n", "cpu by", roots.cpu[0] ? roots.cpu : "none (no writable cgroup)");
    fprintf(out, "%-15s %s\n", "pause by", roots.freezer[0] ? roots.freezer : "SIGSTOP walk");
}

static const char *const *all_roots(void)
{
    static const char *const list[ROOTS] = {roots.memory, roots.pids, roots.cpu, roots.freezer,
                                            roots.cpuacct};

    return list;
}

static void group_path(char out[PATH_BYTES], const char *root, const char *id)
{
    if (snprintf(out, PATH_BYTES, "%s/%s", root, id) >= PATH_BYTES) {
        out[0] = '\0';
    }
}

void cgroup_create(const char *id, const struct cgroup_limits *limits)
{
    char path[PATH_BYTES], text[64];

    for (int i = 0; i < ROOTS; i++) {
        if (all_roots()[i][0] != '\0') {
            group_path(path, all_roots()[i], id);
            mkdir(path, 0755);
        }
    }
    if (roots.memory[0] != '\0') {
        group_path(path, roots.memory, id);
        kernel_file_write_number(path, roots.v2 ? "memory.max" : "memory.limit_in_bytes",
                                 limits->memory_bytes);
        kernel_file_write_number(path, roots.v2 ? "memory.swap.max" : "memory.memsw.limit_in_bytes",
                                 roots.v2 ? 0 : limits->memory_bytes);
    }
    if (roots.pids[0] != '\0') {
        group_path(path, roots.pids, id);
        kernel_file_write_number(path, "pids.max", limits->processes);
    }
    if (roots.cpu[0] != '\0') {
        group_path(path, roots.cpu, id);
        if (roots.v2) {
            snprintf(text, sizeof(text), "%lld 100000", (long long)limits->cpu_percent * 1000);
            kernel_file_write(path, "cpu.max", text);
        } else {
            kernel_file_write_number(path, "cpu.cfs_period_us", 100000);
            kernel_file_write_number(path, "cpu.cfs_quota_us", limits->cpu_percent * 1000);
        }
    }
}

void cgroup_enter(const char *id)
{
    char path[PATH_BYTES];

    for (int i = 0; i < ROOTS; i++) {
        if (all_roots()[i][0] != '\0') {
            group_path(path, all_roots()[i], id);
            kernel_file_write(path, "cgroup.procs", "0");
        }
    }
}

static void kill_group(const char *path)
{
    char text[65536], *save = NULL;

    if (kernel_file_write(path, "cgroup.kill", "1") == 0 ||
        kernel_file_read(path, "cgroup.procs", text, sizeof(text)) < 0) {
        return;
    }
    for (char *line = strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        pid_t pid = (pid_t)strtol(line, NULL, 10);

        if (pid > 0) {
            kill(pid, SIGKILL);
        }
    }
}

void cgroup_let_die(const char *id)
{
    char path[PATH_BYTES];

    if (roots.freezer[0] != '\0') {
        group_path(path, roots.freezer, id);
        kernel_file_write(path, roots.freezer_v2 ? "cgroup.freeze" : "freezer.state",
                          roots.freezer_v2 ? "0" : "THAWED");
    }
}

/* Whether SIGKILL waits for the process: no one can take that back. */
static bool is_killed(pid_t pid)
{
    static const char *const fields[] = {"SigPnd:", "ShdPnd:"};
    char folder[64], text[8192];

    snprintf(folder, sizeof(folder), "/proc/%ld", (long)pid);
    if (kernel_file_read(folder, "status", text, sizeof(text)) < 0) {
        return false;
    }
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        const char *field = strstr(text, fields[i]);

        if (field != NULL &&
            (strtoull(field + strlen(fields[i]), NULL, 16) >> (SIGKILL - 1) & 1) != 0) {
            return true;
        }
    }
    return false;
}

void cgroup_thaw_killed(void)
{
    struct dirent *entry;
    DIR *all = roots.freezer[0] != '\0' ? opendir(roots.freezer) : NULL;

    while (all != NULL && (entry = readdir(all)) != NULL) {
        char path[PATH_BYTES], text[64];

        if (entry->d_name[0] == '.' || strlen(entry->d_name) >= PATH_BYTES / 2) {
            continue;
        }
        group_path(path, roots.freezer, entry->d_name);
        /* one process is enough: all of a sandbox are killed together */
        if (kernel_file_read(path, "cgroup.procs", text, sizeof(text)) == 0 &&
            is_killed((pid_t)strtol(text, NULL, 10))) {
            struct error err = ERROR_INIT;

            if (cgroup_remove(entry->d_name, &err) < 0) { /* tried again at the next start */
                log_error(LOG_WARN, "cgroup.not_removed", &err);
            }
        }
    }
    if (all != NULL) {
        closedir(all);
    }
}

int cgroup_remove(const char *id, struct error *err)
{
    char path[PATH_BYTES];
    int status = 0;

    cgroup_let_die(id);
    for (int i = 0; i < ROOTS; i++) {
        if (all_roots()[i][0] == '\0') {
            continue;
        }
        group_path(path, all_roots()[i], id);
        int failure = rmdir(path) < 0 ? errno : 0;

        for (int round = 0; round < KILL_ROUNDS && failure == EBUSY; round++) {
            kill_group(path);
            clock_sleep_ms(10);
            failure = rmdir(path) < 0 ? errno : 0;
        }
        if (failure != 0 && failure != ENOENT) {
            status = error_set_errno(err, ERR_INTERNAL, failure, "removing %s", path);
        }
    }
    return status;
}

/* The number behind `name` in a file of lines "name number"; name "" = the file is one number. */
static int64_t read_counter(const char *root, const char *id, const char *file, const char *name)
{
    char path[PATH_BYTES], text[8192], *save = NULL;
    size_t length = strlen(name);

    group_path(path, root, id);
    if (kernel_file_read(path, file, text, sizeof(text)) < 0) {
        return -1;
    }
    if (length == 0) {
        return strtoll(text, NULL, 10);
    }
    for (char *line = strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        if (strncmp(line, name, length) == 0 && line[length] == ' ') {
            return strtoll(line + length, NULL, 10);
        }
    }
    return -1;
}

int cgroup_usage(const char *id, int64_t *ret_cpu_ns, int64_t *ret_memory_bytes,
                 int64_t *ret_cache_bytes, struct error *err)
{
    if (roots.memory[0] == '\0' || roots.cpuacct[0] == '\0') {
        return error_set(err, ERR_NOT_FOUND, "no cgroup to measure by");
    }
    *ret_cpu_ns = roots.v2 ? read_counter(roots.cpuacct, id, "cpu.stat", "usage_usec") * 1000
                           : read_counter(roots.cpuacct, id, "cpuacct.usage", "");
    *ret_memory_bytes =
        read_counter(roots.memory, id, roots.v2 ? "memory.current" : "memory.usage_in_bytes", "");
    *ret_cache_bytes =
        read_counter(roots.memory, id, "memory.stat", roots.v2 ? "file" : "total_cache");
    if (*ret_cpu_ns < 0 || *ret_memory_bytes < 0 || *ret_cache_bytes < 0) {
        return error_set(err, ERR_NOT_FOUND, "the sandbox's cgroup is gone");
    }
    return 0;
}

/* ---- freezing ---- */

static int freeze_group(const char *id, bool frozen, struct error *err)
{
    int64_t until_ms = clock_mono_ms() + FREEZE_TIMEOUT_MS;
    char path[PATH_BYTES], text[256];
    const char *file = roots.freezer_v2 ? "cgroup.freeze" : "freezer.state";

    group_path(path, roots.freezer, id);
    if (kernel_file_write(path, file,
                          roots.freezer_v2 ? (frozen ? "1" : "0")
                                           : (frozen ? "FROZEN" : "THAWED")) < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "%s", path);
    }
    for (;;) {
        bool done;

        if (roots.freezer_v2) {
            done = kernel_file_read(path, "cgroup.events", text, sizeof(text)) == 0 &&
                   strstr(text, frozen ? "frozen 1" : "frozen 0") != NULL;
        } else {
            done = kernel_file_read(path, "freezer.state", text, sizeof(text)) == 0 &&
                   strncmp(text, frozen ? "FROZEN" : "THAWED", 6) == 0;
        }
        if (done) {
            return 0;
        }
        if (clock_mono_ms() > until_ms) {
            return error_set(err, ERR_INTERNAL, "the sandbox did not %s in time",
                             frozen ? "freeze" : "thaw");
        }
        clock_sleep_ms(1);
    }
}

int cgroup_freeze(const char *id, pid_t init_pid, bool frozen, struct error *err)
{
    return roots.freezer[0] != '\0' ? freeze_group(id, frozen, err)
                                    : process_stop(init_pid, frozen, err);
}
