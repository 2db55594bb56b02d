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

static cJSON *gate_json(const struct gate *gate, int64_t now_ms)
{
    const struct gate_counts *counts = &gate->counts;
    cJSON *item = cJSON_CreateObject();
    json_add_int64(item, "in_flight", gate->in_flight);
    json_add_int64(item, "limit", gate_limit(gate));
    cJSON_AddStringToObject(item, "breaker", gate_state_name(gate->state));
    cJSON_AddBoolToObject(item, "key_refused", gate->key_refused);
    json_add_int64(item, "hold_ms",
                   gate->hold_until_ms > now_ms ? gate->hold_until_ms - now_ms : 0);
    json_add_int64(item, "breaker_opened", counts->opened);
    json_add_int64(item, "holds", counts->holds);
    json_add_int64(item, "retries_held", counts->retries_held);
    json_add_int64(item, "moved_away", counts->moved_away);
    json_add_int64(item, "adopted", counts->adopted);
    json_add_int64(item, "orphans_killed", counts->orphans);
    json_add_int64(item, "lost", counts->lost);
    json_add_int64(item, "given_back", counts->given_back);
    json_add_int64(item, "corrected", counts->corrected);
    json_add_int64(item, "sweeps", counts->sweeps);
    json_add_int64(item, "sweeps_failed", counts->sweeps_failed);
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
    json_add_int64(root, "in_flight", worker->inflight.used);
    json_add_int64(root, "capacity", worker->inflight.capacity);
    json_add_int64(root, "claimed", counters->claimed);
    json_add_int64(root, "done", counters->done);
    json_add_int64(root, "failed", counters->failed);
    json_add_int64(root, "retried", counters->retried);
    json_add_int64(root, "dead", counters->dead);
    json_add_int64(root, "superseded", counters->superseded);
    json_add_int64(root, "released", counters->released);
    json_add_int64(root, "fenced", counters->fenced);
    json_add_int64(root, "lease_lost", counters->lease_lost);
    json_add_int64(root, "took_over", counters->took_over);
    json_add_int64(root, "copies_killed", counters->copies_killed);
    json_add_int64(root, "provider_requests", counters->requests);
    cJSON *providers = cJSON_AddObjectToObject(root, "providers");
    int64_t now_ms = clock_mono_ms();
    for (int i = 0; i < worker->gate_count; i++) {
        cJSON_AddItemToObject(providers, worker->gates[i].provider->label,
                              gate_json(&worker->gates[i], now_ms));
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
