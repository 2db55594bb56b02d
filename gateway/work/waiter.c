/* waiter - see waiter.h. */
#include "gateway/work/waiter.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"

enum {
    BUCKETS = 1024,
    REPLIES_AT_ONCE = 128,
    REPLY_BLOCK_MS = 500,
    REPLY_RETRY_MS = 100,
    POLL_EVERY_MS = 200,
    POLL_AFTER_MS = 800, /* after this time a waiter polls PostgreSQL too */
    POLL_BATCH = 512,
};

struct waiters {
    struct store *store;
    struct queue_reply_reader *reader;
    pthread_mutex_t lock;
    struct waiter *buckets[BUCKETS];
    int count;
    int next_bucket; /* bucket at which the poller starts its next round */
    pthread_t dispatcher, poller;
    _Atomic bool stopping, cut;
};

static struct waiter **bucket_of(struct waiters *waiters, const char *job_id)
{
    return &waiters->buckets[id_hash64(job_id, strlen(job_id)) % BUCKETS];
}

static void finish(struct waiters *waiters, const char *job_id)
{
    pthread_mutex_lock(&waiters->lock);
    for (struct waiter *w = *bucket_of(waiters, job_id); w != NULL; w = w->next) {
        if (strcmp(w->job_id, job_id) == 0) {
            w->done = true;
            pthread_cond_signal(&w->wake);
        }
    }
    pthread_mutex_unlock(&waiters->lock);
}

/* Logs once when Redis fails and once when it is back. */
static void note_state(bool *down, bool now_down, const struct error *err)
{
    if (now_down && !*down) {
        log_error(LOG_WARN, "replies.unavailable", err);
    } else if (!now_down && *down) {
        log_event(LOG_INFO, "replies.available");
    }
    *down = now_down;
}

static void *dispatch(void *arg)
{
    struct waiters *waiters = arg;
    struct queue_reply *replies = xcalloc(REPLIES_AT_ONCE, sizeof(*replies));
    bool down = false;

    while (!atomic_load(&waiters->stopping)) {
        struct error err = ERROR_INIT;
        size_t count = 0;
        int status = queue_reply_read(waiters->reader, REPLY_BLOCK_MS, replies, REPLIES_AT_ONCE,
                                      &count, &err);

        note_state(&down, status < 0, &err);
        if (status < 0) {
            clock_sleep_ms(REPLY_RETRY_MS);
            continue;
        }
        for (size_t i = 0; i < count; i++) {
            finish(waiters, replies[i].job_id);
        }
    }
    free(replies);
    return NULL;
}

/* Copies the ids of waiters whose job is due for a poll; returns how many. The next round starts
 * where this one stopped, so every waiter gets its turn. */
static size_t collect_due(struct waiters *waiters, struct job *jobs)
{
    int64_t now_ms = clock_mono_ms();
    size_t count = 0;

    pthread_mutex_lock(&waiters->lock);
    for (int left = waiters->count > 0 ? BUCKETS : 0; left > 0 && count < POLL_BATCH; left--) {
        struct waiter *w = waiters->buckets[waiters->next_bucket];

        for (; w != NULL && count < POLL_BATCH; w = w->next) {
            if (!w->done && (w->urgent || now_ms - w->since_ms >= POLL_AFTER_MS)) {
                memset(&jobs[count], 0, sizeof(jobs[count]));
                str_copy(jobs[count++].id, UUID_BYTES, w->job_id);
            }
        }
        if (w == NULL ||
            left == BUCKETS) { /* a bucket that does not fit alone ends the round, too */
            waiters->next_bucket = (waiters->next_bucket + 1) % BUCKETS;
        }
    }
    pthread_mutex_unlock(&waiters->lock);
    return count;
}

static void poll_due(struct waiters *waiters, bool *down)
{
    struct error err = ERROR_INIT;
    struct job *jobs = xmalloc(POLL_BATCH * sizeof(*jobs));
    size_t count = collect_due(waiters, jobs);

    if (count > 0) {
        int status = store_jobs_poll(waiters->store, jobs, count, &err);

        if (status < 0 && !*down) {
            log_error(LOG_WARN, "waiters.poll_failed", &err);
        }
        *down = status < 0;
        for (size_t i = 0; i < count; i++) {
            if (status == 0 && job_state_is_terminal(jobs[i].state)) {
                finish(waiters, jobs[i].id);
            }
            job_done(&jobs[i]);
        }
    }
    free(jobs);
}

static void *poll_store(void *arg)
{
    struct waiters *waiters = arg;
    bool down = false;

    while (!atomic_load(&waiters->stopping)) {
        clock_sleep_ms(POLL_EVERY_MS);
        if (waiters_count(waiters) > 0) {
            poll_due(waiters, &down);
        }
    }
    return NULL;
}

struct waiters *waiters_start(const struct queue_options *redis, struct store *store,
                              const char *gateway, struct error *err)
{
    struct waiters *waiters = xcalloc(1, sizeof(*waiters));
    int status;

    waiters->store = store;
    waiters->reader = queue_reply_reader_new(redis, gateway);
    pthread_mutex_init(&waiters->lock, NULL);
    status = pthread_create(&waiters->dispatcher, NULL, dispatch, waiters);
    if (status == 0) {
        status = pthread_create(&waiters->poller, NULL, poll_store, waiters);
    }
    if (status != 0) {
        /* the caller ends the process, and the started thread with it */
        error_set_errno(err, ERR_INTERNAL, status, "starting the reply threads");
        return NULL;
    }
    return waiters;
}

void waiters_stop(struct waiters *waiters)
{
    if (waiters == NULL) {
        return;
    }
    atomic_store(&waiters->stopping, true);
    pthread_join(waiters->dispatcher, NULL);
    pthread_join(waiters->poller, NULL);
    queue_reply_reader_free(waiters->reader);
    pthread_mutex_destroy(&waiters->lock);
    free(waiters);
}

static void link_waiter(struct waiters *waiters, struct waiter *waiter)
{
    struct waiter **bucket = bucket_of(waiters, waiter->job_id);

    waiter->next = *bucket;
    *bucket = waiter;
    waiters->count++;
}

static void unlink_waiter(struct waiters *waiters, struct waiter *waiter)
{
    struct waiter **at = bucket_of(waiters, waiter->job_id);

    while (*at != waiter) {
        at = &(*at)->next;
    }
    *at = waiter->next;
    waiters->count--;
}

void waiter_add(struct waiters *waiters, struct waiter *waiter, const char *job_id)
{

    *waiter = (struct waiter){.since_ms = clock_mono_ms()};
    str_copy(waiter->job_id, sizeof(waiter->job_id), job_id);
    clock_cond_init(&waiter->wake);
    pthread_mutex_lock(&waiters->lock);
    link_waiter(waiters, waiter);
    pthread_mutex_unlock(&waiters->lock);
}

void waiter_change_job(struct waiters *waiters, struct waiter *waiter, const char *job_id)
{
    pthread_mutex_lock(&waiters->lock);
    unlink_waiter(waiters, waiter);
    str_copy(waiter->job_id, sizeof(waiter->job_id), job_id);
    waiter->urgent = true;
    waiter->done = false;
    link_waiter(waiters, waiter);
    pthread_mutex_unlock(&waiters->lock);
}

bool waiter_wait(struct waiters *waiters, struct waiter *waiter, int64_t timeout_ms)
{
    const struct timespec until = clock_cond_until(timeout_ms);
    bool done;

    pthread_mutex_lock(&waiters->lock);
    while (!waiter->done && !atomic_load(&waiters->cut) &&
           pthread_cond_timedwait(&waiter->wake, &waiters->lock, &until) != ETIMEDOUT) {}
    done = waiter->done;
    pthread_mutex_unlock(&waiters->lock);
    return done;
}

void waiter_remove(struct waiters *waiters, struct waiter *waiter)
{
    pthread_mutex_lock(&waiters->lock);
    unlink_waiter(waiters, waiter);
    pthread_mutex_unlock(&waiters->lock);
    pthread_cond_destroy(&waiter->wake);
}

int waiters_count(struct waiters *waiters)
{
    int count;

    pthread_mutex_lock(&waiters->lock);
    count = waiters->count;
    pthread_mutex_unlock(&waiters->lock);
    return count;
}

void waiters_cut(struct waiters *waiters)
{
    pthread_mutex_lock(&waiters->lock);
    atomic_store(&waiters->cut, true);
    for (int b = 0; b < BUCKETS; b++) {
        for (struct waiter *w = waiters->buckets[b]; w != NULL; w = w->next) {
            pthread_cond_signal(&w->wake);
        }
    }
    pthread_mutex_unlock(&waiters->lock);
}

bool waiters_are_cut(struct waiters *waiters)
{
    return atomic_load(&waiters->cut);
}
