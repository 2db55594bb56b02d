/* settle - see settle.h. */
#include "lifecycle-worker/settle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/crashpoint.h"
#include "common/base/log.h"
#include "lifecycle-worker/dependencies.h"
#include "lifecycle-worker/gates.h"
#include "lifecycle-worker/kill.h"
#include "lifecycle-worker/outgoing.h"
#include "lifecycle-worker/reconcile.h"

static struct wakeup wakeup_of(const struct worker *worker, const struct job *job)
{
    struct wakeup wakeup;
    memset(&wakeup, 0, sizeof(wakeup));
    str_copy(wakeup.job_id, sizeof(wakeup.job_id), job->id);
    str_copy(wakeup.sandbox_id, sizeof(wakeup.sandbox_id), job->sandbox_id);
    wakeup.op = job->op;
    wakeup.attempt = job->attempt;
    wakeup.enqueued_at_ms = database_clock_now_ms(&worker->clock);
    str_copy(wakeup.reply_to, sizeof(wakeup.reply_to), job->reply_to);
    str_copy(wakeup.request_id, sizeof(wakeup.request_id), job->request_id);
    str_copy(wakeup.traceparent, sizeof(wakeup.traceparent), job->traceparent);
    return wakeup;
}

/* ---- lost leases -------------------------------------------------------------------------- */

/* Goes on as the kill of the sandbox that an uncommitted create made. */
static void become_kill(struct flight *flight)
{
    const struct job *job = flight_job(flight);
    const struct sandbox *box = flight_sandbox(flight);
    const char *copy_id = flight->job.finish.values.provider_sandbox_id;
    struct flight_kill kill = {.orphan = false};
    str_copy(kill.request_id, sizeof(kill.request_id), job->request_id);
    str_copy(kill.job_id, sizeof(kill.job_id), job->id);
    str_copy(kill.sandbox_id, sizeof(kill.sandbox_id), box->id);
    str_copy(kill.provider, sizeof(kill.provider), box->provider);
    str_copy(kill.provider_sandbox_id, sizeof(kill.provider_sandbox_id), copy_id);
    flight_become_kill(flight, &kill);
    kill_begin(flight);
}

/*
 * This worker's create made a sandbox, and its finish was not committed. The holder of the job
 * finds the sandbox by its tags, unless the row names another sandbox or has ended: then this
 * worker kills it. Returns true when the flight goes on as that kill.
 */
static bool keep_to_kill(struct worker *worker, struct flight *flight)
{
    const struct store_finish *finish = &flight->job.finish;
    if (flight_job(flight)->op != JOB_CREATE || finish->state != JOB_STATE_DONE ||
        (finish->set & STORE_SET_PROVIDER) == 0 ||
        gates_find(worker, flight_sandbox(flight)->provider) == NULL) {
        return false;
    }
    const char *ours = finish->values.provider_sandbox_id;
    struct sandbox now;
    struct error err = ERROR_INIT;
    memset(&now, 0, sizeof(now));
    bool ended = false;
    if (store_sandbox_get(worker->store, flight_sandbox(flight)->id, NULL, true, &now, &err) != 0) {
        if (err.code != ERR_SANDBOX_NOT_FOUND) {
            log_event(LOG_WARN, "provider.copy_unsure", LOG_S("provider_sandbox_id", ours),
                      LOG_S("error", err.message));
            return false;
        }
        ended = true;
    }
    bool other = now.provider_sandbox_id[0] != '\0' && strcmp(now.provider_sandbox_id, ours) != 0;
    bool kill =
        ended || other || (now.status == SANDBOX_FAILED && now.provider_sandbox_id[0] == '\0');
    sandbox_done(&now);
    if (kill && worker->http == NULL) {
        log_event(LOG_ERROR, "provider.copy_left", LOG_S("provider_sandbox_id", ours));
        return false;
    }
    if (kill) {
        become_kill(flight);
    }
    return kill;
}

static void end_fenced(struct worker *worker, struct flight *flight, const char *event)
{
    const struct job *job = flight_job(flight);
    /* perhaps only the answer to our commit was lost: a waiter must not miss the end of its job */
    struct job seen;
    struct error err = ERROR_INIT;
    memset(&seen, 0, sizeof(seen));
    str_copy(seen.id, sizeof(seen.id), job->id);
    seen.state = JOB_STATE_RUNNING;
    if (store_jobs_poll(worker->store, &seen, 1, &err) == 0 && job_state_is_terminal(seen.state)) {
        outgoing_reply(worker, job, seen.state);
    }
    job_done(&seen);
    if (flight->job.has_entry) {
        outgoing_ack(worker, &flight->job.entry);
    }
    reconcile_late_call(flight);
    /* logged last: a reader of the event finds the job that the late call led to */
    log_event(LOG_WARN, event, LOG_S("op", job_op_name(job->op)),
              LOG_I("lease_token", job->lease_token));
    if (!keep_to_kill(worker, flight)) {
        inflight_release(&worker->inflight, flight);
    }
}

/* ---- from PostgreSQL ---------------------------------------------------------------------- */

static void log_finished(const struct flight *flight, const struct store_finish *finish)
{
    const struct job *job = flight_job(flight);
    const char *event = finish->state == JOB_STATE_RETRY_WAIT ? "job.retry"
                        : finish->state == JOB_STATE_DEAD     ? "job.dead"
                                                              : "job.finished";
    enum log_level level = finish->state == JOB_STATE_RETRY_WAIT && !finish->release ? LOG_WARN
                           : finish->state == JOB_STATE_DEAD                         ? LOG_ERROR
                                                                                     : LOG_INFO;
    log_event(level, event, LOG_S("op", job_op_name(job->op)),
              LOG_S("state", job_state_name(finish->state)),
              LOG_S("outcome", outcome_name(finish->outcome)), LOG_I("attempt", job->attempt),
              LOG_I("duration_ms", clock_mono_ms() - flight->began_ms),
              LOG_I("delay_ms", finish->delay_ms),
              LOG_I("provider_http_status", finish->provider_http_status),
              LOG_S("error", finish->error[0] == '\0' ? NULL : finish->error));
}

static void count_finished(struct worker_counters *counters, enum job_state state)
{
    switch (state) {
    case JOB_STATE_DONE:
        counters->done++;
        break;
    case JOB_STATE_FAILED:
        counters->failed++;
        break;
    case JOB_STATE_DEAD:
        counters->dead++;
        break;
    case JOB_STATE_SUPERSEDED:
        counters->superseded++;
        break;
    case JOB_STATE_RETRY_WAIT:
        counters->retried++;
        break;
    case JOB_STATE_QUEUED:
    case JOB_STATE_RUNNING:
    case JOB_STATE_COUNT:
        break;
    }
}

static void end_committed(struct worker *worker, struct flight *flight,
                          const struct store_finish *finish)
{
    const struct job *job = flight_job(flight);
    count_finished(&worker->counters, finish->state);
    log_finished(flight, finish);
    if (job_state_is_terminal(finish->state)) {
        outgoing_reply(worker, job, finish->state);
    } else if (finish->delay_ms <= 0) {
        struct wakeup again = wakeup_of(worker, job);
        outgoing_wake(worker, &again);
    }
    if (finish->ret_has_next) {
        outgoing_wake(worker, &finish->ret_next);
    }
    if (flight->job.has_entry) {
        outgoing_ack(worker, &flight->job.entry);
    }
    inflight_release(&worker->inflight, flight);
}

static void end_item(struct worker *worker, struct flight *flight, struct store_finish *finish)
{
    flight_log_context(flight);
    if (finish->ret_fenced) {
        worker->counters.fenced++;
        end_fenced(worker, flight, "job.fenced");
    } else {
        finish->state = finish->ret_state; /* a retry ahead of a delete was superseded */
        end_committed(worker, flight, finish);
    }
    log_context_clear();
}

/* PostgreSQL refuses this outcome: schedules the job again without it. */
static void write_bare_retry(struct worker *worker, const struct flight *flight,
                             const struct error *why)
{
    const struct job *job = flight_job(flight);
    struct store_finish bare = {.lease_token = job->lease_token,
                                .state = JOB_STATE_RETRY_WAIT,
                                .delay_ms = worker->policy.cap_ms,
                                .outcome = OUTCOME_PERMANENT};
    struct error err = ERROR_INIT;

    str_copy(bare.job_id, sizeof(bare.job_id), job->id);
    snprintf(bare.error, sizeof(bare.error), "its outcome was refused: %.200s", why->message);
    if (store_jobs_finish(worker->store, &bare, 1, worker->identity, &err) != 0) {
        log_error(LOG_ERROR, "job.retry_failed", &err); /* its lease runs out */
    }
}

/* Commits one by one after PostgreSQL refused the batch: one bad row must not hold up the others.
 */
static void finish_singly(struct worker *worker, struct flight **flights,
                          struct store_finish *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct error err = ERROR_INIT;
        if (store_jobs_finish(worker->store, &items[i], 1, worker->identity, &err) == 0) {
            end_item(worker, flights[i], &items[i]);
            continue;
        }
        if (err.code == ERR_DATABASE_DOWN || err.code == ERR_OVERLOADED) {
            dependencies_store_failed(worker, &err);
            return;
        }
        flight_log_context(flights[i]);
        log_error(LOG_ERROR, "job.finish_failed", &err);
        log_context_clear();
        write_bare_retry(worker, flights[i], &err);
        if (flights[i]->job.has_entry) {
            outgoing_ack(worker, &flights[i]->job.entry);
        }
        inflight_release(&worker->inflight, flights[i]);
    }
}

static void drop_expired(struct worker *worker)
{
    int64_t now_ms = clock_mono_ms();
    for (int i = 0; i < worker->inflight.capacity; i++) {
        struct flight *flight = &worker->inflight.flights[i];
        if (flight->phase == FLIGHT_FINISHED && flight->kind == FLIGHT_JOB &&
            now_ms >= flight->job.lease_end_ms) {
            flight_log_context(flight);
            worker->counters.lease_lost++;
            end_fenced(worker, flight, "job.lease_lost");
            log_context_clear();
        }
    }
}

void settle_finished(struct worker *worker)
{
    drop_expired(worker);
    int count = inflight_count(&worker->inflight, FLIGHT_FINISHED);
    if (count == 0 || (!worker->store_up && clock_mono_ms() < worker->store_retry_ms)) {
        return;
    }
    struct store_finish *items = xcalloc((size_t)count, sizeof(*items));
    struct flight **flights = xcalloc((size_t)count, sizeof(struct flight *));
    size_t used = 0;
    for (int i = 0; i < worker->inflight.capacity; i++) {
        struct flight *flight = &worker->inflight.flights[i];
        if (flight->phase == FLIGHT_FINISHED) {
            items[used] = flight->job.finish;
            flights[used++] = flight;
        }
    }
    struct error err = ERROR_INIT;
    CRASHPOINT(worker_ended);
    if (store_jobs_finish(worker->store, items, used, worker->identity, &err) == 0) {
        CRASHPOINT(worker_committed);
        dependencies_store_works(worker);
        for (size_t i = 0; i < used; i++) {
            end_item(worker, flights[i], &items[i]);
        }
    } else if (err.code == ERR_DATABASE_DOWN || err.code == ERR_OVERLOADED) {
        dependencies_store_failed(worker, &err);
    } else {
        log_error(LOG_ERROR, "worker.batch_refused", &err);
        finish_singly(worker, flights, items, used);
    }
    free(flights);
    free(items);
}
