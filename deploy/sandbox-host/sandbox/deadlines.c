/* deadlines - see deadlines.h. */
#include "deploy/sandbox-host/sandbox/deadlines.h"

#include <stdatomic.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "deploy/sandbox-host/isolation/cgroup.h"
#include "deploy/sandbox-host/isolation/proc_files.h"
#include "deploy/sandbox-host/sandbox/cleaner.h"
#include "deploy/sandbox-host/sandbox/sandbox.h"
#include "deploy/sandbox-host/sandbox/sandbox_table.h"

enum { TICK_MS = 50 };

static pthread_t thread;
static _Atomic bool stopping;

static bool is_due(const struct sandbox *sandbox, int64_t now_ms)
{
    return (sandbox->view.state == SANDBOX_RUNNING &&
            (sandbox->died || now_ms >= sandbox->view.end_ms)) ||
           (sandbox->view.state == SANDBOX_PAUSED && sandbox->died);
}

/* The next sandbox whose time is up, with a reference. */
static struct sandbox *take_due(int64_t now_ms)
{
    struct sandbox *sandbox;

    table_lock();
    for (sandbox = table_first(); sandbox != NULL && !is_due(sandbox, now_ms);
         sandbox = sandbox->next) {}
    if (sandbox != NULL) {
        sandbox->references++;
    }
    table_unlock();
    return sandbox;
}

static void end_due(struct sandbox *sandbox)
{
    struct error err = ERROR_INIT;
    bool died, ended = true;

    pthread_mutex_lock(&sandbox->transition);
    table_lock();
    died = sandbox->died;
    ended = is_due(sandbox, clock_wall_ms());
    table_unlock();
    if (ended && died) {
        sandbox_end_locked(sandbox, "its processes ended");
    } else if (ended && !sandbox->view.auto_pause) {
        sandbox_end_locked(sandbox, "timeout");
    } else if (ended && sandbox_pause_locked(sandbox, !sandbox->view.auto_pause_drops, &err) == 0) {
        ended = false;
    } else if (ended) {
        log_error(LOG_ERROR, "sandbox.pause_failed", &err);
        sandbox_end_locked(sandbox, "timeout, and it could not be paused");
    }
    pthread_mutex_unlock(&sandbox->transition);
    if (ended) {
        cleaner_hand_over(sandbox);
    } else {
        table_release(sandbox);
    }
}

/* The next running sandbox whose sample is old, with a reference. */
static struct sandbox *take_unmeasured(int64_t now_ms)
{
    struct sandbox *sandbox;

    table_lock();
    for (sandbox = table_first(); sandbox != NULL; sandbox = sandbox->next) {
        if (sandbox->view.state == SANDBOX_RUNNING &&
            now_ms - sandbox->measured_ms >= METER_EVERY_MS) {
            sandbox->measured_ms = now_ms;
            sandbox->references++;
            break;
        }
    }
    table_unlock();
    return sandbox;
}

static void measure(struct sandbox *sandbox)
{
    struct error err = ERROR_INIT;
    struct meter_sample sample;

    if (meter_take(sandbox->view.id, sandbox->processes.init.pid, &sample, &err) == 0) {
        table_lock();
        meter_add(&sandbox->meter, sample);
        table_unlock();
    } else {
        /* no cgroup to measure by (said at start), or it just ended */
        log_error(LOG_DEBUG, "sandbox.not_measured", &err);
    }
    table_release(sandbox);
}

/* The next running sandbox whose own figures are old, with a reference. */
static struct sandbox *take_without_figures(int64_t now_ms)
{
    struct sandbox *sandbox;

    table_lock();
    for (sandbox = table_first(); sandbox != NULL; sandbox = sandbox->next) {
        if (sandbox->view.state == SANDBOX_RUNNING &&
            now_ms - sandbox->proc_files_ms >= PROC_FILES_EVERY_MS) {
            sandbox->proc_files_ms = now_ms;
            sandbox->references++;
            break;
        }
    }
    table_unlock();
    return sandbox;
}

static void write_proc_files(struct sandbox *sandbox)
{
    struct error err = ERROR_INIT;
    char dir[SPAWN_PATH_BYTES];

    spawn_dir(dir, sandbox->view.id);
    if (cgroup_limits_memory() && proc_files_update(dir, sandbox->view.id, &err) < 0) {
        log_error(LOG_DEBUG, "sandbox.proc_files_not_written", &err); /* it just ended */
    }
    table_release(sandbox);
}

static void *keep(void *arg)
{
    (void)arg;
    while (!atomic_load(&stopping)) {
        struct sandbox *sandbox = take_due(clock_wall_ms());

        if (sandbox != NULL) {
            end_due(sandbox);
        } else if ((sandbox = take_unmeasured(clock_mono_ms())) != NULL) {
            measure(sandbox);
        } else if ((sandbox = take_without_figures(clock_mono_ms())) != NULL) {
            write_proc_files(sandbox);
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
