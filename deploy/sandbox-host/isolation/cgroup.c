/* cgroup - see cgroup.h. */
#include "deploy/sandbox-host/isolation/cgroup.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"

#define PARENT "sandbox-host"

enum { ROOTS = 5, PATH_BYTES = 256, FREEZE_TIMEOUT_MS = 5000, STOP_ROUNDS = 200, KILL_ROUNDS = 50 };

/* Where each controller lives; "" = not usable. On v2 all are the same folder. */
static struct {
    char memory[PATH_BYTES], pids[PATH_BYTES], cpu[PATH_BYTES], freezer[PATH_BYTES];
    char cpuacct[PATH_BYTES]; /* often the same folder as cpu */
    bool v2, freezer_v2;
} roots;

static int write_text(const char *folder, const char *file, const char *text)
{
    char path[PATH_BYTES + 64];
    int fd, status;

    snprintf(path, sizeof(path), "%s/%s", folder, file);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    status = write(fd, text, strlen(text)) < 0 ? -1 : 0;
    close(fd);
    return status;
}

static int write_number(const char *folder, const char *file, int64_t value)
{
    char text[32];

    snprintf(text, sizeof(text), "%lld", (long long)value);
    return write_text(folder, file, text);
}

static int read_text(const char *folder, const char *file, char *out, size_t size)
{
    char path[PATH_BYTES + 64];
    int fd;
    ssize_t n;

    snprintf(path, sizeof(path), "%s/%s", folder, file);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    n = read(fd, out, size - 1);
    close(fd);
    out[n > 0 ? n : 0] = '\0';
    return n < 0 ? -1 : 0;
}

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
        write_text("/sys/fs/cgroup", "cgroup.subtree_control", "+memory");
        write_text("/sys/fs/cgroup", "cgroup.subtree_control", "+pids");
        write_text("/sys/fs/cgroup", "cgroup.subtree_control", "+cpu");
        try_root(roots.freezer, "/sys/fs/cgroup", "cgroup.freeze", W_OK);
        if (roots.freezer[0] != '\0') {
            write_text(roots.freezer, "cgroup.subtree_control", "+memory");
            write_text(roots.freezer, "cgroup.subtree_control", "+pids");
            write_text(roots.freezer, "cgroup.subtree_control", "+cpu");
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
        write_number(path, roots.v2 ? "memory.max" : "memory.limit_in_bytes", limits->memory_bytes);
        write_number(path, roots.v2 ? "memory.swap.max" : "memory.memsw.limit_in_bytes",
                     roots.v2 ? 0 : limits->memory_bytes);
    }
    if (roots.pids[0] != '\0') {
        group_path(path, roots.pids, id);
        write_number(path, "pids.max", limits->processes);
    }
    if (roots.cpu[0] != '\0') {
        group_path(path, roots.cpu, id);
        if (roots.v2) {
            snprintf(text, sizeof(text), "%lld 100000", (long long)limits->cpu_percent * 1000);
            write_text(path, "cpu.max", text);
        } else {
            write_number(path, "cpu.cfs_period_us", 100000);
            write_number(path, "cpu.cfs_quota_us", limits->cpu_percent * 1000);
        }
    }
}

void cgroup_enter(const char *id)
{
    char path[PATH_BYTES];

    for (int i = 0; i < ROOTS; i++) {
        if (all_roots()[i][0] != '\0') {
            group_path(path, all_roots()[i], id);
            write_text(path, "cgroup.procs", "0");
        }
    }
}

static void kill_group(const char *path)
{
    char text[65536], *save = NULL;

    if (write_text(path, "cgroup.kill", "1") == 0 ||
        read_text(path, "cgroup.procs", text, sizeof(text)) < 0) {
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
        write_text(path, roots.freezer_v2 ? "cgroup.freeze" : "freezer.state",
                   roots.freezer_v2 ? "0" : "THAWED");
    }
}

/* Whether SIGKILL waits for the process: no one can take that back. */
static bool is_killed(pid_t pid)
{
    static const char *const fields[] = {"SigPnd:", "ShdPnd:"};
    char folder[64], text[8192];

    snprintf(folder, sizeof(folder), "/proc/%ld", (long)pid);
    if (read_text(folder, "status", text, sizeof(text)) < 0) {
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
        if (read_text(path, "cgroup.procs", text, sizeof(text)) == 0 &&
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
    if (read_text(path, file, text, sizeof(text)) < 0) {
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

/* ---- freezing -----------------------------------------------------------------------------------
 */

static int freeze_group(const char *id, bool frozen, struct error *err)
{
    int64_t until_ms = clock_mono_ms() + FREEZE_TIMEOUT_MS;
    char path[PATH_BYTES], text[256];
    const char *file = roots.freezer_v2 ? "cgroup.freeze" : "freezer.state";

    group_path(path, roots.freezer, id);
    if (write_text(path, file,
                   roots.freezer_v2 ? (frozen ? "1" : "0") : (frozen ? "FROZEN" : "THAWED")) < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "%s", path);
    }
    for (;;) {
        bool done;

        if (roots.freezer_v2) {
            done = read_text(path, "cgroup.events", text, sizeof(text)) == 0 &&
                   strstr(text, frozen ? "frozen 1" : "frozen 0") != NULL;
        } else {
            done = read_text(path, "freezer.state", text, sizeof(text)) == 0 &&
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

static ino_t pid_namespace(pid_t pid)
{
    char path[64];
    struct stat status;

    snprintf(path, sizeof(path), "/proc/%ld/ns/pid", (long)pid);
    return stat(path, &status) == 0 ? status.st_ino : 0;
}

static bool is_stopped(pid_t pid)
{
    char folder[64], text[512];
    const char *after_name;

    snprintf(folder, sizeof(folder), "/proc/%ld", (long)pid);
    if (read_text(folder, "stat", text, sizeof(text)) < 0 ||
        (after_name = strrchr(text, ')')) == NULL) {
        return true; /* gone */
    }
    return strchr("TtZX", after_name[2]) != NULL;
}

/* Signals every process of the namespace; returns how many were not stopped yet. */
static int signal_namespace(ino_t namespace, int signal)
{
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    int moving = 0;

    if (proc == NULL) {
        return -1;
    }
    while ((entry = readdir(proc)) != NULL) {
        pid_t pid =
            isdigit((unsigned char)entry->d_name[0]) ? (pid_t)strtol(entry->d_name, NULL, 10) : 0;

        if (pid > 0 && pid_namespace(pid) == namespace) {
            if (signal == SIGCONT || !is_stopped(pid)) {
                moving += signal == SIGSTOP;
                kill(pid, signal);
            }
        }
    }
    closedir(proc);
    return moving;
}

/* A process may fork while we walk: walk until a whole round finds nothing that moves. */
static int stop_walk(pid_t init_pid, bool frozen, struct error *err)
{
    ino_t namespace = pid_namespace(init_pid);

    if (namespace == 0) {
        return error_set(err, ERR_INTERNAL, "the sandbox's processes are gone");
    }
    if (!frozen) {
        return signal_namespace(namespace, SIGCONT) < 0
                   ? error_set(err, ERR_INTERNAL, "/proc cannot be read")
                   : 0;
    }
    for (int round = 0; round < STOP_ROUNDS; round++) {
        int moving = signal_namespace(namespace, SIGSTOP);

        if (moving <= 0) {
            return moving < 0 ? error_set(err, ERR_INTERNAL, "/proc cannot be read") : 0;
        }
        clock_sleep_ms(1);
    }
    return error_set(err, ERR_INTERNAL, "the sandbox's processes did not stop");
}

int cgroup_freeze(const char *id, pid_t init_pid, bool frozen, struct error *err)
{
    return roots.freezer[0] != '\0' ? freeze_group(id, frozen, err)
                                    : stop_walk(init_pid, frozen, err);
}
