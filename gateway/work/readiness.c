/* readiness - see readiness.h. */
#include "gateway/work/readiness.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/alloc.h"

struct readiness {
    struct store *store;
    struct queue *queue; /* under lock */
    pthread_mutex_t lock;
};

struct readiness *readiness_new(const struct queue_options *redis, struct store *store)
{
    struct readiness *readiness = xcalloc(1, sizeof(*readiness));

    readiness->store = store;
    readiness->queue = queue_new(redis);
    pthread_mutex_init(&readiness->lock, NULL);
    return readiness;
}

void readiness_free(struct readiness *readiness)
{
    if (readiness == NULL) {
        return;
    }
    queue_free(readiness->queue);
    pthread_mutex_destroy(&readiness->lock);
    free(readiness);
}

/* Workers with a fresh heartbeat in PostgreSQL or Redis; -1: neither answered. */
static int count_live_workers(struct readiness *readiness)
{
    struct store_process *live = NULL;
    struct error err = ERROR_INIT;
    size_t count = 0;
    int in_store = 0, in_queue = 0;
    bool answered = store_processes_live(readiness->store, &live, &count, &err) == 0;

    for (size_t i = 0; i < count; i++) {
        in_store += live[i].role == STORE_ROLE_WORKER;
    }
    free(live);
    answered = queue_workers_alive(readiness->queue, &in_queue, &err) == 0 || answered;
    return !answered ? -1 : in_store > in_queue ? in_store : in_queue;
}

void readiness_report(struct readiness *readiness, struct readiness_report *ret)
{
    struct error err = ERROR_INIT;
    char condition[QUEUE_CONDITION_BYTES];
    int workers;

    *ret = (struct readiness_report){.ready = true};
    str_copy(ret->database, sizeof(ret->database), "ok");
    str_copy(ret->redis, sizeof(ret->redis), "ok");
    if (store_ping(readiness->store, &err) < 0) {
        ret->ready = false;
        str_copy(ret->database, sizeof(ret->database), err.message);
    }
    pthread_mutex_lock(&readiness->lock);
    if (queue_condition(readiness->queue, condition, &err) < 0) {
        ret->ready = false;
        str_copy(ret->redis, sizeof(ret->redis), err.message);
    } else if (condition[0] != '\0') {
        snprintf(ret->redis, sizeof(ret->redis), "degraded: %.240s", condition);
    }
    workers = count_live_workers(readiness);
    pthread_mutex_unlock(&readiness->lock);
    ret->ready = ret->ready && workers > 0;
    if (workers > 0) {
        snprintf(ret->workers, sizeof(ret->workers), "ok (%d)", workers);
    } else {
        str_copy(ret->workers, sizeof(ret->workers), workers < 0 ? "unknown" : "no live worker");
    }
}

bool readiness_keys_are_foreign(struct readiness *readiness, struct error *err)
{
    bool present, foreign;

    pthread_mutex_lock(&readiness->lock);
    foreign = queue_mark_present(readiness->queue, &present, err) < 0 && err->code == ERR_CONFIG;
    pthread_mutex_unlock(&readiness->lock);
    return foreign;
}
