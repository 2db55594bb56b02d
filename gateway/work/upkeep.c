/* upkeep - see upkeep.h. */
#include "gateway/work/upkeep.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "gateway/gateway.h"
#include "gateway/work/key_owner.h"

enum { ROUND_MS = 1000, FLUSH_MS = 100 };

static struct metric jobs_gauge[JOB_STATE_COUNT];
static char job_labels[JOB_STATE_COUNT][32];
static struct metric sandboxes_gauge[SANDBOX_STATUS_COUNT];
static char sandbox_labels[SANDBOX_STATUS_COUNT][32];
static struct metric oldest_gauge = {.name = "sandbox_queue_oldest_ms",
                                     .help = "Age of the oldest queued job, in milliseconds.",
                                     .type = METRIC_GAUGE};
static struct metric overdue_gauge = {
    .name = "sandbox_deadline_overdue_ms",
    .help = "Time since the oldest deadline that no job has been made for, in milliseconds.",
    .type = METRIC_GAUGE};
static struct metric missing_gauge = {.name = "sandbox_missing",
                                      .help = "Sandboxes that are missing at their provider.",
                                      .type = METRIC_GAUGE};
static struct metric waiting_gauge = {.name = "sandbox_gateway_waiting_requests",
                                      .help = "Requests that wait until a job ends.",
                                      .type = METRIC_GAUGE};

static struct metric working_gauge = {
    .name = "sandbox_gateway_working_requests",
    .help = "Requests that wait for a lifecycle job or call into a sandbox.",
    .type = METRIC_GAUGE};
static struct metric buffers_gauge = {.name = "sandbox_gateway_buffer_bytes",
                                      .help = "Bytes in use of GATEWAY_BUFFER_BYTES.",
                                      .type = METRIC_GAUGE};

struct upkeep {
    struct gateway *gateway;
    pthread_t thread;
    _Atomic bool stopping;
};

static void register_gauges(void)
{
    for (int i = 0; i < JOB_STATE_COUNT; i++) {
        snprintf(job_labels[i], sizeof(job_labels[i]), "state=\"%s\"",
                 job_state_name((enum job_state)i));
        jobs_gauge[i] = (struct metric){.name = "sandbox_jobs",
                                        .labels = job_labels[i],
                                        .help = "Unfinished and dead jobs, by state.",
                                        .type = METRIC_GAUGE};
        metrics_register(&jobs_gauge[i]);
    }
    for (int i = 0; i < SANDBOX_STATUS_COUNT; i++) {
        snprintf(sandbox_labels[i], sizeof(sandbox_labels[i]), "status=\"%s\"",
                 sandbox_status_name((enum sandbox_status)i));
        sandboxes_gauge[i] = (struct metric){.name = "sandbox_sandboxes",
                                             .labels = sandbox_labels[i],
                                             .help = "Sandboxes that are not deleted, by status.",
                                             .type = METRIC_GAUGE};
        metrics_register(&sandboxes_gauge[i]);
    }
    metrics_register(&oldest_gauge);
    metrics_register(&overdue_gauge);
    metrics_register(&missing_gauge);
    metrics_register(&waiting_gauge);
    metrics_register(&working_gauge);
    metrics_register(&buffers_gauge);
}

static int read_backlog(struct upkeep *upkeep, struct error *err)
{
    struct store_stats stats;
    int64_t mark = admission_mark(&upkeep->gateway->admission);

    if (store_stats(upkeep->gateway->store, &stats, err) < 0) {
        return -1;
    }
    for (int i = 0; i < JOB_STATE_COUNT; i++) {
        metric_set(&jobs_gauge[i], stats.jobs_by_state[i]);
    }
    for (int i = 0; i < SANDBOX_STATUS_COUNT; i++) {
        metric_set(&sandboxes_gauge[i], stats.sandboxes_by_status[i]);
    }
    metric_set(&oldest_gauge, stats.oldest_queued_ms);
    metric_set(&overdue_gauge, stats.overdue_ms);
    metric_set(&missing_gauge, stats.missing);
    metric_set(&working_gauge, atomic_load(&upkeep->gateway->working));
    metric_set(&buffers_gauge, atomic_load(&upkeep->gateway->buffers.used_bytes));
    metric_set(&waiting_gauge, waiters_count(upkeep->gateway->waiters));
    admission_update(&upkeep->gateway->admission, mark,
                     stats.jobs_by_state[JOB_STATE_QUEUED] +
                         stats.jobs_by_state[JOB_STATE_RUNNING] +
                         stats.jobs_by_state[JOB_STATE_RETRY_WAIT],
                     stats.oldest_queued_ms);
    return 0;
}

/* Ten times a second, because an idle deadline may be as short as a second. */
static void flush_activity(struct upkeep *upkeep, bool *down)
{
    struct error err = ERROR_INIT;
    bool failed = activity_flush(upkeep->gateway->activity, &err) < 0;

    if (failed && !*down) {
        log_error(LOG_WARN, "activity.not_written", &err);
    }
    *down = failed;
}

/* A mark of another deployment closes every Redis connection of ours until it is gone. */
static void check_keys(struct upkeep *upkeep, bool *foreign)
{
    struct error err = ERROR_INIT;
    bool found;

    if (!key_owner_known(&upkeep->gateway->owner, upkeep->gateway->store)) {
        return;
    }
    found = readiness_keys_are_foreign(upkeep->gateway->readiness, &err);
    if (found && !*foreign) {
        log_error(LOG_ERROR, "queue.foreign", &err);
    }
    *foreign = found;
}

static void *keep_up(void *arg)
{
    struct upkeep *upkeep = arg;
    bool down = false, flush_down = false, foreign = false;

    while (!atomic_load(&upkeep->stopping)) {
        struct error err = ERROR_INIT;
        int status = 0;

        if (auth_refresh(upkeep->gateway->auth, &err) < 0 ||
            activity_watch(upkeep->gateway->activity, &err) < 0 || read_backlog(upkeep, &err) < 0) {
            status = -1;
        }
        if (status < 0 && !down) {
            log_error(LOG_WARN, "database.unavailable", &err);
        } else if (status == 0 && down) {
            log_event(LOG_INFO, "database.available");
        }
        down = status < 0;
        check_keys(upkeep, &foreign);
        for (int waited = 0; waited < ROUND_MS && !atomic_load(&upkeep->stopping);
             waited += FLUSH_MS) {
            flush_activity(upkeep, &flush_down);
            clock_sleep_ms(FLUSH_MS);
        }
    }
    flush_activity(upkeep, &flush_down); /* the calls that ended last */
    return NULL;
}

struct upkeep *upkeep_start(struct gateway *gateway, struct error *err)
{
    struct upkeep *upkeep = xcalloc(1, sizeof(*upkeep));
    int status;

    register_gauges();
    upkeep->gateway = gateway;
    status = pthread_create(&upkeep->thread, NULL, keep_up, upkeep);
    if (status != 0) {
        error_set_errno(err, ERR_INTERNAL, status, "starting the upkeep thread");
        return NULL;
    }
    return upkeep;
}

void upkeep_stop(struct upkeep *upkeep)
{
    if (upkeep == NULL) {
        return;
    }
    atomic_store(&upkeep->stopping, true);
    pthread_join(upkeep->thread, NULL);
    free(upkeep);
}
