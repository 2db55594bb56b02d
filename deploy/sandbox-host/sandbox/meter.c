/* meter - see meter.h. */
#include "deploy/sandbox-host/sandbox/meter.h"

#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "deploy/sandbox-host/isolation/cgroup.h"
#include "deploy/sandbox-host/isolation/disk.h"

int meter_take(const char *id, pid_t init_pid, struct meter_sample *ret, struct error *err)
{
    *ret = (struct meter_sample){.at_ms = clock_wall_ms()};
    if (cgroup_usage(id, &ret->cpu_ns, &ret->memory_bytes, &ret->cache_bytes, err) < 0) {
        return -1;
    }
    return disk_usage(init_pid, &ret->disk_bytes, &ret->disk_total_bytes, err);
}

void meter_add(struct meter *meter, struct meter_sample sample)
{
    if (meter->samples == NULL) {
        meter->samples = xcalloc(METER_SAMPLES, sizeof(*meter->samples));
    }
    if (meter->count > 0) {
        const struct meter_sample *last = meter_at(meter, meter->count - 1);

        if (sample.at_ms > last->at_ms && sample.cpu_ns >= last->cpu_ns) {
            sample.cpu_percent =
                (double)(sample.cpu_ns - last->cpu_ns) / (double)(sample.at_ms - last->at_ms) / 1e4;
        }
    }
    if (meter->count == METER_SAMPLES) {
        meter->first = (meter->first + 1) % METER_SAMPLES;
        meter->count--;
    }
    meter->samples[(meter->first + meter->count++) % METER_SAMPLES] = sample;
}

const struct meter_sample *meter_at(const struct meter *meter, size_t i)
{
    return &meter->samples[(meter->first + i) % METER_SAMPLES];
}

void meter_done(struct meter *meter)
{
    free(meter->samples);
    *meter = (struct meter){.samples = NULL};
}
