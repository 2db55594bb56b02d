/* audit - see audit.h. */
#include "gateway/work/audit.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/metrics.h"

enum { PENDING_MAX = 8192, BATCH = 512, WRITE_MS = 200, PRUNE_MS = 60000, PRUNE_BATCH = 5000 };

static struct metric lost_counter = {.name = "sandbox_gateway_audit_lost_total",
                                     .help = "Audit records lost because PostgreSQL took none.",
                                     .type = METRIC_COUNTER};

struct audit {
    struct store *store;
    int64_t keep_days;
    pthread_t thread;
    pthread_mutex_t lock; /* guards the fields below */
    pthread_cond_t stop;
    bool stopping;
    struct store_audit *pending[PENDING_MAX];
    size_t count;
};

void audit_add(struct audit *audit, struct store_audit *record)
{
    pthread_mutex_lock(&audit->lock);
    if (audit->count < PENDING_MAX) {
        audit->pending[audit->count++] = record;
        record = NULL;
    }
    pthread_mutex_unlock(&audit->lock);
    if (record != NULL) {
        metric_add(&lost_counter, 1);
        free(record);
    }
}

/* Writes the oldest records. They stay in the list until the write has succeeded. */
static int write_batch(struct audit *audit, size_t *ret_written, struct error *err)
{
    const struct store_audit *batch[BATCH];
    size_t count;

    pthread_mutex_lock(&audit->lock);
    count = audit->count < BATCH ? audit->count : BATCH;
    for (size_t i = 0; i < count; i++) {
        batch[i] = audit->pending[i];
    }
    pthread_mutex_unlock(&audit->lock);
    *ret_written = count;
    if (count == 0) {
        return 0;
    }
    if (store_audit_add(audit->store, batch, count, err) < 0) {
        return -1;
    }
    pthread_mutex_lock(&audit->lock);
    for (size_t i = 0; i < count; i++) {
        free(audit->pending[i]);
    }
    memmove(audit->pending, audit->pending + count,
            (audit->count - count) * sizeof(audit->pending[0]));
    audit->count -= count;
    pthread_mutex_unlock(&audit->lock);
    return 0;
}

static void write_all(struct audit *audit, bool *down)
{
    struct error err = ERROR_INIT;
    size_t written = BATCH;
    int status = 0;

    while (status == 0 && written == BATCH) {
        status = write_batch(audit, &written, &err);
    }
    if (status < 0 && !*down) {
        log_error(LOG_WARN, "audit.not_written", &err);
    }
    *down = status < 0;
}

static void prune(struct audit *audit, int64_t *next_ms)
{
    struct error err = ERROR_INIT;

    if (audit->keep_days == 0 || clock_mono_ms() < *next_ms) {
        return;
    }
    *next_ms = clock_mono_ms() + PRUNE_MS;
    if (store_audit_prune(audit->store, audit->keep_days, PRUNE_BATCH, &err) < 0) {
        log_error(LOG_WARN, "audit.not_pruned", &err);
    }
}

static bool pause_or_stop(struct audit *audit)
{
    const struct timespec until = clock_cond_until(WRITE_MS);
    bool stopping;
    int status = 0;

    pthread_mutex_lock(&audit->lock);
    while (!audit->stopping && status == 0) {
        status = pthread_cond_timedwait(&audit->stop, &audit->lock, &until);
    }
    stopping = audit->stopping;
    pthread_mutex_unlock(&audit->lock);
    return stopping;
}

static void *keep_written(void *arg)
{
    struct audit *audit = arg;
    int64_t next_prune_ms = 0;
    bool down = false, stopping;

    do {
        stopping = pause_or_stop(audit);
        write_all(audit, &down);
        prune(audit, &next_prune_ms);
    } while (!stopping);
    return NULL;
}

struct audit *audit_start(struct store *store, int64_t keep_days, struct error *err)
{
    struct audit *audit = xcalloc(1, sizeof(*audit));
    int status;

    metrics_register(&lost_counter);
    audit->store = store;
    audit->keep_days = keep_days;
    pthread_mutex_init(&audit->lock, NULL);
    clock_cond_init(&audit->stop);
    status = pthread_create(&audit->thread, NULL, keep_written, audit);
    if (status != 0) {
        error_set_errno(err, ERR_INTERNAL, status, "starting the audit writer");
        return NULL;
    }
    return audit;
}

void audit_stop(struct audit *audit)
{
    if (audit == NULL) {
        return;
    }
    pthread_mutex_lock(&audit->lock);
    audit->stopping = true;
    pthread_cond_signal(&audit->stop);
    pthread_mutex_unlock(&audit->lock);
    pthread_join(audit->thread, NULL);
    for (size_t i = 0; i < audit->count; i++) {
        free(audit->pending[i]);
    }
    pthread_cond_destroy(&audit->stop);
    pthread_mutex_destroy(&audit->lock);
    free(audit);
}
