/*
 * keeper - the thread that keeps deadlines, and the one that buries.
 *
 * Owns: ending or pausing sandboxes whose time is up or whose processes died, within a tick;
 * regular samples of what they use, for the metrics and for the sandboxes themselves. Ends in two
 * steps, so that a hundred deadlines at once are kept as well as one: the keeper kills, the burier
 * waits for the dead and removes what they leave, again and again until nothing stays.
 */
#include <stdatomic.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "deploy/sandbox-host/isolation/cgroup.h"
#include "deploy/sandbox-host/sandbox/facts.h"
#include "deploy/sandbox-host/sandbox/sandbox_internal.h"

enum { TICK_MS = 50, BURY_MAX = 8192, BURY_AGAIN_MS = 1000, IDLE_MS = 60000 };

static pthread_t keeper, burier;
static _Atomic bool stopping;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct box *list[BURY_MAX];
    size_t count;
    bool draining; /* no more will come */
} dead = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool is_due(const struct box *box, int64_t now_ms)
{
    return (box->view.state == BOX_RUNNING && (box->died || now_ms >= box->view.end_ms)) ||
           (box->view.state == BOX_PAUSED && box->died);
}

/* The next sandbox whose time is up, with a reference. */
static struct box *take_due(int64_t now_ms)
{
    struct box *box;

    table_lock();
    for (box = table_first(); box != NULL && !is_due(box, now_ms); box = box->next) {}
    if (box != NULL) {
        box->references++;
    }
    table_unlock();
    return box;
}

void keeper_bury(struct box *box)
{
    pthread_mutex_lock(&dead.lock);
    while (dead.count == BURY_MAX) {
        pthread_cond_wait(&dead.changed, &dead.lock);
    }
    box->bury_at_ms = box->burials == 0 ? 0 : clock_mono_ms() + BURY_AGAIN_MS;
    dead.list[dead.count++] = box;
    pthread_cond_broadcast(&dead.changed);
    pthread_mutex_unlock(&dead.lock);
}

static void end_due(struct box *box)
{
    struct error err = ERROR_INIT;
    bool died, ended = true;

    pthread_mutex_lock(&box->transition);
    table_lock();
    died = box->died;
    ended = is_due(box, clock_wall_ms());
    table_unlock();
    if (ended && died) {
        box_end_locked(box, "its processes ended");
    } else if (ended && !box->view.auto_pause) {
        box_end_locked(box, "timeout");
    } else if (ended && box_pause_locked(box, !box->view.auto_pause_drops, &err) == 0) {
        ended = false;
    } else if (ended) {
        log_error(LOG_ERROR, "sandbox.pause_failed", &err);
        box_end_locked(box, "timeout, and it could not be paused");
    }
    pthread_mutex_unlock(&box->transition);
    if (ended) {
        keeper_bury(box);
    } else {
        table_release(box);
    }
}

/* The next running sandbox whose sample is old, with a reference. */
static struct box *take_unmeasured(int64_t now_ms)
{
    struct box *box;

    table_lock();
    for (box = table_first(); box != NULL; box = box->next) {
        if (box->view.state == BOX_RUNNING && now_ms - box->measured_ms >= METER_EVERY_MS) {
            box->measured_ms = now_ms;
            box->references++;
            break;
        }
    }
    table_unlock();
    return box;
}

static void measure(struct box *box)
{
    struct error err = ERROR_INIT;
    struct meter_sample sample;

    if (meter_take(box->view.id, box->processes.init.pid, &sample, &err) == 0) {
        table_lock();
        meter_add(&box->meter, sample);
        table_unlock();
    } else {
        /* no cgroup to measure by (said at start), or it just ended */
        log_error(LOG_DEBUG, "sandbox.not_measured", &err);
    }
    table_release(box);
}

/* The next running sandbox whose own figures are old, with a reference. */
static struct box *take_untold(int64_t now_ms)
{
    struct box *box;

    table_lock();
    for (box = table_first(); box != NULL; box = box->next) {
        if (box->view.state == BOX_RUNNING && now_ms - box->told_ms >= FACTS_EVERY_MS) {
            box->told_ms = now_ms;
            box->references++;
            break;
        }
    }
    table_unlock();
    return box;
}

static void tell(struct box *box)
{
    struct error err = ERROR_INIT;
    char dir[SPAWN_PATH_BYTES];

    spawn_dir(dir, box->view.id);
    if (cgroup_limits_memory() && facts_update(dir, box->view.id, &err) < 0) {
        log_error(LOG_DEBUG, "sandbox.not_told", &err); /* it just ended */
    }
    table_release(box);
}

static void *keep(void *arg)
{
    (void)arg;
    while (!atomic_load(&stopping)) {
        struct box *box = take_due(clock_wall_ms());

        if (box != NULL) {
            end_due(box);
        } else if ((box = take_unmeasured(clock_mono_ms())) != NULL) {
            measure(box);
        } else if ((box = take_untold(clock_mono_ms())) != NULL) {
            tell(box);
        } else {
            clock_sleep_ms(TICK_MS);
        }
    }
    return NULL;
}

/* With the lock held: the first whose time has come, or any when all is to end. */
static struct box *take_dead(int64_t now_ms)
{
    for (size_t i = 0; i < dead.count; i++) {
        struct box *box = dead.list[i];

        if (dead.draining || box->bury_at_ms <= now_ms) {
            dead.list[i] = dead.list[--dead.count];
            return box;
        }
    }
    return NULL;
}

static void *bury(void *arg)
{
    (void)arg;
    for (;;) {
        struct box *box;
        bool last;

        pthread_mutex_lock(&dead.lock);
        while ((box = take_dead(clock_mono_ms())) == NULL && !dead.draining) {
            const struct timespec until = clock_cond_until(dead.count > 0 ? TICK_MS : IDLE_MS);

            pthread_cond_timedwait(&dead.changed, &dead.lock, &until);
        }
        last = dead.draining;
        pthread_cond_broadcast(&dead.changed);
        pthread_mutex_unlock(&dead.lock);
        if (box == NULL) {
            return NULL;
        }
        pthread_mutex_lock(&box->transition);
        if (box_bury(box) == 0) {
            table_give_back(box);
        } else if (last) {
            /* the warden tries once more as it ends, and then the next start of the host */
            table_remove(box);
            table_give_back(box);
        } else {
            pthread_mutex_unlock(&box->transition);
            keeper_bury(box);
        }
    }
}

void keeper_init(void)
{
    clock_cond_init(&dead.changed);
}

int keeper_start(struct error *err)
{
    int status = pthread_create(&keeper, NULL, keep, NULL);

    if (status == 0) {
        status = pthread_create(&burier, NULL, bury, NULL);
    }
    return status != 0 ? error_set_errno(err, ERR_INTERNAL, status, "starting the deadline keeper")
                       : 0;
}

void keeper_stop(void)
{
    atomic_store(&stopping, true);
    pthread_join(keeper, NULL);
}

void keeper_drain(void)
{
    pthread_mutex_lock(&dead.lock);
    dead.draining = true;
    pthread_cond_broadcast(&dead.changed);
    pthread_mutex_unlock(&dead.lock);
    pthread_join(burier, NULL);
}
