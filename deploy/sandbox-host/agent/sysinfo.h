/*
 * sysinfo - the figures of GET /metrics.
 *
 * Owns: reading the sandbox's cgroup where it has one, else the machine. Does not own: JSON.
 * Threads: any. Failure: a figure that cannot be read is 0.
 */
#ifndef AGENT_SYSINFO_H
#define AGENT_SYSINFO_H

#include <stdint.h>

struct sysinfo_sample {
    int64_t cpu_count;
    double cpu_used_pct; /* of all processors, since the sample before */
    int64_t mem_total, mem_used, mem_cache;
    int64_t disk_total, disk_used;
};

void sysinfo_read(struct sysinfo_sample *ret);

#endif
