/* dependencies - see dependencies.h. */
#include "lifecycle-worker/dependencies.h"

#include "common/base/clock.h"
#include "common/base/log.h"

void dependencies_store_works(struct worker *worker)
{
    if (!worker->store_up) {
        log_event(LOG_INFO, "store.up", LOG_S("deployment_id", worker->deployment_id));
    }
    worker->store_up = true;
}

void dependencies_store_failed(struct worker *worker, const struct error *err)
{
    if (worker->store_up) {
        log_error(LOG_ERROR, "store.down", err);
    }
    worker->store_up = false;
    worker->store_retry_ms = clock_mono_ms() + DEPENDENCIES_STORE_RETRY_MS;
    worker->next_beat_ms = 0; /* before anything else, once it is back */
}

void dependencies_queue_refused(struct worker *worker, const char *why)
{
    if (worker->queue_refused_ms == 0) {
        log_event(LOG_WARN, "queue.degraded", LOG_S("error", why),
                  LOG_S("consequence", "what it refuses is looked up in PostgreSQL"));
    }
    worker->queue_refused_ms = clock_mono_ms();
}

bool dependencies_queue_is_degraded(struct worker *worker, int64_t now_ms)
{
    int64_t fresh_ms = 2 * (DEPENDENCIES_READER_BLOCK_MS + worker->config->heartbeat_ms);
    if (worker->queue_refused_ms != 0 && now_ms - worker->queue_refused_ms > fresh_ms) {
        worker->queue_refused_ms = 0;
        log_event(LOG_INFO, "queue.whole");
    }
    return worker->queue_refused_ms != 0;
}

void dependencies_queue_works(struct worker *worker)
{
    if (!worker->queue_up) {
        log_event(LOG_INFO, "queue.up",
                  LOG_I("down_ms", clock_mono_ms() - worker->queue_down_since_ms));
    }
    worker->queue_up = true;
}

void dependencies_queue_failed(struct worker *worker, const struct error *err)
{
    int64_t now_ms = clock_mono_ms();
    if (err->code == ERR_LIMIT) {
        dependencies_queue_refused(worker, err->message);
        return;
    }
    if (worker->queue_up) {
        log_error(LOG_ERROR, "queue.down", err);
        worker->queue_down_since_ms = now_ms;
    }
    worker->queue_up = false;
    worker->queue_retry_ms = now_ms + DEPENDENCIES_QUEUE_RETRY_MS;
    if (err->code == ERR_CONFIG && !worker->keys_ours) {
        worker->refusal = *err;
    }
}
