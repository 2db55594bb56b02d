/* deadlines - see deadlines.h. */
#include "deploy/sandbox-host/sandbox/deadlines.h"

#include <stdatomic.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "deploy/sandbox-host/isolation/cgroup.h"
#include "deploy/sandbox-host/isolation/proc_files.h"
#include "deploy/sandbox-host/sandbox/cleaner.h"
#include "deploy/sandbox-host/sandbox/sandbox_internal.h"

enum { TICK_MS = 50 };

static pthread_t thread;
static _Atomic bool stopping;

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
        cleaner_hand_over(box);
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
        if (box->view.state == BOX_RUNNING && now_ms - box->told_ms >= PROC_FILES_EVERY_MS) {
            box->told_ms = now_ms;
            box->references++;
            break;
        }
    }
    table_unlock();
    return box;
}

static void write_proc_files(struct box *box)
{
    struct error err = ERROR_INIT;
    char dir[SPAWN_PATH_BYTES];

    spawn_dir(dir, box->view.id);
    if (cgroup_limits_memory() && proc_files_update(dir, box->view.id, &err) < 0) {
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
            write_proc_files(box);
        } else {
            clock_sleep_ms(TICK_MS);
        }
    }
    return NULL;
}

int deadlines_start(struct error *err)
{
    const int status = pthread_create(&thread, NULL, keep, NULL);

    return status == 0 ? 0 : error_set_errno(err, ERR_INTERNAL, status, "starting the deadlines");
}

void deadlines_stop(void)
{
    atomic_store(&stopping, true);
    pthread_join(thread, NULL);
}
