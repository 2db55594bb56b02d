/*
 * sysinfo - processor, memory and disk figures; see sysinfo.h.
 */
#include "deploy/sandbox-host/agent/sysinfo.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* First line of `file`, or the rest of the line that begins with `key`, as a number. */
static int64_t read_number(const char *file, const char *key)
{
    char line[256];
    int64_t value = 0;
    FILE *in = fopen(file, "re");

    if (in == NULL) {
        return 0;
    }
    while (fgets(line, sizeof(line), in) != NULL) {
        if (key == NULL) {
            value = strtoll(line, NULL, 10);
            break;
        }
        if (strncmp(line, key, strlen(key)) == 0) {
            value = strtoll(line + strlen(key), NULL, 10);
            break;
        }
    }
    fclose(in);
    return value;
}

/* Busy and total processor time of the machine, in clock ticks. */
static void read_cpu(int64_t *busy, int64_t *total)
{
    char line[512];
    FILE *in = fopen("/proc/stat", "re");

    *busy = *total = 0;
    if (in == NULL) {
        return;
    }
    if (fgets(line, sizeof(line), in) != NULL && strncmp(line, "cpu ", 4) == 0) {
        char *at = line + 4;
        /* user nice system idle iowait irq softirq steal; guest time is in user already */
        for (int i = 0; i < 8; i++) {
            const int64_t ticks = strtoll(at, &at, 10);
            *total += ticks;
            *busy += i == 3 || i == 4 ? 0 : ticks;
        }
    }
    fclose(in);
}

void sysinfo_read(struct sysinfo_sample *ret)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static int64_t last_busy, last_total;
    struct statvfs disk;
    int64_t busy = 0, total = 0;

    memset(ret, 0, sizeof(*ret));
    ret->cpu_count = sysconf(_SC_NPROCESSORS_ONLN);
    read_cpu(&busy, &total);
    pthread_mutex_lock(&lock);
    if (total > last_total) {
        ret->cpu_used_pct =
            (double)(int64_t)(10000.0 * (double)(busy - last_busy) / (double)(total - last_total)) /
            100.0;
    }
    last_busy = busy;
    last_total = total;
    pthread_mutex_unlock(&lock);

    ret->mem_total = read_number("/proc/meminfo", "MemTotal:") * 1024;
    ret->mem_used = ret->mem_total - read_number("/proc/meminfo", "MemAvailable:") * 1024;
    ret->mem_cache = read_number("/proc/meminfo", "Cached:") * 1024;
    const int64_t limit = read_number("/sys/fs/cgroup/memory.max", NULL);
    if (limit > 0) { /* "max" reads as 0 */
        ret->mem_total = limit;
        ret->mem_used = read_number("/sys/fs/cgroup/memory.current", NULL);
        ret->mem_cache = read_number("/sys/fs/cgroup/memory.stat", "file ");
        ret->mem_used -= ret->mem_cache < ret->mem_used ? ret->mem_cache : ret->mem_used;
    }
    if (statvfs("/home", &disk) == 0) {
        ret->disk_total = (int64_t)disk.f_blocks * (int64_t)disk.f_frsize;
        ret->disk_used = ret->disk_total - (int64_t)disk.f_bfree * (int64_t)disk.f_frsize;
    }
}
