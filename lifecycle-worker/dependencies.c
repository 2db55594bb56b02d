/*
 * dependencies - whether PostgreSQL and Redis are there, and what is said when that changes.
 *
 * Owns: store_up, queue_up, the times of the next tries, the log lines about them. Does not own:
 * what is done without them (worker.c). Threads: the worker's one. Failure: none.
 */
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "lifecycle-worker/worker.h"

void worker_note_store(struct worker *worker, const struct error *err)
{
    if (err == NULL) {
        if (!worker->store_up) {
            log_event(LOG_INFO, "store.up", LOG_S("deployment_id", worker->deployment_id));
        }
        worker->store_up = true;
        return;
    }
    if (worker->store_up) {
        log_error(LOG_ERROR, "store.down", err);
    }
    worker->store_up = false;
    worker->store_retry_ms = clock_mono_ms() + STORE_RETRY_MS;
    worker->next_beat_ms = 0; /* before anything else, once it is back */
}

void worker_note_refusal(struct worker *worker, const char *why)
{
    if (worker->queue_refused_ms == 0) {
        log_event(LOG_WARN, "queue.degraded", LOG_S("error", why),
                  LOG_S("consequence", "what it refuses is looked up in PostgreSQL"));
    }
    worker->queue_refused_ms = clock_mono_ms();
}

bool worker_is_degraded(struct worker *worker, int64_t now_ms)
{
    int64_t fresh_ms = 2 * (READER_BLOCK_MS + worker->config->heartbeat_ms);
    if (worker->queue_refused_ms != 0 && now_ms - worker->queue_refused_ms > fresh_ms) {
        worker->queue_refused_ms = 0;
        log_event(LOG_INFO, "queue.whole");
    }
    return worker->queue_refused_ms != 0;
}

void worker_note_queue(struct worker *worker, const struct error *err)
{
    int64_t now_ms = clock_mono_ms();
    if (err != NULL && err->code == ERR_LIMIT) {
        worker_note_refusal(worker, err->message);
        return;
    }
    if (err == NULL) {
        if (!worker->queue_up) {
            log_event(LOG_INFO, "queue.up", LOG_I("down_ms", now_ms - worker->queue_down_since_ms));
        }
        worker->queue_up = true;
        return;
    }
    if (worker->queue_up) {
        log_error(LOG_ERROR, "queue.down", err);
        worker->queue_down_since_ms = now_ms;
    }
    worker->queue_up = false;
    worker->queue_retry_ms = now_ms + QUEUE_RETRY_MS;
    if (err->code == ERR_CONFIG && !worker->keys_ours) {
        worker->refusal = *err;
    }
}

struct gate *worker_gate(struct worker *worker, const char *provider)
{
    for (int i = 0; i < worker->gate_count; i++) {
        if (strcmp(worker->gates[i].name, provider) == 0) {
            return &worker->gates[i];
        }
    }
    return NULL;
}
