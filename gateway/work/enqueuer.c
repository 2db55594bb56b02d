/* enqueuer - see enqueuer.h. */
#include "gateway/work/enqueuer.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/crashpoint.h"
#include "common/base/log.h"

enum { BATCH = 256, PENDING_MAX = 16384 };

struct enqueuer {
    struct queue *queue;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t filled;
    struct wakeup *pending; /* ring */
    size_t head, count;
    bool stopping;
};

/* Waits for wake-ups and takes up to BATCH of them. 0: the gateway stops. */
static size_t take(struct enqueuer *enqueuer, struct wakeup *batch)
{
    size_t taken = 0;

    pthread_mutex_lock(&enqueuer->lock);
    while (enqueuer->count == 0 && !enqueuer->stopping) {
        pthread_cond_wait(&enqueuer->filled, &enqueuer->lock);
    }
    while (enqueuer->count > 0 && taken < BATCH) {
        batch[taken++] = enqueuer->pending[enqueuer->head];
        enqueuer->head = (enqueuer->head + 1) % PENDING_MAX;
        enqueuer->count--;
    }
    if (enqueuer->count == 0) {
        enqueuer->head = 0; /* so the ring's later pages stay untouched while few wake-ups wait */
    }
    pthread_mutex_unlock(&enqueuer->lock);
    return taken;
}

static void *write_batches(void *arg)
{
    struct enqueuer *enqueuer = arg;
    struct wakeup *batch = xcalloc(BATCH, sizeof(*batch));
    struct error last = ERROR_INIT; /* result of the previous batch */
    size_t count;

    while ((count = take(enqueuer, batch)) > 0) {
        struct error err = ERROR_INIT;
        int status = queue_add(enqueuer->queue, batch, count, &err);

        if (status == 0) {
            CRASHPOINT(gateway_enqueued);
        }
        if (status < 0 && err.code != last.code) {
            log_error(LOG_WARN, err.code == ERR_LIMIT ? "queue.degraded" : "queue.unavailable",
                      &err);
        } else if (status == 0 && last.code != ERR_OK) {
            log_event(LOG_INFO, "queue.available");
        }
        last = err;
    }
    free(batch);
    return NULL;
}

struct enqueuer *enqueuer_start(const struct queue_options *redis, struct error *err)
{
    struct enqueuer *enqueuer = xcalloc(1, sizeof(*enqueuer));
    int status;

    enqueuer->queue = queue_new(redis);
    enqueuer->pending = xcalloc(PENDING_MAX, sizeof(*enqueuer->pending));
    pthread_mutex_init(&enqueuer->lock, NULL);
    pthread_cond_init(&enqueuer->filled, NULL);
    status = pthread_create(&enqueuer->thread, NULL, write_batches, enqueuer);
    if (status != 0) {
        error_set_errno(err, ERR_INTERNAL, status, "starting the queue writer");
        return NULL;
    }
    return enqueuer;
}

void enqueuer_stop(struct enqueuer *enqueuer)
{
    if (enqueuer == NULL) {
        return;
    }
    pthread_mutex_lock(&enqueuer->lock);
    enqueuer->stopping = true;
    pthread_cond_signal(&enqueuer->filled);
    pthread_mutex_unlock(&enqueuer->lock);
    pthread_join(enqueuer->thread, NULL);
    queue_free(enqueuer->queue);
    pthread_cond_destroy(&enqueuer->filled);
    pthread_mutex_destroy(&enqueuer->lock);
    free(enqueuer->pending);
    free(enqueuer);
}

void enqueuer_add(struct enqueuer *enqueuer, const struct wakeup *wakeup)
{
    pthread_mutex_lock(&enqueuer->lock);
    if (enqueuer->count < PENDING_MAX) {
        enqueuer->pending[(enqueuer->head + enqueuer->count) % PENDING_MAX] = *wakeup;
        enqueuer->count++;
        pthread_cond_signal(&enqueuer->filled);
    }
    pthread_mutex_unlock(&enqueuer->lock);
}
