/* workers - see workers.h. */
#include "common/proxy/workers.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "common/base/alloc.h"

enum { IDLE_SECONDS = 5 };

struct workers {
    pthread_mutex_t lock;
    pthread_cond_t has_work, all_ended;
    pthread_attr_t attributes;
    struct work *first, **last;
    int max, count, idle, queued;
    bool stopping;
};

/* Waits for work; false: the thread is to end. The last thread stays. Locked. */
static bool await_work(struct workers *workers)
{
    struct timespec until;
    int status = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += IDLE_SECONDS;
    workers->idle++;
    while (workers->first == NULL && !workers->stopping && status != ETIMEDOUT) {
        status = workers->count > 1
                     ? pthread_cond_timedwait(&workers->has_work, &workers->lock, &until)
                     : pthread_cond_wait(&workers->has_work, &workers->lock);
    }
    workers->idle--;
    return workers->first != NULL;
}

static void *run_worker(void *arg)
{
    struct workers *workers = arg;

    pthread_mutex_lock(&workers->lock);
    while (await_work(workers)) {
        struct work *work = workers->first;

        workers->first = work->next;
        if (workers->first == NULL) {
            workers->last = &workers->first;
        }
        workers->queued--;
        pthread_mutex_unlock(&workers->lock);
        work->run(work);
        pthread_mutex_lock(&workers->lock);
    }
    workers->count--;
    if (workers->count == 0) {
        pthread_cond_signal(&workers->all_ended);
    }
    pthread_mutex_unlock(&workers->lock);
    return NULL;
}

struct workers *workers_new(int max_threads, size_t stack_bytes, struct error *err)
{
    struct workers *workers = xcalloc(1, sizeof(*workers));
    pthread_condattr_t clock;
    pthread_t thread;
    int status;

    pthread_mutex_init(&workers->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&workers->has_work, &clock);
    pthread_condattr_destroy(&clock);
    pthread_cond_init(&workers->all_ended, NULL);
    pthread_attr_init(&workers->attributes);
    pthread_attr_setdetachstate(&workers->attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&workers->attributes, stack_bytes);
    workers->last = &workers->first;
    workers->max = max_threads;
    workers->count = 1;
    status = pthread_create(&thread, &workers->attributes, run_worker, workers);
    if (status != 0) {
        workers->count = 0;
        workers_free(workers);
        error_set_errno(err, ERR_INTERNAL, status, "starting a worker");
        return NULL;
    }
    return workers;
}

void workers_run(struct workers *workers, struct work *work)
{
    pthread_t thread;

    pthread_mutex_lock(&workers->lock);
    work->next = NULL;
    *workers->last = work;
    workers->last = &work->next;
    workers->queued++;
    if (workers->idle >= workers->queued) {
        pthread_cond_signal(&workers->has_work);
    } else if (workers->count < workers->max &&
               pthread_create(&thread, &workers->attributes, run_worker, workers) == 0) {
        workers->count++;
    }
    pthread_mutex_unlock(&workers->lock);
}

void workers_free(struct workers *workers)
{
    if (workers == NULL) {
        return;
    }
    pthread_mutex_lock(&workers->lock);
    workers->stopping = true;
    pthread_cond_broadcast(&workers->has_work);
    while (workers->count > 0) {
        pthread_cond_wait(&workers->all_ended, &workers->lock);
    }
    pthread_mutex_unlock(&workers->lock);
    pthread_cond_destroy(&workers->has_work);
    pthread_cond_destroy(&workers->all_ended);
    pthread_attr_destroy(&workers->attributes);
    pthread_mutex_destroy(&workers->lock);
    free(workers);
}
