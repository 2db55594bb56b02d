/* event_watch - see event_watch.h. */
#include "gateway/work/event_watch.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/store/store_events.h"

enum { LOOK_EVERY_MS = 500 };

struct event_watch {
    struct store *store;
    int max_followers;
    pthread_mutex_t lock;
    pthread_cond_t looks;   /* for the thread: somebody follows, was poked, or it is to stop */
    pthread_cond_t changed; /* for the followers */
    int followers;
    bool poked, stopping;
    uint64_t state;
    int64_t newest_id;
    pthread_t thread;
};

/* Waits until it is time to look; false when the thread is to end. */
static bool wait_to_look(struct event_watch *watch)
{
    const struct timespec until = clock_cond_until(LOOK_EVERY_MS);
    bool goes_on;

    pthread_mutex_lock(&watch->lock);
    while (!watch->stopping && watch->followers == 0) {
        pthread_cond_wait(&watch->looks, &watch->lock);
    }
    while (!watch->stopping && !watch->poked &&
           pthread_cond_timedwait(&watch->looks, &watch->lock, &until) != ETIMEDOUT) {}
    watch->poked = false;
    goes_on = !watch->stopping;
    pthread_mutex_unlock(&watch->lock);
    return goes_on;
}

static void *look(void *arg)
{
    struct event_watch *watch = arg;
    bool down = false;

    while (wait_to_look(watch)) {
        struct error err = ERROR_INIT;
        struct store_event_cursor end;
        int64_t newest_id = 0;
        bool failed = store_events_end(watch->store, &end, &newest_id, &err) < 0;

        if (failed && !down) {
            log_error(LOG_WARN, "event_watch.failed", &err);
        }
        down = failed;
        pthread_mutex_lock(&watch->lock);
        if (!failed && newest_id != watch->newest_id) {
            watch->newest_id = newest_id;
            watch->state++;
            pthread_cond_broadcast(&watch->changed);
        }
        pthread_mutex_unlock(&watch->lock);
    }
    return NULL;
}

struct event_watch *event_watch_start(struct store *store, int max_followers, struct error *err)
{
    struct event_watch *watch = xcalloc(1, sizeof(*watch));
    int status;

    watch->store = store;
    watch->max_followers = max_followers;
    pthread_mutex_init(&watch->lock, NULL);
    clock_cond_init(&watch->looks);
    clock_cond_init(&watch->changed);
    status = pthread_create(&watch->thread, NULL, look, watch);
    if (status != 0) {
        error_set_errno(err, ERR_INTERNAL, status, "starting the watch of events");
        return NULL; /* the process ends on this */
    }
    return watch;
}

void event_watch_stop(struct event_watch *watch)
{
    if (watch == NULL) {
        return;
    }
    pthread_mutex_lock(&watch->lock);
    watch->stopping = true;
    pthread_cond_signal(&watch->looks);
    pthread_mutex_unlock(&watch->lock);
    pthread_join(watch->thread, NULL);
    pthread_cond_destroy(&watch->looks);
    pthread_cond_destroy(&watch->changed);
    pthread_mutex_destroy(&watch->lock);
    free(watch);
}

int event_watch_enter(struct event_watch *watch, struct error *err)
{
    int status = 0;

    pthread_mutex_lock(&watch->lock);
    if (watch->followers >= watch->max_followers) {
        status =
            error_set(err, ERR_OVERLOADED, "%d requests follow the events, which is all at once",
                      watch->max_followers);
    } else {
        watch->followers++;
        pthread_cond_signal(&watch->looks);
    }
    pthread_mutex_unlock(&watch->lock);
    return status;
}

void event_watch_leave(struct event_watch *watch)
{
    pthread_mutex_lock(&watch->lock);
    watch->followers--;
    pthread_mutex_unlock(&watch->lock);
}

uint64_t event_watch_state(struct event_watch *watch)
{
    uint64_t state;

    pthread_mutex_lock(&watch->lock);
    state = watch->state;
    pthread_mutex_unlock(&watch->lock);
    return state;
}

bool event_watch_wait(struct event_watch *watch, uint64_t state, int64_t timeout_ms)
{
    const struct timespec until = clock_cond_until(timeout_ms);
    bool changed;

    pthread_mutex_lock(&watch->lock);
    while (watch->state == state && !watch->stopping &&
           pthread_cond_timedwait(&watch->changed, &watch->lock, &until) != ETIMEDOUT) {}
    changed = watch->state != state;
    pthread_mutex_unlock(&watch->lock);
    return changed;
}

void event_watch_poke(struct event_watch *watch)
{
    pthread_mutex_lock(&watch->lock);
    if (watch->followers > 0) {
        watch->poked = true;
        pthread_cond_signal(&watch->looks);
    }
    pthread_mutex_unlock(&watch->lock);
}
