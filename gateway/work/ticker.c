/* ticker - see ticker.h. */
#include "gateway/work/ticker.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "gateway/gateway.h"

enum {
    TICK_MS = 1000,
    STEP_MS = 100,
    BACKLOG_MIN = 64 /* fewer old jobs are a slow sandbox or two, not an overload */
};

static struct metric jobs_gauge[JOB_STATE_COUNT];
static char job_labels[JOB_STATE_COUNT][32];
static struct metric sandboxes_gauge[SANDBOX_STATUS_COUNT];
static char sandbox_labels[SANDBOX_STATUS_COUNT][32];
static struct metric oldest_gauge = {.name = "sandbox_queue_oldest_ms",
                                     .help = "Age of the oldest queued job, in milliseconds.",
                                     .type = METRIC_GAUGE};
static struct metric overdue_gauge = {
    .name = "sandbox_deadline_overdue_ms",
    .help = "Time since the oldest deadline on which nobody has acted, in milliseconds.",
    .type = METRIC_GAUGE};
static struct metric missing_gauge = {
    .name = "sandbox_missing",
    .help = "Sandboxes that their provider does not know at the moment.",
    .type = METRIC_GAUGE};
static struct metric waiting_gauge = {.name = "sandbox_gateway_waiting_requests",
                                      .help = "Requests waiting for a job's end.",
                                      .type = METRIC_GAUGE};

static struct metric working_gauge = {.name = "sandbox_gateway_working_requests",
                                      .help = "Requests that wait for a sandbox or work in one.",
                                      .type = METRIC_GAUGE};
static struct metric buffers_gauge = {.name = "sandbox_gateway_buffer_bytes",
                                      .help = "Taken of GATEWAY_BUFFER_BYTES.",
                                      .type = METRIC_GAUGE};

struct ticker {
    struct gateway *gateway;
    struct queue *queue; /* for readiness, under lock */
    pthread_mutex_t lock;
    pthread_t thread;
    _Atomic bool stopping;
    _Atomic int64_t depth, oldest_ms;
    _Atomic int64_t accepted; /* by us since the last look */
};

static void register_gauges(void)
{
    for (int i = 0; i < JOB_STATE_COUNT; i++) {
        snprintf(job_labels[i], sizeof(job_labels[i]), "state=\"%s\"",
                 job_state_name((enum job_state)i));
        jobs_gauge[i] = (struct metric){.name = "sandbox_jobs",
                                        .labels = job_labels[i],
                                        .help = "Jobs that are not finished, and dead ones.",
                                        .type = METRIC_GAUGE};
        metrics_register(&jobs_gauge[i]);
    }
    for (int i = 0; i < SANDBOX_STATUS_COUNT; i++) {
        snprintf(sandbox_labels[i], sizeof(sandbox_labels[i]), "status=\"%s\"",
                 sandbox_status_name((enum sandbox_status)i));
        sandboxes_gauge[i] = (struct metric){.name = "sandbox_sandboxes",
                                             .labels = sandbox_labels[i],
                                             .help = "Sandboxes that are not deleted.",
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

static int look_at_backlog(struct ticker *ticker, struct error *err)
{
    struct store_stats stats;
    int64_t accepted = atomic_load(&ticker->accepted);

    if (store_stats(ticker->gateway->store, &stats, err) < 0) {
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
    metric_set(&working_gauge, atomic_load(&ticker->gateway->working));
    metric_set(&buffers_gauge, atomic_load(&ticker->gateway->buffers.used_bytes));
    metric_set(&waiting_gauge, waiters_count(ticker->gateway->waiters));
    atomic_store(&ticker->oldest_ms, stats.oldest_queued_ms);
    atomic_store(&ticker->depth, stats.jobs_by_state[JOB_STATE_QUEUED] +
                                     stats.jobs_by_state[JOB_STATE_RUNNING] +
                                     stats.jobs_by_state[JOB_STATE_RETRY_WAIT]);
    /* those of before the look are in it */
    atomic_fetch_sub(&ticker->accepted, accepted);
    return 0;
}

/* Often, because an idle time may be as short as a second. */
static void flush_activity(struct ticker *ticker, bool *down)
{
    struct error err = ERROR_INIT;
    bool failed = activity_flush(ticker->gateway->activity, &err) < 0;

    if (failed && !*down) {
        log_error(LOG_WARN, "activity.not_written", &err);
    }
    *down = failed;
}

/* Whose the keys are; another's mark closes every connection of ours to Redis until it is gone. */
static void look_for_mark(struct ticker *ticker, bool *foreign)
{
    struct error err = ERROR_INIT;
    bool present, theirs;

    if (!gateway_knows_owner(ticker->gateway)) {
        return;
    }
    pthread_mutex_lock(&ticker->lock);
    theirs = queue_mark_present(ticker->queue, &present, &err) < 0 && err.code == ERR_CONFIG;
    pthread_mutex_unlock(&ticker->lock);
    if (theirs && !*foreign) {
        log_error(LOG_ERROR, "queue.foreign", &err);
    }
    *foreign = theirs;
}

static void *tick(void *arg)
{
    struct ticker *ticker = arg;
    bool down = false, flush_down = false, foreign = false;

    while (!atomic_load(&ticker->stopping)) {
        struct error err = ERROR_INIT;
        int status = 0;

        if (auth_refresh(ticker->gateway->auth, &err) < 0 ||
            activity_watch(ticker->gateway->activity, &err) < 0 ||
            look_at_backlog(ticker, &err) < 0) {
            status = -1;
        }
        if (status < 0 && !down) {
            log_error(LOG_WARN, "database.unavailable", &err);
        } else if (status == 0 && down) {
            log_event(LOG_INFO, "database.available");
        }
        down = status < 0;
        look_for_mark(ticker, &foreign);
        for (int waited = 0; waited < TICK_MS && !atomic_load(&ticker->stopping);
             waited += STEP_MS) {
            flush_activity(ticker, &flush_down);
            clock_sleep_ms(STEP_MS);
        }
    }
    flush_activity(ticker, &flush_down); /* of the calls that ended last */
    return NULL;
}

struct ticker *ticker_start(struct gateway *gateway, const struct queue_options *redis,
                            struct error *err)
{
    struct ticker *ticker = xcalloc(1, sizeof(*ticker));
    int status;

    register_gauges();
    ticker->gateway = gateway;
    ticker->queue = queue_new(redis);
    pthread_mutex_init(&ticker->lock, NULL);
    status = pthread_create(&ticker->thread, NULL, tick, ticker);
    if (status != 0) {
        error_set_errno(err, ERR_INTERNAL, status, "starting the ticker");
        return NULL;
    }
    return ticker;
}

void ticker_stop(struct ticker *ticker)
{
    if (ticker == NULL) {
        return;
    }
    atomic_store(&ticker->stopping, true);
    pthread_join(ticker->thread, NULL);
    queue_free(ticker->queue);
    pthread_mutex_destroy(&ticker->lock);
    free(ticker);
}

int ticker_admit(struct ticker *ticker, enum job_op op, struct error *err)
{
    const struct gateway_config *config = ticker->gateway->config;
    int64_t depth = atomic_load(&ticker->depth) + atomic_load(&ticker->accepted);
    int64_t oldest_ms = atomic_load(&ticker->oldest_ms);
    bool full;

    if (op == JOB_DELETE || op == JOB_RECONCILE) {
        return 0;
    }
    full = depth >= config->admission_max;
    if (op == JOB_CREATE) {
        full = full || depth >= config->admission_depth ||
               (depth >= BACKLOG_MIN && oldest_ms >= config->admission_age_ms);
    }
    return full ? error_set(err, ERR_OVERLOADED,
                            "%lld jobs are unfinished, the oldest waits for %lld ms",
                            (long long)depth, (long long)oldest_ms)
                : 0;
}

void ticker_accepted(struct ticker *ticker)
{
    atomic_fetch_add(&ticker->accepted, 1);
}

/* Workers that have told PostgreSQL or Redis lately that they live; -1: neither can be asked. */
static int count_workers(struct ticker *ticker)
{
    struct store_process *live = NULL;
    struct error err = ERROR_INIT;
    size_t count = 0;
    int in_store = 0, in_queue = 0;
    bool asked = store_processes_live(ticker->gateway->store, &live, &count, &err) == 0;

    for (size_t i = 0; i < count; i++) {
        in_store += live[i].role == STORE_ROLE_WORKER;
    }
    free(live);
    asked = queue_workers_alive(ticker->queue, &in_queue, &err) == 0 || asked;
    return !asked ? -1 : in_store > in_queue ? in_store : in_queue;
}

void ticker_readiness(struct ticker *ticker, struct readiness *ret)
{
    struct error err = ERROR_INIT;
    char condition[QUEUE_CONDITION_BYTES];

    *ret = (struct readiness){.ready = true};
    str_copy(ret->database, sizeof(ret->database), "ok");
    str_copy(ret->redis, sizeof(ret->redis), "ok");
    if (store_ping(ticker->gateway->store, &err) < 0) {
        ret->ready = false;
        str_copy(ret->database, sizeof(ret->database), err.message);
    }
    pthread_mutex_lock(&ticker->lock);
    if (queue_condition(ticker->queue, condition, &err) < 0) {
        ret->ready = false;
        str_copy(ret->redis, sizeof(ret->redis), err.message);
    } else if (condition[0] != '\0') {
        snprintf(ret->redis, sizeof(ret->redis), "degraded: %.240s", condition);
    }
    int alive = count_workers(ticker);
    pthread_mutex_unlock(&ticker->lock);
    ret->ready = ret->ready && alive > 0;
    if (alive > 0) {
        snprintf(ret->workers, sizeof(ret->workers), "ok (%d)", alive);
    } else {
        str_copy(ret->workers, sizeof(ret->workers), alive < 0 ? "unknown" : "no live worker");
    }
}
