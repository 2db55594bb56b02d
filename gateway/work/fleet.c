/* fleet - see fleet.h. */
#include "gateway/work/fleet.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/metrics.h"

enum { FRESH_MS = 1000, NAME_CHARS_MAX = 128 };

struct member {
    char name[NAME_CHARS_MAX + 1];
    cJSON *info; /* what its heartbeat says */
};

struct fleet {
    struct queue *queue;
    struct store *store;
    pthread_mutex_t lock;
    int64_t read_ms; /* 0 = never */
    struct member *members;
    size_t count;
};

struct figure {
    const char *key, *name, *help; /* name "" = /metrics does not print it */
    enum metric_type type;
};

/* The figures of a provider as one worker has it, and of a worker. */
static const struct figure provider_figures[] = {
#define WORKER_GAUGE(...)
#define WORKER_COUNTER(...)
#define PROVIDER_GAUGE(key, metric, help)   {#key, metric, help, METRIC_GAUGE},
#define PROVIDER_COUNTER(key, metric, help) {#key, metric, help, METRIC_COUNTER},
#include "common/domain/worker_figures.def"
#undef WORKER_GAUGE
#undef WORKER_COUNTER
#undef PROVIDER_GAUGE
#undef PROVIDER_COUNTER
};
static const struct figure worker_figures[] = {
#define WORKER_GAUGE(key, metric, help)   {#key, metric, help, METRIC_GAUGE},
#define WORKER_COUNTER(key, metric, help) {#key, metric, help, METRIC_COUNTER},
#define PROVIDER_GAUGE(...)
#define PROVIDER_COUNTER(...)
#include "common/domain/worker_figures.def"
#undef WORKER_GAUGE
#undef WORKER_COUNTER
#undef PROVIDER_GAUGE
#undef PROVIDER_COUNTER
};

struct fleet *fleet_new(const struct queue_options *redis, struct store *store)
{
    struct fleet *fleet = xcalloc(1, sizeof(*fleet));

    fleet->queue = queue_new(redis);
    fleet->store = store;
    pthread_mutex_init(&fleet->lock, NULL);
    return fleet;
}

static void forget(struct fleet *fleet)
{
    for (size_t i = 0; i < fleet->count; i++) {
        cJSON_Delete(fleet->members[i].info);
    }
    free(fleet->members);
    fleet->members = NULL;
    fleet->count = 0;
}

void fleet_free(struct fleet *fleet)
{
    if (fleet != NULL) {
        forget(fleet);
        queue_free(fleet->queue);
        pthread_mutex_destroy(&fleet->lock);
        free(fleet);
    }
}

/* The name becomes a label: nothing that would end one. */
static bool is_label(const char *name)
{
    size_t length = strlen(name);

    return length > 0 && length <= NAME_CHARS_MAX &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:._-") ==
               length;
}

/* Unless it is there, or has said nothing that can be read. */
static void add_member(struct fleet *fleet, const char *name, const char *info_json)
{
    struct error ignored = ERROR_INIT;

    if (!is_label(name)) {
        return;
    }
    for (size_t i = 0; i < fleet->count; i++) {
        if (strcmp(fleet->members[i].name, name) == 0) {
            return;
        }
    }
    cJSON *info = json_parse(info_json, strlen(info_json), &ignored);
    if (info == NULL) {
        return;
    }
    fleet->members = xrealloc(fleet->members, (fleet->count + 1) * sizeof(*fleet->members));
    str_copy(fleet->members[fleet->count].name, sizeof(fleet->members[0].name), name);
    fleet->members[fleet->count++].info = info;
}

/* Under the lock. Nothing to show is what shows a failure; readyz has the words. */
static void refresh(struct fleet *fleet)
{
    struct error ignored = ERROR_INIT;
    struct queue_beat *beats = NULL;
    struct store_figures *kept = NULL;
    size_t count = 0;

    if (fleet->read_ms != 0 && clock_mono_ms() - fleet->read_ms < FRESH_MS) {
        return;
    }
    forget(fleet);
    fleet->read_ms = clock_mono_ms();
    if (queue_beats_read(fleet->queue, QUEUE_ROLE_WORKER, &beats, &count, &ignored) == 0) {
        for (size_t i = 0; i < count; i++) {
            add_member(fleet, beats[i].name, beats[i].info_json);
        }
        queue_beats_free(beats, count);
    }
    if (store_worker_figures(fleet->store, &kept, &count, &ignored) == 0) {
        for (size_t i = 0; i < count; i++) {
            add_member(fleet, kept[i].name, kept[i].json);
        }
        store_figures_free(kept, count);
    }
}

static int64_t number_of(const cJSON *item)
{
    if (cJSON_IsBool(item)) {
        return cJSON_IsTrue(item);
    }
    if (cJSON_IsString(item)) { /* the breaker */
        return strcmp(item->valuestring, "open") == 0      ? 2
               : strcmp(item->valuestring, "probing") == 0 ? 1
                                                           : 0;
    }
    return cJSON_IsNumber(item) && item->valuedouble > -9e15 && item->valuedouble < 9e15
               ? (int64_t)item->valuedouble
               : 0;
}

static const cJSON *field(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

typedef void (*print_fn)(struct strbuf *out, const char *worker, const cJSON *provider,
                         const void *arg);

/* Every provider of every worker. */
static void each_provider(const struct fleet *fleet, struct strbuf *out, print_fn print,
                          const void *arg)
{
    for (size_t i = 0; i < fleet->count; i++) {
        const cJSON *provider;

        cJSON_ArrayForEach(provider, field(fleet->members[i].info, "providers"))
        {
            if (is_label(provider->string)) {
                print(out, fleet->members[i].name, provider, arg);
            }
        }
    }
}

static void print_figure(struct strbuf *out, const char *worker, const cJSON *provider,
                         const void *arg)
{
    size_t index = *(const size_t *)arg;
    const cJSON *item = field(provider, provider_figures[index].key);

    if (item != NULL) {
        strbuf_printf(out, "%s{worker=\"%s\",provider=\"%s\"} %" PRId64 "\n",
                      provider_figures[index].name, worker, provider->string, number_of(item));
    }
}

static void print_calls(struct strbuf *out, const char *worker, const cJSON *provider,
                        const void *arg)
{
    const cJSON *op, *outcome;

    cJSON_ArrayForEach(op, field(provider, "ops"))
    {
        cJSON_ArrayForEach(outcome, field(op, "ended"))
        {
            if (is_label(op->string) && is_label(outcome->string)) {
                strbuf_printf(
                    out, "%s{worker=\"%s\",provider=\"%s\",op=\"%s\",outcome=\"%s\"} %" PRId64 "\n",
                    (const char *)arg, worker, provider->string, op->string, outcome->string,
                    number_of(outcome));
            }
        }
    }
}

static void print_times(struct strbuf *out, const char *worker, const cJSON *provider,
                        const void *arg)
{
    const char *name = arg;
    const cJSON *op;

    cJSON_ArrayForEach(op, field(provider, "ops"))
    {
        const cJSON *buckets = field(op, "requests"), *bucket;
        int64_t total = 0;
        int index = 0;
        char labels[512];

        if (!is_label(op->string) || cJSON_GetArraySize(buckets) != METRIC_BUCKETS + 1) {
            continue;
        }
        snprintf(labels, sizeof(labels), "worker=\"%s\",provider=\"%s\",op=\"%s\"", worker,
                 provider->string, op->string);
        cJSON_ArrayForEach(bucket, buckets)
        {
            total += number_of(bucket);
            if (index < METRIC_BUCKETS) {
                strbuf_printf(out, "%s_bucket{%s,le=\"%" PRId64 "\"} %" PRId64 "\n", name, labels,
                              metric_bucket_bounds_ms[index], total);
            }
            index++;
        }
        strbuf_printf(out,
                      "%s_bucket{%s,le=\"+Inf\"} %" PRId64 "\n%s_sum{%s} %" PRId64
                      "\n%s_count{%s} %" PRId64 "\n",
                      name, labels, total, name, labels, number_of(field(op, "requests_ms")), name,
                      labels, total);
    }
}

void fleet_print(struct fleet *fleet, struct strbuf *out)
{
    static const char calls[] = "sandbox_provider_calls_total";
    static const char times[] = "sandbox_provider_request_duration_ms";

    pthread_mutex_lock(&fleet->lock);
    refresh(fleet);
    for (size_t i = 0; i < sizeof(worker_figures) / sizeof(worker_figures[0]); i++) {
        if (worker_figures[i].name[0] == '\0') {
            continue;
        }
        metric_print_head(out, worker_figures[i].name, worker_figures[i].help,
                          worker_figures[i].type);
        for (size_t w = 0; w < fleet->count; w++) {
            const cJSON *item = field(fleet->members[w].info, worker_figures[i].key);

            if (item != NULL) {
                strbuf_printf(out, "%s{worker=\"%s\"} %" PRId64 "\n", worker_figures[i].name,
                              fleet->members[w].name, number_of(item));
            }
        }
    }
    for (size_t i = 0; i < sizeof(provider_figures) / sizeof(provider_figures[0]); i++) {
        metric_print_head(out, provider_figures[i].name, provider_figures[i].help,
                          provider_figures[i].type);
        each_provider(fleet, out, print_figure, &i);
    }
    metric_print_head(out, calls, "Operations at the provider, by how they ended.", METRIC_COUNTER);
    each_provider(fleet, out, print_calls, calls);
    metric_print_head(out, times, "Duration of HTTP requests to the provider, in milliseconds.",
                      METRIC_HISTOGRAM);
    each_provider(fleet, out, print_times, times);
    pthread_mutex_unlock(&fleet->lock);
}

/* What one worker says is wrong with it; NULL = nothing. */
static const char *complaint(const cJSON *provider, char *text, size_t size)
{
    int64_t hold_ms = number_of(field(provider, "hold_ms"));

    if (number_of(field(provider, "key_refused")) != 0) {
        return "it refuses our API key: its jobs wait";
    }
    if (number_of(field(provider, "breaker")) != 0) {
        return "it fails: its circuit is open";
    }
    if (hold_ms > 0) {
        snprintf(text, size, "it limits the rate: on hold for another %" PRId64 " ms", hold_ms);
        return text;
    }
    return NULL;
}

void fleet_describe(struct fleet *fleet, cJSON *ret)
{
    pthread_mutex_lock(&fleet->lock);
    refresh(fleet);
    for (size_t i = 0; i < fleet->count; i++) {
        const cJSON *provider;

        cJSON_ArrayForEach(provider, field(fleet->members[i].info, "providers"))
        {
            char buffer[96];
            const char *text = complaint(provider, buffer, sizeof(buffer));

            if (text != NULL || field(ret, provider->string) == NULL) {
                cJSON_DeleteItemFromObjectCaseSensitive(ret, provider->string);
                cJSON_AddStringToObject(ret, provider->string, text != NULL ? text : "ok");
            }
        }
    }
    pthread_mutex_unlock(&fleet->lock);
}
