/* metrics - see metrics.h. */
#include "common/base/metrics.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const int64_t metric_bucket_bounds_ms[METRIC_BUCKETS] = {1,   2,   5,    10,   25,   50,    100,
                                                         250, 500, 1000, 2500, 5000, 10000, 30000};

static struct metric *first;
static const char *const type_names[] = {
    [METRIC_COUNTER] = "counter", [METRIC_GAUGE] = "gauge", [METRIC_HISTOGRAM] = "histogram"};

void metrics_register(struct metric *metric)
{
    struct metric **at = &first;

    for (struct metric *m = first; m != NULL; m = m->next) {
        if (m == metric) {
            return;
        }
    }
    /* the format requires metrics of one name to stand together; keep their order of registration
     */
    for (struct metric **p = &first; *p != NULL; p = &(*p)->next) {
        at = &(*p)->next;
        if (strcmp((*p)->name, metric->name) == 0 &&
            ((*p)->next == NULL || strcmp((*p)->next->name, metric->name) != 0)) {
            break;
        }
    }
    metric->next = *at;
    *at = metric;
}

void metric_add(struct metric *metric, int64_t n)
{
    atomic_fetch_add_explicit(&metric->value, n, memory_order_relaxed);
}

void metric_set(struct metric *metric, int64_t n)
{
    atomic_store_explicit(&metric->value, n, memory_order_relaxed);
}

void metric_observe_ms(struct metric *metric, int64_t ms)
{
    int bucket = 0;

    while (bucket < METRIC_BUCKETS && ms > metric_bucket_bounds_ms[bucket]) {
        bucket++;
    }
    atomic_fetch_add_explicit(&metric->buckets[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&metric->sum_ms, ms, memory_order_relaxed);
    atomic_fetch_add_explicit(&metric->value, 1, memory_order_relaxed);
}

static void print_histogram(const struct metric *metric, struct strbuf *out)
{
    const char *labels = metric->labels != NULL ? metric->labels : "";
    const char *comma = metric->labels != NULL ? "," : "";
    const char *open = metric->labels != NULL ? "{" : "",
               *close = metric->labels != NULL ? "}" : "";
    int64_t total = 0;

    for (int i = 0; i < METRIC_BUCKETS; i++) {
        total += atomic_load_explicit(&metric->buckets[i], memory_order_relaxed);
        strbuf_printf(out, "%s_bucket{%s%sle=\"%" PRId64 "\"} %" PRId64 "\n", metric->name, labels,
                      comma, metric_bucket_bounds_ms[i], total);
    }
    total += atomic_load_explicit(&metric->buckets[METRIC_BUCKETS], memory_order_relaxed);
    strbuf_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %" PRId64 "\n", metric->name, labels, comma,
                  total);
    strbuf_printf(out, "%s_sum%s%s%s %" PRId64 "\n", metric->name, open, labels, close,
                  atomic_load_explicit(&metric->sum_ms, memory_order_relaxed));
    strbuf_printf(out, "%s_count%s%s%s %" PRId64 "\n", metric->name, open, labels, close, total);
}

static int64_t open_fds(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int64_t count = -3; /* do not count ".", ".." and the descriptor of this directory */

    if (folder == NULL) {
        return -1;
    }
    while (readdir(folder) != NULL) {
        count++;
    }
    closedir(folder);
    return count;
}

static int64_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    long long pages = 0;

    if (file == NULL) {
        return -1;
    }
    if (fscanf(file, "%*s %lld", &pages) != 1) {
        pages = -1;
    }
    fclose(file);
    return pages < 0 ? -1 : pages * sysconf(_SC_PAGESIZE);
}

void metric_print_head(struct strbuf *out, const char *name, const char *help,
                       enum metric_type type)
{
    strbuf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type_names[type]);
}

int metrics_print(struct strbuf *out)
{
    const char *last = "";

    for (const struct metric *m = first; m != NULL; m = m->next) {
        if (strcmp(last, m->name) != 0) {
            metric_print_head(out, m->name, m->help, m->type);
            last = m->name;
        }
        if (m->type == METRIC_HISTOGRAM) {
            print_histogram(m, out);
        } else {
            bool labelled = m->labels != NULL;

            strbuf_printf(out, "%s%s%s%s %" PRId64 "\n", m->name, labelled ? "{" : "",
                          labelled ? m->labels : "", labelled ? "}" : "",
                          atomic_load_explicit(&m->value, memory_order_relaxed));
        }
    }
    metric_print_head(out, "process_resident_memory_bytes", "Resident memory size in bytes.",
                      METRIC_GAUGE);
    strbuf_printf(out, "process_resident_memory_bytes %" PRId64 "\n", resident_bytes());
    metric_print_head(out, "process_open_fds", "Number of open file descriptors.", METRIC_GAUGE);
    return strbuf_printf(out, "process_open_fds %" PRId64 "\n", open_fds());
}
