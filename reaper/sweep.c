/*
 * sweep - see sweep.h.
 */
#include "reaper/sweep.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/crashpoint.h"
#include "common/base/json.h"
#include "common/base/log.h"
#include "common/store/store_config.h"

#define REFILL_MAX       20000 /* after a wipe; the rest follows by the ordinary search */
#define RETRY_MS         500
#define HORIZON_LOOKS    6       /* looks at the lifetimes before the provider's end, at least */
#define COMMAND_AGE_MS   1       /* they say themselves until when they are kept */
#define TOKEN_AGE_MS     3600000 /* a revoked token is kept so long after its own end */
#define DEAD_CLAIM_MS    10000   /* for sending dead letters, before another reaper does */
#define ASK_LOOK_MS      1000  /* longest interval of the look whether a sweep is to be asked for */
#define REFUSED_FRESH_MS 30000 /* a refusal after a longer time is logged again */
#define DEAD_PROCESS_MS  3600000 /* a dead process is forgotten */
#define DEAD_LOOK_MS     5000    /* interval of the look whether their list is there */

/* ---- what we depend on -------------------------------------------------------------------- */

static void report_store(struct sweep *sweep, const struct error *err)
{
    if (err == NULL) {
        if (!sweep->store_up) {
            log_event(LOG_INFO, "store.up");
        }
        sweep->store_up = true;
        return;
    }
    if (sweep->store_up) {
        log_error(LOG_ERROR, "store.down", err);
    }
    sweep->store_up = false;
    sweep->store_retry_ms = clock_mono_ms() + RETRY_MS;
}

/* Redis is full, or a key is of another type: workers look that up in PostgreSQL. */
static void report_refusal(struct sweep *sweep, const struct error *err)
{
    int64_t now_ms = clock_mono_ms();
    if (sweep->queue_refused_ms == 0 || now_ms - sweep->queue_refused_ms > REFUSED_FRESH_MS) {
        log_error(LOG_WARN, "queue.degraded", err);
    }
    sweep->queue_refused_ms = now_ms;
}

static void report_queue(struct sweep *sweep, const struct error *err)
{
    if (err != NULL && err->code == ERR_LIMIT) {
        report_refusal(sweep, err);
        return;
    }
    if (err == NULL) {
        if (!sweep->queue_up) {
            log_event(LOG_INFO, "queue.up");
        }
        sweep->queue_up = true;
        return;
    }
    if (sweep->queue_up) {
        log_error(LOG_ERROR, "queue.down", err);
    }
    sweep->queue_up = false;
    sweep->queue_retry_ms = clock_mono_ms() + RETRY_MS;
    if (err->code == ERR_CONFIG && !sweep->keys_ours) {
        sweep->refusal = *err;
    }
}

/* Nothing is decided before it is known whose the Redis keys must be. */
static bool knows_owner(struct sweep *sweep)
{
    struct error err = ERROR_INIT;
    char id[UUID_BYTES];
    if (atomic_load(&sweep->owner.known)) {
        return true;
    }
    if (store_deployment_id(sweep->store, id, &err) != 0) {
        report_store(sweep, &err);
        return false;
    }
    queue_owner_set(&sweep->owner, id);
    return true;
}

/* Sends the wake-ups and frees the array. The outbox later finds those that Redis did not take. */
static void send_wakeups(struct sweep *sweep, struct wakeup *wakeups, size_t count)
{
    struct error err = ERROR_INIT;
    if (count > 0) {
        CRASHPOINT(reaper_decided);
        if (queue_add(sweep->queue, wakeups, count, &err) == 0) {
            report_queue(sweep, NULL);
            sweep->wakeups += (int64_t)count;
        } else {
            report_queue(sweep, &err);
        }
    }
    free(wakeups);
}

/* ---- (a) deadlines ------------------------------------------------------------------------ */

/* Deletes what was paused too long or has lived too long. Returns false when there are more. */
static bool run_lives(struct sweep *sweep)
{
    const struct reaper_config *config = sweep->config;
    struct error err = ERROR_INIT;
    struct wakeup *wakeups = NULL;
    size_t count = 0;

    if (store_reap_lives(sweep->store, (int)config->batch, &wakeups, &count, &err) != 0) {
        report_store(sweep, &err);
        return true;
    }
    if (count > 0) {
        log_event(LOG_INFO, "lives.ended", LOG_I("count", (int64_t)count));
    }
    send_wakeups(sweep, wakeups, count);
    return count < (size_t)config->batch;
}

static void run_deadlines(struct sweep *sweep, int64_t now_ms)
{
    const struct reaper_config *config = sweep->config;
    struct error err = ERROR_INIT;
    struct wakeup *wakeups = NULL;
    size_t count = 0;
    CRASHPOINT(reaper_looking);
    if (!knows_owner(sweep)) {
        return;
    }
    if (store_reap_deadlines(sweep->store, (int)config->batch, &wakeups, &count, &err) != 0) {
        report_store(sweep, &err);
        return;
    }
    report_store(sweep, NULL);
    sweep->deadlines += (int64_t)count;
    if (count > 0) {
        log_event(LOG_INFO, "deadlines.reached", LOG_I("count", (int64_t)count));
    }
    send_wakeups(sweep, wakeups, count);
    if (!run_lives(sweep) || count == (size_t)config->batch) {
        sweep->next_deadlines_ms = now_ms; /* there are more */
        return;
    }
    int64_t wait_ms = config->tick_ms;
    if (store_next_deadline_ms(sweep->store, config->tick_ms, &wait_ms, &err) != 0) {
        report_store(sweep, &err);
        wait_ms = config->tick_ms;
    }
    if (wait_ms > config->tick_ms) {
        wait_ms = config->tick_ms;
    }
    sweep->next_deadlines_ms = clock_mono_ms() + (wait_ms > 0 ? wait_ms : 1);
}

/* ---- (b) lost wake-ups -------------------------------------------------------------------- */

static void look_for_mark(struct sweep *sweep)
{
    struct error err = ERROR_INIT;
    bool present = true;
    if (queue_mark_present(sweep->queue, &present, &err) != 0) {
        report_queue(sweep, &err);
        if (err.code != ERR_LIMIT) {
            return;
        }
    }
    report_queue(sweep, NULL);
    if (present && sweep->keys_ours) {
        return;
    }
    bool wiped = false;
    if (queue_prepare(sweep->queue, &wiped, &err) != 0) {
        report_queue(sweep, &err);
        if (err.code != ERR_LIMIT) {
            return;
        }
    }
    sweep->keys_ours = true;
    if (!wiped) {
        return;
    }
    /* a deployment that has just been made has no mark either */
    bool had_jobs = true;
    if (store_has_jobs(sweep->store, &had_jobs, &err) != 0) {
        report_store(sweep, &err);
    }
    if (had_jobs) {
        log_event(LOG_WARN, "queue.wiped");
    }
    sweep->refill = true;
    sweep->refills++;
}

static void run_outbox(struct sweep *sweep, int64_t now_ms)
{
    const struct reaper_config *config = sweep->config;
    struct error err = ERROR_INIT;
    struct wakeup *wakeups = NULL;
    size_t count = 0;
    int limit;
    sweep->next_outbox_ms = now_ms + config->outbox_ms;
    look_for_mark(sweep);
    if (!sweep->queue_up) {
        return; /* marking jobs as enqueued that are not would only push them back */
    }
    limit = sweep->refill ? REFILL_MAX : (int)config->batch;
    if (store_outbox(sweep->store, limit, config->outbox_base_ms, sweep->refill, &wakeups, &count,
                     &err) != 0) {
        report_store(sweep, &err);
        return;
    }
    report_store(sweep, NULL);
    if (count > 0) {
        log_event(sweep->refill ? LOG_WARN : LOG_DEBUG, "jobs.woken",
                  LOG_I("count", (int64_t)count));
    }
    send_wakeups(sweep, wakeups, count);
    if (sweep->queue_up) {
        sweep->refill = false;
        if (count == (size_t)limit) {
            sweep->next_outbox_ms = now_ms;
        }
    }
}

/* ---- dead letters ------------------------------------------------------------------------- */

/* Sent and not marked is sent again: a letter may be there twice, but none is missing. */
static int send_letters(struct sweep *sweep, const struct store_dead_letter *letters, size_t count)
{
    struct error err = ERROR_INIT;
    for (size_t i = 0; i < count; i++) {
        if (queue_add_dead(sweep->queue, &letters[i].wakeup, letters[i].error, &err) != 0) {
            report_queue(sweep, &err);
            return -1;
        }
    }
    return 0;
}

/* The list is there, empty or not, unless Redis was wiped or nothing has died yet. */
static void look_for_dead_list(struct sweep *sweep, int64_t now_ms)
{
    struct error err = ERROR_INIT;
    bool present = true;
    if (now_ms < sweep->next_dead_look_ms) {
        return;
    }
    sweep->next_dead_look_ms = now_ms + DEAD_LOOK_MS;
    if (queue_dead_present(sweep->queue, &present, &err) != 0) {
        report_queue(sweep, &err);
    } else if (!present && store_dead_relist(sweep->store, &err) != 0) {
        report_store(sweep, &err);
    }
}

static void run_dead_letters(struct sweep *sweep, int64_t now_ms)
{
    struct error err = ERROR_INIT;
    struct store_dead_letter *letters = NULL;
    size_t count = 0;
    if (!sweep->queue_up) {
        return;
    }
    look_for_dead_list(sweep, now_ms);
    if (store_dead_claim(sweep->store, (int)sweep->config->batch, DEAD_CLAIM_MS, &letters, &count,
                         &err) != 0) {
        report_store(sweep, &err);
        return;
    }
    if (count > 0 && send_letters(sweep, letters, count) == 0 &&
        store_dead_listed(sweep->store, letters, count, &err) != 0) {
        report_store(sweep, &err);
    }
    free(letters);
}

/* ---- (c) provider lifetimes --------------------------------------------------------------- */

/* An end at the provider is moved while it is this far ahead: for so long no reaper is needed. */
static int64_t lifetime_horizon_ms(const struct reaper_config *config)
{
    int64_t looks_ms = HORIZON_LOOKS * config->lifetimes_ms;

    return config->lifetime_grace_ms > looks_ms ? config->lifetime_grace_ms : looks_ms;
}

static void run_lifetimes(struct sweep *sweep, int64_t now_ms)
{
    const struct reaper_config *config = sweep->config;
    sweep->next_lifetimes_ms = now_ms + config->lifetimes_ms;
    for (int i = 0; i < config->kind_count; i++) {
        const char *name = provider_kind_name(config->kinds[i]);
        int64_t max_ms = config->lifetimes.max_s[config->kinds[i]] * 1000;
        int64_t margin_ms =
            config->lifetime_margin_ms < max_ms / 10 ? config->lifetime_margin_ms : max_ms / 10;
        struct error err = ERROR_INIT;
        struct wakeup *wakeups = NULL;
        size_t count = 0;
        if (store_reap_lifetimes(sweep->store, name, (int)config->batch, config->lifetime_grace_ms,
                                 max_ms, margin_ms, lifetime_horizon_ms(config), &wakeups, &count,
                                 &err) != 0) {
            report_store(sweep, &err);
            break;
        }
        sweep->lifetimes += (int64_t)count;
        if (count > 0) {
            log_event(LOG_INFO, "lifetimes.near",
                      LOG_S("provider", config->labels.of[config->kinds[i]]),
                      LOG_I("count", (int64_t)count));
        }
        send_wakeups(sweep, wakeups, count);
        if (count == (size_t)config->batch) {
            sweep->next_lifetimes_ms = now_ms;
        }
    }
}

/* ---- (d) reconcile ------------------------------------------------------------------------ */

/* Asks more often than is due, because another reaper may have asked just after our last look. What
 * Redis does not take, workers find in PostgreSQL. */
static void run_reconcile(struct sweep *sweep, int64_t now_ms)
{
    const int64_t interval_ms = sweep->config->reconcile_ms;
    sweep->next_reconcile_ms =
        now_ms + (interval_ms / 4 < ASK_LOOK_MS ? interval_ms / 4 : ASK_LOOK_MS);
    for (int i = 0; i < sweep->config->kind_count; i++) {
        struct error err = ERROR_INIT;
        struct wakeup wakeup;
        bool asked = false;
        if (store_sweep_ask(sweep->store, provider_kind_name(sweep->config->kinds[i]), interval_ms,
                            &wakeup, &asked, &err) != 0) {
            report_store(sweep, &err);
            return;
        }
        if (asked && sweep->queue_up && queue_add(sweep->queue, &wakeup, 1, &err) != 0) {
            report_queue(sweep, &err);
        }
    }
}

/* ---- housekeeping ------------------------------------------------------------------------- */

/* Prunes one batch of each growing table. *ret_more: at least one table has more to prune. */
static int prune_batches(struct sweep *sweep, bool *ret_more, struct error *err)
{
    const struct reaper_config *config = sweep->config;
    const int64_t ages_ms[STORE_PRUNABLE_COUNT] = {
        [STORE_PRUNE_KEYS] = config->idempotency_s * 1000,
        [STORE_PRUNE_TOKENS] = TOKEN_AGE_MS,
        [STORE_PRUNE_EVENTS] = config->retention_ms,
        [STORE_PRUNE_SANDBOXES] = config->retention_ms,
        [STORE_PRUNE_COMMANDS] = COMMAND_AGE_MS,
        [STORE_PRUNE_COMMANDS_OF_ENDED] = COMMAND_AGE_MS,
    };
    *ret_more = false;
    for (int what = 0; what < STORE_PRUNABLE_COUNT; what++) {
        bool full = false;
        if (ages_ms[what] > 0 &&
            store_prune(sweep->store, (enum store_prunable)what, ages_ms[what], &full, err) != 0) {
            return -1;
        }
        *ret_more = *ret_more || full;
    }
    return 0;
}

/* Goes on while rows remain, for at most half of the time, because deadlines come first. */
static void run_prune(struct sweep *sweep, int64_t now_ms)
{
    struct error err = ERROR_INIT;
    bool goes_on = sweep->prune_goes_on;
    sweep->prune_goes_on = false;
    sweep->next_prune_ms = now_ms + sweep->config->prune_ms;
    if (!goes_on && sweep->queue_up &&
        queue_consumers_prune(sweep->queue, sweep->config->consumer_idle_ms, &err) != 0) {
        report_queue(sweep, &err);
    }
    if (!sweep->store_up) {
        return;
    }
    if ((!goes_on && store_processes_prune(sweep->store, DEAD_PROCESS_MS, &err) != 0) ||
        prune_batches(sweep, &sweep->prune_goes_on, &err) != 0) {
        report_store(sweep, &err);
    }
    if (sweep->prune_goes_on) {
        int64_t ended_ms = clock_mono_ms();
        sweep->next_prune_ms = ended_ms + (ended_ms - now_ms) + 1;
    }
}

static void run_stats(struct sweep *sweep, int64_t now_ms)
{
    struct error err = ERROR_INIT;
    struct store_stats stats;
    int64_t length = -1;
    int64_t pending = -1;
    sweep->next_stats_ms = now_ms + sweep->config->stats_ms;
    memset(&stats, 0, sizeof(stats));
    if (store_stats(sweep->store, &stats, &err) != 0) {
        report_store(sweep, &err);
        return;
    }
    if (sweep->queue_up && queue_depth(sweep->queue, &length, &pending, &err) != 0) {
        report_queue(sweep, &err);
    }
    log_event(LOG_INFO, "reaper.stats", LOG_I("jobs_queued", stats.jobs_by_state[JOB_STATE_QUEUED]),
              LOG_I("jobs_running", stats.jobs_by_state[JOB_STATE_RUNNING]),
              LOG_I("jobs_retry_wait", stats.jobs_by_state[JOB_STATE_RETRY_WAIT]),
              LOG_I("jobs_dead", stats.jobs_by_state[JOB_STATE_DEAD]),
              LOG_I("sandboxes_running", stats.sandboxes_by_status[SANDBOX_RUNNING]),
              LOG_I("sandboxes_paused", stats.sandboxes_by_status[SANDBOX_PAUSED]),
              LOG_I("oldest_queued_ms", stats.oldest_queued_ms), LOG_I("stream_length", length),
              LOG_I("stream_pending", pending), LOG_I("deadlines", sweep->deadlines),
              LOG_I("lifetimes", sweep->lifetimes), LOG_I("wakeups", sweep->wakeups),
              LOG_I("refills", sweep->refills));
}

static void run_heartbeat(struct sweep *sweep, int64_t now_ms)
{
    struct error err = ERROR_INIT;
    sweep->next_heartbeat_ms = now_ms + sweep->config->heartbeat_ms;
    cJSON *root = cJSON_CreateObject();
    json_add_time(root, "started_at", sweep->started_wall_ms);
    cJSON_AddStringToObject(root, "version", VERSION);
    cJSON_AddBoolToObject(root, "store_up", sweep->store_up);
    json_add_int64(root, "deadlines", sweep->deadlines);
    json_add_int64(root, "lifetimes", sweep->lifetimes);
    json_add_int64(root, "wakeups", sweep->wakeups);
    json_add_int64(root, "refills", sweep->refills);
    struct strbuf text;
    strbuf_init(&text, 2048);
    json_print(root, &text);
    cJSON_Delete(root);
    if (queue_reaper_heartbeat(sweep->queue, sweep->identity, 3 * sweep->config->heartbeat_ms,
                               text.data, &err) != 0) {
        report_queue(sweep, &err);
    } else {
        report_queue(sweep, NULL);
    }
    strbuf_done(&text);
}

/* The heartbeat in PostgreSQL, with our clock. */
static void run_beat(struct sweep *sweep, int64_t now_ms)
{
    struct error err = ERROR_INIT;
    int64_t database_ms;
    sweep->next_beat_ms = now_ms + sweep->config->heartbeat_ms;
    if (store_process_beat(sweep->store, STORE_ROLE_REAPER, sweep->identity,
                           sweep->config->heartbeat_ms, clock_wall_ms(), NULL, &database_ms,
                           &err) != 0) {
        report_store(sweep, &err);
    }
}

/* ---- one round ---------------------------------------------------------------------------- */

static void run_store_work(struct sweep *sweep, int64_t now_ms)
{
    if (now_ms >= sweep->next_deadlines_ms) {
        run_deadlines(sweep, now_ms);
    }
    if (sweep->store_up && now_ms >= sweep->next_beat_ms) {
        run_beat(sweep, now_ms);
    }
    if (sweep->store_up && now_ms >= sweep->next_outbox_ms) {
        run_outbox(sweep, now_ms);
        run_dead_letters(sweep, now_ms);
    }
    if (sweep->store_up && now_ms >= sweep->next_lifetimes_ms) {
        run_lifetimes(sweep, now_ms);
    }
    if (sweep->store_up && now_ms >= sweep->next_reconcile_ms) {
        run_reconcile(sweep, now_ms);
    }
    if (sweep->store_up && now_ms >= sweep->next_stats_ms) {
        run_stats(sweep, now_ms);
    }
}

int64_t sweep_run(struct sweep *sweep)
{
    int64_t now_ms = clock_mono_ms();
    bool store_due = sweep->store_up || now_ms >= sweep->store_retry_ms;
    bool queue_due = sweep->queue_up || now_ms >= sweep->queue_retry_ms;
    if (queue_due && now_ms >= sweep->next_heartbeat_ms) {
        run_heartbeat(sweep, now_ms);
    }
    if (store_due) {
        if (!sweep->store_up) {
            sweep->next_deadlines_ms = now_ms; /* asks whether PostgreSQL is back */
        }
        run_store_work(sweep, now_ms);
    }
    now_ms = clock_mono_ms();
    if (now_ms >= sweep->next_prune_ms) {
        run_prune(sweep, now_ms);
        now_ms = clock_mono_ms();
    }
    int64_t wake_ms = sweep->store_up ? sweep->next_deadlines_ms : sweep->store_retry_ms;
    if (sweep->store_up && sweep->next_outbox_ms < wake_ms) {
        wake_ms = sweep->next_outbox_ms;
    }
    if (sweep->store_up && sweep->next_prune_ms < wake_ms) {
        wake_ms = sweep->next_prune_ms;
    }
    if (wake_ms > now_ms + sweep->config->tick_ms) {
        wake_ms = now_ms + sweep->config->tick_ms;
    }
    return wake_ms > now_ms ? wake_ms - now_ms : 0;
}

void sweep_init(struct sweep *sweep, const struct reaper_config *config)
{
    memset(sweep, 0, sizeof(*sweep));
    sweep->config = config;
    service_identity(sweep->identity);
    sweep->started_wall_ms = clock_wall_ms();
    sweep->store_up = sweep->queue_up = true;
    sweep->next_stats_ms = clock_mono_ms() + config->stats_ms;
    sweep->next_prune_ms = clock_mono_ms() + config->prune_ms;
    struct store_options database = store_config_options(config->database_url, "sandbox-reaper", 1);
    sweep->store = store_new(&database);
    struct queue_options redis = queue_config_options(&config->redis, &sweep->owner);
    sweep->queue = queue_new(&redis);
}

void sweep_done(struct sweep *sweep)
{
    struct error err = ERROR_INIT;
    if (queue_reaper_heartbeat_remove(sweep->queue, sweep->identity, &err) != 0) {
        log_error(LOG_WARN, "reaper.heartbeat_left", &err); /* it expires by itself */
    }
    if (sweep->store_up && store_process_end(sweep->store, sweep->identity, &err) != 0) {
        log_error(LOG_WARN, "reaper.heartbeat_left", &err);
    }
    queue_free(sweep->queue);
    store_free(sweep->store);
    memset(sweep, 0, sizeof(*sweep));
}
