/*
 * meter - what one sandbox used, every few seconds.
 *
 * Owns: the samples, the last METER_SAMPLES of them. Measures by cgroup: where there is none a
 * sandbox has no samples. Threads: guarded by whoever owns it, but for meter_take(), which only
 * reads the machine.
 */
#ifndef SANDBOX_HOST_METER_H
#define SANDBOX_HOST_METER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/base/error.h"

enum { METER_SAMPLES = 240, METER_EVERY_MS = 5000 };

struct meter_sample {
    int64_t at_ms;      /* wall clock */
    int64_t cpu_ns;     /* since the sandbox began */
    double cpu_percent; /* of one core, since the sample before */
    int64_t memory_bytes, cache_bytes, disk_bytes, disk_total_bytes;
};
struct meter {
    struct meter_sample *samples; /* a ring of METER_SAMPLES, made when first used */
    size_t first, count;
};

/* Measures now, but for cpu_percent. ERR_NOT_FOUND: there is nothing to measure by. */
int meter_take(const char *id, pid_t init_pid, struct meter_sample *ret,
               struct error *err) MUST_CHECK;
void meter_add(struct meter *meter, struct meter_sample sample);
/* i-th sample from the oldest, i < count. */
const struct meter_sample *meter_at(const struct meter *meter, size_t i);
void meter_done(struct meter *meter);

#endif
