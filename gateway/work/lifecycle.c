/* lifecycle - see lifecycle.h. */
#include "gateway/work/lifecycle.h"

#include <stdio.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/crashpoint.h"
#include "common/base/log.h"
#include "common/store/store_limits.h"
#include "gateway/http/request_state.h"
#include "gateway/work/job_error.h"

enum {
    RUNNING_TRIES = 3,
    LINE_LOOK_MS =
        1000,           /* a waiter renews its place, and notices what no event tells, this often */
    LINE_POLL_MS = 250, /* pause without the watch of events, because too many follow them */
    LINE_GAP_MS = 20    /* shortest pause: events of every owner end the wait for one */
};

/* Reads the ended job from the store, because the reply says only that it has ended. If the store
 * is away, tries again: the job was accepted, and its caller must learn its end. */
static enum lifecycle_end read_end(struct request *request, const char *job_id, struct job *ret_job,
                                   struct error *err)
{
    struct error store_err = ERROR_INIT;
    struct job job;

    memset(&job, 0, sizeof(job));
    str_copy(job.id, sizeof(job.id), job_id);
    if (store_jobs_poll(request->gateway->store, &job, 1, &store_err) < 0) {
        if (store_err.code == ERR_DATABASE_DOWN || store_err.code == ERR_OVERLOADED) {
            return LIFECYCLE_PENDING;
        }
        *err = store_err;
        return LIFECYCLE_ERROR;
    }
    if (job.sandbox_id[0] == '\0') {
        error_set(err, ERR_SANDBOX_NOT_FOUND,
                  "no such sandbox"); /* the job ended and was pruned meanwhile */
        return LIFECYCLE_ERROR;
    }
    if (!job_state_is_terminal(job.state)) {
        job_done(&job);
        return LIFECYCLE_PENDING;
    }
    *ret_job = job;
    /* a resume that only prepares a call into the sandbox is not bound to the key */
    request->state->idempotency.ended = request->state->idempotency.bound;
    if (job.state != JOB_STATE_DONE) {
        job_error_set(&job, err);
        return LIFECYCLE_ERROR;
    }
    return LIFECYCLE_ENDED;
}

static enum lifecycle_end wait_for_end(struct request *request, struct waiter *waiter, bool no_wait,
                                       struct job *ret_job, struct error *err)
{
    struct gateway *gateway = request->gateway;
    int64_t until_ms = clock_mono_ms() + gateway->config->wait_s * 1000;
    enum lifecycle_end end = LIFECYCLE_PENDING;
    bool woken = !no_wait;

    while (woken && end == LIFECYCLE_PENDING) {
        int64_t left_ms = until_ms - clock_mono_ms();

        woken = left_ms > 0 && waiter_wait(gateway->waiters, waiter, left_ms);
        /* read once more at the deadline: the store may be back */
        end = read_end(request, waiter->job_id, ret_job, err);
        if (end == LIFECYCLE_PENDING) {
            waiter_change_job(gateway->waiters, waiter, waiter->job_id);
        }
    }
    event_watch_poke(gateway->event_watch);
    return end;
}

/* Waits for the job of an earlier request with the same Idempotency-Key. */
static enum lifecycle_end join_earlier(struct request *request, bool no_wait, struct job *ret_job,
                                       struct error *err)
{
    struct gateway *gateway = request->gateway;
    const char *job_id = request->state->idempotency.job_id;
    enum lifecycle_end end;
    struct waiter waiter;

    log_context(request->request_id, job_id, request->state->idempotency.sandbox_id);
    waiter_add(gateway->waiters, &waiter, job_id);
    /* the reply goes to the earlier request's gateway, so poll */
    waiter_change_job(gateway->waiters, &waiter, job_id);
    end = read_end(request, job_id, ret_job, err);
    if (end == LIFECYCLE_PENDING) {
        end = wait_for_end(request, &waiter, no_wait, ret_job, err);
    }
    waiter_remove(gateway->waiters, &waiter);
    return end;
}

static struct store_quota default_quota(const struct gateway_config *config)
{
    return (struct store_quota){.max_sandboxes = config->max_sandboxes,
                                .max_paused = config->max_paused,
                                .creates_per_minute = config->creates_per_minute};
}

static int try_create(struct request *request, const struct sandbox *sandbox,
                      const struct store_accept *accept, const char *job_id,
                      struct wakeup *ret_wakeup, struct error *err)
{
    int status;

    user_share_accept_begin(request->state->user);
    status = store_accept_create(request->gateway->store, sandbox, accept, job_id, ret_wakeup, err);
    user_share_accept_end(request->state->user);
    return status;
}

/* Says that this request still waits in its place. */
static int keep_place(struct request *request, const char *owner, const char *waiter,
                      struct error *err)
{
    int status;

    user_share_accept_begin(request->state->user);
    status = store_create_line_wait(request->gateway->store, owner, waiter, err);
    user_share_accept_end(request->state->user);
    return status;
}

/* A place that cannot be given up now holds others up for 10 s. */
static void leave_line(struct request *request, const char *owner, const char *waiter)
{
    struct error err = ERROR_INIT;

    if (store_create_line_leave(request->gateway->store, owner, waiter, &err) < 0) {
        log_error(LOG_WARN, "create_line.leave_failed", &err);
    }
}

/* Waits in the owner's line, and tries again whenever something has happened. */
static int accept_in_turn(struct request *request, const struct sandbox *sandbox,
                          struct store_accept *accept, const char *job_id, int64_t until_ms,
                          struct wakeup *ret_wakeup, struct error *err)
{
    struct event_watch *watch = request->gateway->event_watch;
    struct error watch_err = ERROR_INIT;
    bool watching = event_watch_enter(watch, &watch_err) == 0;
    int64_t renewed_ms = INT64_MIN;
    bool ended = false, comes_back;
    int status = -1;

    accept->waiter = accept->key != NULL ? accept->key : job_id;
    while (status < 0 && err->code == ERR_QUOTA && !ended) {
        const uint64_t state = event_watch_state(watch);
        const int64_t now_ms = clock_mono_ms();

        if (renewed_ms == INT64_MIN || now_ms - renewed_ms >= LINE_LOOK_MS) {
            if (keep_place(request, sandbox->owner, accept->waiter, err) < 0) {
                break;
            }
            renewed_ms = now_ms;
        }
        /* the last try is at the end of the time */
        ended = now_ms >= until_ms || service_draining() || http_peer_gone(request->http);
        status = try_create(request, sandbox, accept, job_id, ret_wakeup, err);
        if (status < 0 && err->code == ERR_QUOTA && !ended) {
            const int64_t left_ms = until_ms - clock_mono_ms();
            const int64_t pause_ms = left_ms < LINE_LOOK_MS ? left_ms : LINE_LOOK_MS;

            clock_sleep_ms(LINE_GAP_MS);
            if (watching) {
                event_watch_wait(watch, state, pause_ms > 0 ? pause_ms : 0);
            } else if (pause_ms > 0) {
                clock_sleep_ms(pause_ms < LINE_POLL_MS ? pause_ms : LINE_POLL_MS);
            }
        }
    }
    if (watching) {
        event_watch_leave(watch);
    }
    /* the same request may come again, through another gateway: its place is kept for it */
    comes_back = accept->key != NULL && (service_draining() || http_peer_gone(request->http));
    if (status < 0 && !comes_back) {
        leave_line(request, sandbox->owner, accept->waiter);
    }
    return status;
}

/* `Prefer: wait=N`: a create that exceeds its owner's quota waits for its turn, up to N seconds. */
static int accept_create(struct request *request, const struct sandbox *sandbox,
                         struct store_accept *accept, const char *job_id, struct wakeup *ret_wakeup,
                         struct error *err)
{
    const int64_t wait_ms = request_wait_s(request, request->gateway->config->wait_s) * 1000;
    const int64_t until_ms = clock_mono_ms() + wait_ms;

    if (try_create(request, sandbox, accept, job_id, ret_wakeup, err) == 0) {
        return 0;
    }
    if (err->code != ERR_QUOTA || wait_ms == 0) {
        return -1;
    }
    return accept_in_turn(request, sandbox, accept, job_id, until_ms, ret_wakeup, err);
}

/* This request stalled for so long that another one took over its Idempotency-Key. */
static void hide_fence(struct error *err)
{
    if (err->code == ERR_FENCED) {
        error_set(err, ERR_TIMEOUT, "another request has taken over this Idempotency-Key");
    }
}

/* If a job found its sandbox gone, the answer is sandbox_not_found, not the job's own error. */
static void prefer_not_found(struct request *request, const char *sandbox_id, struct error *err)
{
    struct error lookup = ERROR_INIT;
    struct sandbox sandbox;

    if (lifecycle_get(request, sandbox_id, &sandbox, &lookup) == 0) {
        sandbox_done(&sandbox);
    } else if (lookup.code == ERR_SANDBOX_NOT_FOUND) {
        *err = lookup;
    }
}

enum lifecycle_end lifecycle_run(struct request *request, const struct lifecycle_change *change,
                                 struct job *ret_job, struct error *err)
{
    struct gateway *gateway = request->gateway;
    struct store_accept accept = {
        .quota = default_quota(gateway->config),
        .owner = request->principal.subject,
        .admin = request->principal.admin,
        .sandbox_id = change->sandbox_id,
        .op = change->op,
        .origin = "client",
        .params_json = change->params_json,
        .max_attempts = (int)(change->op == JOB_DELETE ? gateway->config->delete_attempts
                                                       : gateway->config->job_attempts),
        .reply_to = gateway->name,
        .request_id = request->request_id,
        .traceparent = request->state->traceparent,
        .key_id = request->principal.by_key ? request->principal.jti : NULL,
        .join = change->join,
        .key = change->keyed && request->state->idempotency.key[0] != '\0'
                   ? request->state->idempotency.key
                   : NULL,
        .claim = request->state->idempotency.claim,
    };
    char job_id[UUID_BYTES];
    enum lifecycle_end end = LIFECYCLE_ERROR;
    struct waiter waiter;
    struct wakeup wakeup;
    bool joined;

    memset(ret_job, 0, sizeof(*ret_job));
    if (change->keyed && idempotency_joins(request)) {
        return join_earlier(request, change->no_wait, ret_job, err);
    }
    if (admission_check(&gateway->admission, gateway->config, change->op, err) < 0) {
        return LIFECYCLE_ERROR;
    }
    id_uuid(job_id);
    log_context(request->request_id, job_id, change->sandbox_id);
    waiter_add(gateway->waiters, &waiter, job_id);
    CRASHPOINT(gateway_accepting);
    if (store_accept_job(gateway->store, &accept, job_id, &wakeup, &joined, err) == 0) {
        request->state->idempotency.bound = accept.key != NULL;
        if (joined) {
            waiter_change_job(gateway->waiters, &waiter, wakeup.job_id);
        } else {
            CRASHPOINT(gateway_accepted);
            admission_accepted(&gateway->admission);
            enqueuer_add(gateway->enqueuer, &wakeup);
        }
        end = wait_for_end(request, &waiter, change->no_wait, ret_job, err);
    }
    sandbox_cache_drop(gateway->sandbox_cache, change->sandbox_id);
    waiter_remove(gateway->waiters, &waiter);
    hide_fence(err);
    if (end == LIFECYCLE_ERROR && err->code == ERR_CONFLICT) {
        prefer_not_found(request, change->sandbox_id, err);
    }
    return end;
}

enum lifecycle_end lifecycle_create(struct request *request, struct sandbox *sandbox,
                                    const char *params_json, bool no_wait, struct job *ret_job,
                                    struct error *err)
{
    struct gateway *gateway = request->gateway;
    struct store_accept accept = {
        .quota = default_quota(gateway->config),
        .params_json = params_json,
        .max_attempts = (int)gateway->config->job_attempts,
        .reply_to = gateway->name,
        .request_id = request->request_id,
        .traceparent = request->state->traceparent,
        .key_id = request->principal.by_key ? request->principal.jti : NULL,
        .key = request->state->idempotency.key[0] != '\0' ? request->state->idempotency.key : NULL,
        .claim = request->state->idempotency.claim,
    };
    char job_id[UUID_BYTES];
    enum lifecycle_end end = LIFECYCLE_ERROR;
    struct waiter waiter;
    struct wakeup wakeup;
    bool may_wait;

    sandbox->max_life_ms = gateway->config->max_life_s * 1000;
    memset(ret_job, 0, sizeof(*ret_job));
    if (idempotency_joins(request)) {
        str_copy(sandbox->id, sizeof(sandbox->id), request->state->idempotency.sandbox_id);
        return join_earlier(request, no_wait, ret_job, err);
    }
    /* if the provider's calls are at their maximum, answer 202 at once */
    may_wait = !no_wait && provider_share_take(&gateway->provider_shares, sandbox->provider);
    id_uuid(job_id);
    log_context(request->request_id, job_id, sandbox->id);
    waiter_add(gateway->waiters, &waiter, job_id);
    CRASHPOINT(gateway_accepting);
    if (accept_create(request, sandbox, &accept, job_id, &wakeup, err) == 0) {
        request->state->idempotency.bound = accept.key != NULL;
        CRASHPOINT(gateway_accepted);
        admission_accepted(&gateway->admission);
        enqueuer_add(gateway->enqueuer, &wakeup);
        end = wait_for_end(request, &waiter, !may_wait, ret_job, err);
    }
    if (may_wait) {
        provider_share_give(&gateway->provider_shares, sandbox->provider);
    }
    waiter_remove(gateway->waiters, &waiter);
    hide_fence(err);
    return end;
}

int lifecycle_get(struct request *request, const char *sandbox_id, struct sandbox *ret,
                  struct error *err)
{
    return store_sandbox_get(request->gateway->store, sandbox_id, request->principal.subject,
                             request->principal.admin, ret, err);
}

/* Runs a resume job. It waits for earlier jobs of the sandbox, and ends at once if the sandbox
 * runs. */
static int make_run(struct request *request, const char *sandbox_id, struct error *err)
{
    struct lifecycle_change change = {.sandbox_id = sandbox_id, .op = JOB_RESUME, .join = true};
    struct job job;
    enum lifecycle_end end = lifecycle_run(request, &change, &job, err);

    job_done(&job);
    if (end == LIFECYCLE_PENDING) {
        return error_set(err, ERR_TIMEOUT, "the sandbox did not start within %lld s",
                         (long long)request->gateway->config->wait_s);
    }
    return end == LIFECYCLE_ENDED ? 0 : -1;
}

int lifecycle_get_running(struct request *request, const char *sandbox_id, struct sandbox *ret,
                          struct error *err)
{
    for (int i = 0; i < RUNNING_TRIES; i++) {
        struct error job_err = ERROR_INIT;
        enum sandbox_status status;

        if (lifecycle_get(request, sandbox_id, ret, err) < 0) {
            return -1;
        }
        status = ret->status;
        if (status == SANDBOX_RUNNING) {
            return 0;
        }
        sandbox_done(ret);
        if (status == SANDBOX_FAILED) {
            return error_set(err, ERR_SANDBOX_FAILED, "the sandbox could not be created");
        }
        if (status == SANDBOX_DELETING || status == SANDBOX_DELETED) {
            return error_set(err, ERR_SANDBOX_NOT_FOUND, "no such sandbox");
        }
        if (make_run(request, sandbox_id, &job_err) < 0 && job_err.code != ERR_CONFLICT) {
            *err = job_err;
            return -1;
        }
        /* a conflict: the state changed meanwhile (a create failed, for example), so read it again
         */
    }
    return error_set(err, ERR_CONFLICT, "the sandbox keeps changing its state");
}

int lifecycle_reconcile(struct request *request, const char *sandbox_id, struct error *err)
{
    struct lifecycle_change change = {.sandbox_id = sandbox_id, .op = JOB_RECONCILE, .join = true};
    struct job job;
    enum lifecycle_end end = lifecycle_run(request, &change, &job, err);

    job_done(&job);
    if (end == LIFECYCLE_PENDING) {
        return error_set(err, ERR_TIMEOUT, "the provider did not say what became of the sandbox");
    }
    return end == LIFECYCLE_ENDED ? 0 : -1;
}

int lifecycle_confirm(struct request *request, struct sandbox *sandbox, struct error *err)
{
    char id[UUID_BYTES];

    if (sandbox->missing_since_ms == 0) {
        return 0;
    }
    str_copy(id, sizeof(id), sandbox->id);
    sandbox_done(sandbox);
    memset(sandbox, 0, sizeof(*sandbox));
    if (lifecycle_reconcile(request, id, err) < 0 || lifecycle_get(request, id, sandbox, err) < 0) {
        return -1;
    }
    if (sandbox->missing_since_ms > 0) {
        return error_set(err, ERR_PROVIDER_DOWN,
                         "the provider does not know the sandbox at the moment");
    }
    return 0;
}
