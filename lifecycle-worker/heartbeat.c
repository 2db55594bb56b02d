/* heartbeat - see heartbeat.h. */
#include "lifecycle-worker/heartbeat.h"

#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/json.h"
#include "lifecycle-worker/dependencies.h"

enum { JSON_MAX_BYTES = 256 * 1024 };

static cJSON *op_json(const struct gate_counts *counts, int op)
{
    cJSON *item = cJSON_CreateObject();
    cJSON *ended = cJSON_AddObjectToObject(item, "ended");
    for (int outcome = 0; outcome < OUTCOME_COUNT; outcome++) {
        if (counts->ended[op][outcome] > 0) {
            json_add_int64(ended, outcome_name((enum outcome)outcome), counts->ended[op][outcome]);
        }
    }
    json_add_int64(item, "requests_ms", counts->requests_ms[op]);
    cJSON *buckets = cJSON_AddArrayToObject(item, "requests");
    for (int i = 0; i <= METRIC_BUCKETS; i++) {
        cJSON_AddItemToArray(buckets, cJSON_CreateNumber((double)counts->requests[op][i]));
    }
    return item;
}

static bool has_called(const struct gate_counts *counts, int op)
{
    int64_t sum = 0;
    for (int outcome = 0; outcome < OUTCOME_COUNT; outcome++) {
        sum += counts->ended[op][outcome];
    }
    for (int i = 0; i <= METRIC_BUCKETS; i++) {
        sum += counts->requests[op][i];
    }
    return sum > 0;
}

/* The gauges of worker_figures.def, each by its key. */
static cJSON *worker_in_flight(const struct worker *worker)
{
    return cJSON_CreateNumber(worker->inflight.used);
}

static cJSON *worker_capacity(const struct worker *worker)
{
    return cJSON_CreateNumber(worker->inflight.capacity);
}

static cJSON *provider_in_flight(const struct gate *gate)
{
    return cJSON_CreateNumber(gate->in_flight);
}

static cJSON *provider_limit(const struct gate *gate)
{
    return cJSON_CreateNumber(gate_limit(gate));
}

static cJSON *provider_hold_ms(const struct gate *gate)
{
    int64_t left_ms = gate->hold_until_ms - clock_mono_ms();
    return cJSON_CreateNumber(left_ms > 0 ? (double)left_ms : 0);
}

static cJSON *provider_breaker(const struct gate *gate)
{
    return cJSON_CreateString(gate_state_name(gate->state));
}

static cJSON *provider_key_refused(const struct gate *gate)
{
    return cJSON_CreateBool(gate->key_refused);
}

static cJSON *gate_json(const struct gate *gate)
{
    const struct gate_counts *counts = &gate->counts;
    cJSON *item = cJSON_CreateObject();
#define WORKER_GAUGE(...)
#define WORKER_COUNTER(...)
#define PROVIDER_GAUGE(key, metric, help)   cJSON_AddItemToObject(item, #key, provider_##key(gate));
#define PROVIDER_COUNTER(key, metric, help) json_add_int64(item, #key, counts->key);
#include "common/domain/worker_figures.def"
#undef WORKER_GAUGE
#undef WORKER_COUNTER
#undef PROVIDER_GAUGE
#undef PROVIDER_COUNTER
    cJSON *ops = cJSON_AddObjectToObject(item, "ops");
    for (int op = 0; op < GATE_OPS; op++) {
        if (has_called(counts, op)) {
            cJSON_AddItemToObject(ops, gate_op_name(op), op_json(counts, op));
        }
    }
    return item;
}

char *heartbeat_json(const struct worker *worker)
{
    const struct worker_counters *counters = &worker->counters;
    cJSON *root = cJSON_CreateObject();
    json_add_time(root, "started_at", worker->started_wall_ms);
    cJSON_AddStringToObject(root, "version", VERSION);
    cJSON_AddBoolToObject(root, "draining", worker->drain_end_ms != 0);
    cJSON_AddBoolToObject(root, "store_up", worker->store_up);
#define WORKER_GAUGE(key, metric, help)   cJSON_AddItemToObject(root, #key, worker_##key(worker));
#define WORKER_COUNTER(key, metric, help) json_add_int64(root, #key, counters->key);
#define PROVIDER_GAUGE(...)
#define PROVIDER_COUNTER(...)
#include "common/domain/worker_figures.def"
#undef WORKER_GAUGE
#undef WORKER_COUNTER
#undef PROVIDER_GAUGE
#undef PROVIDER_COUNTER
    cJSON *providers = cJSON_AddObjectToObject(root, "providers");
    for (int i = 0; i < worker->gate_count; i++) {
        cJSON_AddItemToObject(providers, worker->gates[i].provider->label,
                              gate_json(&worker->gates[i]));
    }
    struct strbuf text;
    strbuf_init(&text, JSON_MAX_BYTES);
    json_print(root, &text);
    cJSON_Delete(root);
    return strbuf_take(&text);
}

void heartbeat_store(struct worker *worker, int64_t now_ms)
{
    struct error err = ERROR_INIT;
    int64_t database_ms = 0;
    char *figures = NULL;
    int status;

    if (!worker->store_up || now_ms < worker->next_beat_ms) {
        return;
    }
    if (!worker->queue_up || dependencies_queue_is_degraded(worker, now_ms)) {
        figures = heartbeat_json(worker);
    }
    status = store_process_beat(worker->store, STORE_ROLE_WORKER, worker->identity,
                                worker->config->heartbeat_ms, clock_wall_ms(), figures,
                                &database_ms, &err);
    free(figures);
    if (status != 0) {
        dependencies_store_failed(worker, &err);
        return;
    }
    worker->next_beat_ms = now_ms + worker->config->heartbeat_ms;
    database_clock_update(&worker->clock, database_ms, now_ms);
}
