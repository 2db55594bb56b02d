/*
 * metrics - counters, gauges and histograms, printed in Prometheus text format 0.0.4.
 *
 * Static definitions: a module declares its metrics as file-scope objects and registers them
 * once at start. Updates are lock-free atomics, safe from any thread.
 */
#ifndef BASE_METRICS_H
#define BASE_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

#include "common/base/strbuf.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

#define METRIC_BUCKETS 14
/* Upper bounds in ms of every histogram; the last bucket is +Inf. */
extern const int64_t metric_bucket_bounds_ms[METRIC_BUCKETS];

struct metric {
    const char *name;   /* e.g. "sandbox_jobs_finished_total" */
    const char *labels; /* e.g. "op=\"create\"" or NULL; same-name metrics differ only here */
    const char *help;
    enum metric_type type;
    _Atomic int64_t value;
    _Atomic int64_t sum_ms;
    _Atomic int64_t buckets[METRIC_BUCKETS + 1];
    struct metric *next; /* owned by metrics.c */
};

void metrics_register(struct metric *metric); /* at start, single-threaded; keeps the pointer */
void metric_add(struct metric *metric, int64_t n);
void metric_set(struct metric *metric, int64_t n);
void metric_observe_ms(struct metric *metric, int64_t ms);
/* Prints the HELP and TYPE lines of a metric whose values are kept elsewhere. */
void metric_print_head(struct strbuf *out, const char *name, const char *help,
                       enum metric_type type);
/* Prints all registered metrics, plus process RSS and open fds. */
int metrics_print(struct strbuf *out);

#endif
