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

/* A figure of a provider as one worker has it. */
static const struct {
    const char *key, *name, *help;
    enum metric_type type;
} figures[] = {
    {"in_flight", "sandbox_provider_in_flight", "Calls to the provider under way.", METRIC_GAUGE},
    {"limit", "sandbox_provider_limit", "Calls at once that its rate limit leaves us.",
     METRIC_GAUGE},
    {"hold_ms", "sandbox_provider_hold_ms", "Until the provider may be called again.",
     METRIC_GAUGE},
    {"breaker", "sandbox_provider_breaker_state", "0 closed, 1 one call tries it, 2 open.",
     METRIC_GAUGE},
    {"key_refused", "sandbox_provider_key_refused", "1 while the provider refuses our API key.",
     METRIC_GAUGE},
    {"breaker_opened", "sandbox_provider_breaker_opened_total", "Times its circuit has opened.",
     METRIC_COUNTER},
    {"holds", "sandbox_provider_holds_total", "Times it told us to wait.", METRIC_COUNTER},
    {"retries_held", "sandbox_provider_retries_held_total",
     "Retries put off for want of retry budget.", METRIC_COUNTER},
    {"moved_away", "sandbox_provider_creates_moved_total",
     "Creates that went on from it to another provider.", METRIC_COUNTER},
    {"adopted", "sandbox_provider_adopted_total",
     "Sandboxes found that an earlier attempt had made.", METRIC_COUNTER},
    {"orphans_killed", "sandbox_provider_orphans_killed_total",
     "Sandboxes removed there that no row named.", METRIC_COUNTER},
    {"lost", "sandbox_provider_lost_total", "Rows ended because it did not know their sandbox.",
     METRIC_COUNTER},
    {"given_back", "sandbox_provider_given_back_total",
     "Of these, rows given back when their sandbox was seen again.", METRIC_COUNTER},
    {"corrected", "sandbox_provider_corrected_total", "Rows corrected by what it said.",
     METRIC_COUNTER},
    {"sweeps", "sandbox_provider_sweeps_total", "Comparisons of all it has with our rows.",
     METRIC_COUNTER},
    {"sweeps_failed", "sandbox_provider_sweeps_failed_total", "Those that came to nothing.",
     METRIC_COUNTER},
};

/* A figure of a worker. */
static const struct {
    const char *key, *name, *help;
    enum metric_type type;
} worker_figures[] = {
    {"in_flight", "sandbox_worker_in_flight", "Jobs a worker is at.", METRIC_GAUGE},
    {"capacity", "sandbox_worker_capacity", "Jobs a worker can be at.", METRIC_GAUGE},
    {"claimed", "sandbox_worker_claimed_total", "Attempts begun.", METRIC_COUNTER},
    {"done", "sandbox_worker_done_total", "Jobs done.", METRIC_COUNTER},
    {"failed", "sandbox_worker_failed_total", "Jobs failed.", METRIC_COUNTER},
    {"dead", "sandbox_worker_dead_total", "Jobs left for an operator.", METRIC_COUNTER},
    {"retried", "sandbox_worker_retried_total", "Attempts that will be made again.",
     METRIC_COUNTER},
    {"fenced", "sandbox_worker_fenced_total", "Ends that came after the lease had gone.",
     METRIC_COUNTER},
    {"took_over", "sandbox_worker_took_over_total", "Jobs taken over from a worker that died.",
     METRIC_COUNTER},
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
    const cJSON *item = field(provider, figures[index].key);

    if (item != NULL) {
        strbuf_printf(out, "%s{worker=\"%s\",provider=\"%s\"} %" PRId64 "\n", figures[index].name,
                      worker, provider->string, number_of(item));
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
    for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++) {
        metric_print_head(out, figures[i].name, figures[i].help, figures[i].type);
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
