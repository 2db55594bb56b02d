/*
 * worker - the loop and its single wait point.
 *
 * Owns: reading entries while there is room, claiming them in one statement, timers, the drain.
 * Does not own: what a job means (begin.c, end.c), how it ends (settle.c). Threads: one.
 * Failure: each turn does what its dependencies allow; nothing here ends the process but a drain.
 */
#include "lifecycle-worker/worker.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/crashpoint.h"
#include "common/base/json.h"
#include "common/base/log.h"
#include "common/store/store_config.h"
#include "lifecycle-worker/begin.h"
#include "lifecycle-worker/call.h"
#include "lifecycle-worker/dependencies.h"
#include "lifecycle-worker/end.h"
#include "lifecycle-worker/gates.h"
#include "lifecycle-worker/heartbeat.h"
#include "lifecycle-worker/kill.h"
#include "lifecycle-worker/outgoing.h"
#include "lifecycle-worker/reconcile.h"
#include "lifecycle-worker/settle.h"

#define TURN_MAX_MS         1000
#define QUEUE_POLL_AFTER_MS 2000 /* Redis away this long: ask PostgreSQL what is due */
#define DUE_POLL_MS         1000
#define DEGRADED_POLL_MS    250
#define HOLD_POLL_MS        1000
#define HOLD_FRESH_MS       50 /* before calls are begun */
#define AUTOCLAIM_MAX_MS    5000
#define MARK_LOOK_MS        2000
#define REFILL_MAX          20000 /* the rest is found by the reaper */
#define OUTBOX_BASE_MS      5000

/* ---- PostgreSQL and Redis ----------------------------------------------------------------- */

/* After a start or an outage: does PostgreSQL answer, with our schema, and which deployment is it?
 */
static void probe_store(struct worker *worker)
{
    struct error err = ERROR_INIT;
    if (worker->store_up || clock_mono_ms() < worker->store_retry_ms) {
        return;
    }
    int64_t start_ms = clock_mono_ms();
    if (store_ping(worker->store, &err) != 0 ||
        (worker->deployment_id[0] == '\0' &&
         store_deployment_id(worker->store, worker->deployment_id, &err) != 0)) {
        dependencies_store_failed(worker, &err);
        /* a host that drops packets must not take most of the loop's time */
        worker->store_retry_ms =
            clock_mono_ms() + DEPENDENCIES_STORE_RETRY_MS + (clock_mono_ms() - start_ms);
        return;
    }
    queue_owner_set(&worker->owner, worker->deployment_id);
    dependencies_store_works(worker);
}

/* Redis was wiped: adds every unfinished job to the streams again. */
static void refill_streams(struct worker *worker)
{
    struct wakeup *wakeups = NULL;
    size_t count = 0;
    struct error err = ERROR_INIT;
    if (store_outbox(worker->store, REFILL_MAX, OUTBOX_BASE_MS, true, &wakeups, &count, &err) !=
        0) {
        dependencies_store_failed(worker, &err); /* the reaper's ordinary search finds them */
        return;
    }
    if (queue_add(worker->queue, wakeups, count, &err) != 0) {
        dependencies_queue_failed(worker, &err); /* what is missing is found by that search, too */
    } else {
        log_event(LOG_WARN, "queue.refilled", LOG_I("jobs", (int64_t)count));
    }
    free(wakeups);
}

static void prepare_queue(struct worker *worker)
{
    struct error err = ERROR_INIT;
    bool wiped = false;
    if (queue_prepare(worker->queue, &wiped, &err) != 0) {
        dependencies_queue_failed(worker, &err);
        if (err.code != ERR_LIMIT) {
            return;
        }
        worker->read_retry_ms =
            clock_mono_ms() + DEPENDENCIES_QUEUE_RETRY_MS; /* a group may be missing */
    }
    worker->keys_ours = true;
    dependencies_queue_works(worker);
    if (wiped) {
        refill_streams(worker);
    }
}

/* Checks whose Redis keys these are. Nothing is read before they are known to be ours. */
static void look_for_mark(struct worker *worker, int64_t now_ms)
{
    struct error err = ERROR_INIT;
    bool present = false;
    if (worker->deployment_id[0] == '\0' || now_ms < worker->next_mark_ms ||
        (!worker->queue_up && now_ms < worker->queue_retry_ms)) {
        return;
    }
    if (queue_mark_present(worker->queue, &present, &err) != 0) {
        dependencies_queue_failed(worker, &err);
        if (err.code != ERR_LIMIT) {
            return;
        }
    }
    worker->next_mark_ms = now_ms + MARK_LOOK_MS;
    if (present && worker->keys_ours) {
        dependencies_queue_works(worker);
    } else {
        prepare_queue(worker);
    }
}

/* ---- claiming ----------------------------------------------------------------------------- */

/* One read may return an entry of each stream, even with less room. */
static size_t held_max(const struct worker_config *config)
{
    size_t slots = (size_t)config->max_in_flight;
    return slots < JOB_OP_COUNT ? JOB_OP_COUNT : slots;
}

static void forget_held(struct worker *worker, size_t index)
{
    worker->held_count--;
    memmove(&worker->held[index], &worker->held[index + 1],
            (worker->held_count - index) * sizeof(*worker->held));
}

/* True for a wake-up that claims the create or resume whose turn it is, not its own job. */
static bool is_turn(const struct worker *worker, const struct queue_entry *entry)
{
    return worker->held_in_turn && (entry->op == JOB_CREATE || entry->op == JOB_RESUME);
}

/* Drops entries that need no claim: malformed ones, and those of jobs in flight here. */
static void sift_held(struct worker *worker)
{
    for (size_t i = 0; i < worker->held_count;) {
        struct queue_entry *entry = &worker->held[i];
        struct flight *flight = entry->wakeup.job_id[0] == '\0'
                                    ? NULL
                                    : inflight_find(&worker->inflight, entry->wakeup.job_id);
        /* the job was begun by another entry, which then serves somebody else: keep this one */
        bool spare = flight != NULL && !flight->job.has_entry && is_turn(worker, entry);
        if (entry->wakeup.job_id[0] != '\0' && (flight == NULL || spare)) {
            i++;
            continue;
        }
        if (entry->wakeup.job_id[0] == '\0') {
            log_event(LOG_WARN, "entry.malformed", LOG_S("entry", entry->id),
                      LOG_S("stream", job_op_name(entry->op)));
        }
        /* after a reconnect the flight's own entry is read again; its end acknowledges it */
        if (flight == NULL || !flight->job.has_entry ||
            strcmp(flight->job.entry.id, entry->id) != 0) {
            outgoing_ack(worker, entry);
        }
        forget_held(worker, i);
    }
}

/* The index of the held entry of this job, or -1. */
static long find_held(const struct worker *worker, const char *job_id)
{
    for (size_t i = 0; i < worker->held_count; i++) {
        if (strcmp(worker->held[i].wakeup.job_id, job_id) == 0) {
            return (long)i;
        }
    }
    return -1;
}

static void begin_flight(struct worker *worker, struct store_claimed *claimed, int64_t asked_ms)
{
    const struct worker_config *config = worker->config;
    struct flight *flight = inflight_take(&worker->inflight, worker, FLIGHT_JOB);
    flight->job.claimed = *claimed;
    memset(claimed, 0, sizeof(*claimed)); /* the flight owns its heap members now */
    flight->claimed_at_ms = flight->job.claimed.claimed_at_ms;
    flight->began_ms = asked_ms;
    /* the lease began no earlier than the moment we asked for it */
    flight->job.lease_end_ms = asked_ms + config->lease_ms - worker_config_lease_margin_ms(config);
    flight->attempt_end_ms = asked_ms + config->attempt_ms;
    long held = find_held(worker, flight_job(flight)->id);
    if (held >= 0) {
        flight->job.entry = worker->held[held];
        flight->job.has_entry = flight->job.entry.id[0] != '\0';
        forget_held(worker, (size_t)held);
    }
    CRASHPOINT(worker_claimed);
    begin_job(flight);
}

static void claim_held(struct worker *worker)
{
    sift_held(worker);
    int room = inflight_room(&worker->inflight);
    size_t asked = worker->held_count < (size_t)room ? worker->held_count : (size_t)room;
    if (asked == 0 || !worker->store_up) {
        return;
    }
    const char **ids = xcalloc(asked, sizeof(*ids));
    char(*copies)[32] = xcalloc(asked, sizeof(*copies));
    size_t turns = 0;
    for (size_t i = 0; i < asked; i++) {
        ids[i] = worker->held[i].wakeup.job_id;
        turns += is_turn(worker, &worker->held[i]);
        str_copy(copies[i], sizeof(copies[i]), worker->held[i].id);
    }
    struct store_claimed *claimed = NULL;
    size_t count = 0;
    struct error err = ERROR_INIT;
    CRASHPOINT(worker_read);
    int64_t asked_ms = clock_mono_ms();
    int status = store_jobs_claim_in_turn(worker->store, ids, asked, turns, worker->identity,
                                          worker->config->lease_ms, &claimed, &count, &err);
    free(ids);
    if (status != 0) {
        free(copies);
        dependencies_store_failed(worker, &err);
        return;
    }
    if (count > 0) {
        database_clock_update(&worker->clock, claimed[0].claimed_at_ms, asked_ms);
        /* another worker may have got a Retry-After a moment ago */
        gates_read_holds(worker, clock_mono_ms(), HOLD_FRESH_MS);
    }
    for (size_t i = 0; i < count; i++) {
        begin_flight(worker, &claimed[i], asked_ms);
    }
    store_claimed_free(claimed, count);
    /* asked for and not given: done, not due, somebody else's, behind another job of the same
     * sandbox, whose end wakes it, or another owner's turn came first and its own wake-up will
     * serve this job: this entry has served its purpose */
    for (size_t i = 0; i < worker->held_count && asked > 0;) {
        bool was_asked = false;
        for (size_t j = 0; j < asked && !was_asked; j++) {
            was_asked = strcmp(copies[j], worker->held[i].id) == 0;
        }
        if (!was_asked) {
            i++;
            continue;
        }
        outgoing_ack(worker, &worker->held[i]);
        forget_held(worker, i);
    }
    free(copies);
}

/* Puts the held entries back on their streams, for a worker with room. */
static void give_back_held(struct worker *worker)
{
    sift_held(worker);
    for (size_t i = 0; i < worker->held_count; i++) {
        if (worker->held[i].id[0] != '\0') {
            outgoing_wake(worker, &worker->held[i].wakeup);
            outgoing_ack(worker, &worker->held[i]);
        }
    }
    worker->held_count = 0;
}

/* Entries read beyond the room must not wait here. */
static void give_back_excess(struct worker *worker)
{
    if (worker->held_count > 0 && worker->store_up && inflight_room(&worker->inflight) == 0) {
        log_event(LOG_INFO, "entries.given_back", LOG_I("count", (int64_t)worker->held_count));
        give_back_held(worker);
    }
}

static void take_sweeps(struct worker *worker)
{
    for (size_t i = 0; i < worker->held_count && worker->store_up;) {
        if (reconcile_take(worker, &worker->held[i])) {
            forget_held(worker, i);
        } else {
            i++;
        }
    }
}

/* ---- reading ------------------------------------------------------------------------------ */

/* How many entries may be read now: at most the free slots, and what the gates let through. */
static int read_room(const struct worker *worker)
{
    int64_t now_ms = clock_mono_ms();
    int calls = 0;
    for (int i = 0; i < worker->gate_count; i++) {
        calls += gate_room(&worker->gates[i], now_ms);
    }
    int slots = inflight_room(&worker->inflight);
    return slots < calls ? slots : calls;
}

static bool may_take(const struct worker *worker)
{
    return worker->store_up && worker->drain_end_ms == 0 && worker->held_count == 0;
}

static bool may_read(const struct worker *worker)
{
    return may_take(worker) && worker->keys_ours;
}

static void park_reader(struct worker *worker)
{
    struct error err = ERROR_INIT;
    if (!may_read(worker) || queue_reader_parked(worker->reader) ||
        (!worker->queue_up && clock_mono_ms() < worker->queue_retry_ms) ||
        clock_mono_ms() < worker->read_retry_ms) {
        return;
    }
    int room = read_room(worker);
    if (room > 0 && queue_reader_park(worker->reader, room, &err) != 0) {
        dependencies_queue_failed(worker, &err);
    }
}

static void take_entries(struct worker *worker)
{
    struct error err = ERROR_INIT;
    bool done = false;
    if (worker->reader == NULL || !queue_reader_parked(worker->reader) || worker->held_count > 0) {
        return;
    }
    if (queue_reader_take(worker->reader, worker->held, held_max(worker->config),
                          &worker->held_count, &done, &err) != 0) {
        if (err.code == ERR_NOT_FOUND) {
            log_event(LOG_WARN, "queue.no_group", LOG_S("error", err.message));
            prepare_queue(worker);
        } else {
            dependencies_queue_failed(worker, &err);
        }
    } else if (done) {
        dependencies_queue_works(worker);
        if (queue_reader_fault(worker->reader) != NULL) {
            dependencies_queue_refused(worker, queue_reader_fault(worker->reader));
        }
    }
    worker->held_in_turn = true;
}

/* Takes over the entries of workers that died. */
static void take_over(struct worker *worker, int64_t now_ms)
{
    struct error err = ERROR_INIT;
    if (now_ms < worker->next_autoclaim_ms || !may_read(worker) || !worker->queue_up) {
        return;
    }
    int64_t every_ms = worker->config->min_idle_ms / 4;
    worker->next_autoclaim_ms =
        now_ms + (every_ms < AUTOCLAIM_MAX_MS ? every_ms : AUTOCLAIM_MAX_MS);
    int room = read_room(worker);
    if (room <= 0) {
        return;
    }
    worker->held_in_turn = false;
    if (queue_autoclaim(worker->queue, worker->identity, worker->config->min_idle_ms, worker->held,
                        (size_t)room, &worker->held_count, &err) == 0) {
        if (worker->held_count > 0) {
            log_event(LOG_INFO, "entries.taken_over", LOG_I("count", (int64_t)worker->held_count));
        }
    } else if (err.code == ERR_NOT_FOUND) {
        prepare_queue(worker);
    } else {
        dependencies_queue_failed(worker, &err);
    }
}

/* Reads the due jobs from PostgreSQL while Redis is away or refuses writes. */
static void poll_due(struct worker *worker, int64_t now_ms)
{
    bool degraded = dependencies_queue_is_degraded(worker, now_ms);
    bool away = !worker->queue_up && now_ms - worker->queue_down_since_ms >= QUEUE_POLL_AFTER_MS;
    if ((!away && !degraded) || now_ms < worker->next_due_ms || !may_take(worker)) {
        return;
    }
    worker->next_due_ms = now_ms + (away ? DUE_POLL_MS : DEGRADED_POLL_MS);
    reconcile_poll(worker);
    int room = read_room(worker);
    if (room <= 0) {
        return;
    }
    char(*ids)[UUID_BYTES] = NULL;
    size_t count = 0;
    struct error err = ERROR_INIT;
    if (store_jobs_due(worker->store, room, &ids, &count, &err) != 0) {
        dependencies_store_failed(worker, &err);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        struct queue_entry *entry = &worker->held[i];
        memset(entry, 0, sizeof(*entry));
        str_copy(entry->wakeup.job_id, sizeof(entry->wakeup.job_id), ids[i]);
    }
    worker->held_count = count;
    worker->held_in_turn = false;
    if (count == (size_t)room) {
        worker->next_due_ms = now_ms; /* there may be more */
    }
    free(ids);
}

/* ---- timers ------------------------------------------------------------------------------- */

static void heartbeat(struct worker *worker, int64_t now_ms)
{
    struct error err = ERROR_INIT;
    if (now_ms < worker->next_heartbeat_ms ||
        (!worker->queue_up && now_ms < worker->queue_retry_ms)) {
        return;
    }
    worker->next_heartbeat_ms = now_ms + worker->config->heartbeat_ms;
    char *info = heartbeat_json(worker);
    if (queue_heartbeat(worker->queue, worker->identity, 3 * worker->config->heartbeat_ms, info,
                        &err) != 0) {
        if (err.code != ERR_LIMIT) {
            worker->next_heartbeat_ms = now_ms; /* as soon as Redis is back */
        }
        dependencies_queue_failed(worker, &err);
    } else {
        dependencies_queue_works(worker);
    }
    free(info);
}

static void wake_waiting(struct worker *worker, int64_t now_ms)
{
    for (int i = 0; i < worker->inflight.capacity; i++) {
        struct flight *flight = &worker->inflight.flights[i];
        if (flight->phase == FLIGHT_WAITING && now_ms >= flight->not_before_ms) {
            if (flight->gate != NULL) {
                call_resume(flight);
            } else if (flight->kind == FLIGHT_SWEEP) {
                reconcile_rows(flight);
            } else {
                kill_begin(flight);
            }
        }
    }
}

static int64_t sooner(int64_t timeout_ms, int64_t at_ms, int64_t now_ms)
{
    int64_t left_ms = at_ms > now_ms ? at_ms - now_ms : 0;
    return left_ms < timeout_ms ? left_ms : timeout_ms;
}

static int64_t turn_timeout_ms(const struct worker *worker, int64_t now_ms)
{
    int64_t timeout_ms = TURN_MAX_MS;
    timeout_ms = sooner(
        timeout_ms, worker->queue_up ? worker->next_heartbeat_ms : worker->queue_retry_ms, now_ms);
    timeout_ms = sooner(timeout_ms,
                        worker->store_up ? worker->next_beat_ms : worker->store_retry_ms, now_ms);
    if (worker->store_up && worker->held_count > 0 && inflight_room(&worker->inflight) > 0) {
        timeout_ms = 0;
    }
    if (worker->queue_refused_ms != 0) {
        timeout_ms = sooner(timeout_ms, worker->next_due_ms, now_ms);
    }
    if (worker->drain_end_ms != 0) {
        timeout_ms = sooner(timeout_ms, worker->drain_end_ms, now_ms);
    } else if (worker->store_up && !queue_reader_parked(worker->reader)) {
        /* a closed gate opens when its time is over */
        timeout_ms = timeout_ms < 50 ? timeout_ms : 50;
    }
    for (int i = 0; i < worker->inflight.capacity; i++) {
        if (worker->inflight.flights[i].phase == FLIGHT_WAITING) {
            timeout_ms = sooner(timeout_ms, worker->inflight.flights[i].not_before_ms, now_ms);
        }
    }
    /* no busy loop while Redis is away */
    return !worker->queue_up && timeout_ms < 10 ? 10 : timeout_ms;
}

/* ---- drain -------------------------------------------------------------------------------- */

static void drain_begin(struct worker *worker)
{
    worker->drain_end_ms = clock_mono_ms() + worker->config->drain_ms;
    log_event(LOG_INFO, "worker.draining", LOG_I("in_flight", worker->inflight.used),
              LOG_I("limit_ms", worker->config->drain_ms));
    take_entries(worker);
    queue_reader_free(worker->reader);
    worker->reader = NULL;
    give_back_held(worker);
}

/* The drain time is over: gives back what is still in flight. */
static void drain_end(struct worker *worker)
{
    http_multi_free(worker->http);
    worker->http = NULL;
    for (int i = 0; i < worker->inflight.capacity; i++) {
        struct flight *flight = &worker->inflight.flights[i];
        if (flight->kind == FLIGHT_KILL && flight->phase != FLIGHT_FREE) {
            log_event(LOG_ERROR, "provider.copy_left",
                      LOG_S("provider_sandbox_id", flight->kill.provider_sandbox_id));
        } else if (flight->kind == FLIGHT_SWEEP && flight->phase != FLIGHT_FREE) {
            reconcile_abandon(flight);
        } else if (flight->phase == FLIGHT_CALLING || flight->phase == FLIGHT_WAITING) {
            end_released(flight, 0);
        }
    }
    worker->store_retry_ms = 0;
    settle_finished(worker);
    outgoing_send(worker);
}

static bool drained(const struct worker *worker)
{
    return worker->drain_end_ms != 0 &&
           (worker->inflight.used == inflight_count_kind(&worker->inflight, FLIGHT_SWEEP) ||
            clock_mono_ms() >= worker->drain_end_ms);
}

/* ---- the loop ----------------------------------------------------------------------------- */

static void turn(struct worker *worker)
{
    int64_t now_ms = clock_mono_ms();
    probe_store(worker);
    heartbeat_store(worker, clock_mono_ms());
    look_for_mark(worker, now_ms);
    heartbeat(worker, now_ms);
    gates_read_holds(worker, now_ms, HOLD_POLL_MS);
    if (worker->drain_end_ms == 0) {
        park_reader(worker);
    }

    bool ready[2] = {false, false};
    int fds[2] = {worker->signal_fd, -1};
    int fd_count = 1;
    if (worker->reader != NULL && queue_reader_parked(worker->reader)) {
        fds[fd_count++] = queue_reader_fd(worker->reader);
    }
    http_multi_run(worker->http, fds, fd_count, turn_timeout_ms(worker, clock_mono_ms()), ready);
    if (ready[0]) {
        service_read_signals(worker->signal_fd);
    }
    if (worker->drain_end_ms == 0 && service_draining()) {
        drain_begin(worker);
    }
    take_entries(worker);
    now_ms = clock_mono_ms();
    take_over(worker, now_ms);
    take_sweeps(worker);
    poll_due(worker, now_ms);
    wake_waiting(worker, now_ms);
    claim_held(worker);
    give_back_excess(worker);
    settle_finished(worker);
    /* send the next XREADGROUP before the acks, so that both round trips overlap */
    if (worker->drain_end_ms == 0) {
        park_reader(worker);
    }
    if (worker->queue_up || clock_mono_ms() >= worker->queue_retry_ms) {
        outgoing_send(worker);
    }
}

int worker_run(struct worker *worker, struct error *err)
{
    log_event(LOG_INFO, "worker.started", LOG_S("worker", worker->identity),
              LOG_S("providers", worker->config->providers), LOG_S("version", VERSION));
    while (!drained(worker) && worker->refusal.code == ERR_OK) {
        turn(worker);
    }
    drain_end(worker);
    struct error left = ERROR_INIT;
    if (store_process_end(worker->store, worker->identity, &left) != 0 ||
        (worker->refusal.code == ERR_OK &&
         queue_heartbeat_remove(worker->queue, worker->identity, &left) != 0)) {
        log_error(LOG_WARN, "worker.heartbeat_left", &left); /* it expires by itself */
    }
    log_event(LOG_INFO, "worker.stopped", LOG_I("left_in_flight", worker->inflight.used),
              LOG_I("done", worker->counters.done));
    *err = worker->refusal;
    return worker->refusal.code == ERR_OK ? 0 : -1;
}

/* ---- life --------------------------------------------------------------------------------- */

int worker_init(struct worker *worker, const struct worker_config *config, int signal_fd,
                struct error *err)
{
    memset(worker, 0, sizeof(*worker));
    worker->config = config;
    worker->signal_fd = signal_fd;
    worker->started_wall_ms = clock_wall_ms();
    service_identity(worker->identity);
    worker->policy = (struct retry_policy){
        .base_ms = config->retry_base_ms,
        .cap_ms = config->retry_cap_ms,
        .capacity_base_ms = config->capacity_base_ms,
        .auth_hold_ms = config->auth_hold_ms,
        .max_crashes = (int)config->max_crashes,
    };
    worker->absence = (struct absence_policy){.absent_ms = config->absent_ms,
                                              .unproven_ms = config->absent_unproven_ms};
    worker->gate_policy = (struct gate_policy){
        .failures = (int)config->breaker_failures,
        .window_ms = config->breaker_window_ms,
        .open_ms = config->breaker_open_ms,
        .key_open_ms = config->auth_hold_ms,
        .retry_percent = config->retry_budget_percent,
        .retry_per_s = config->retry_budget_per_s,
    };
    worker->providers = provider_set_open(config->providers, err);
    if (worker->providers == NULL) {
        return -1;
    }
    gates_init(worker);
    struct store_options database = store_config_options(config->database_url, "sandbox-worker", 1);
    worker->store = store_new(&database);
    struct queue_options redis = queue_config_options(&config->redis, &worker->owner);
    worker->queue = queue_new(&redis);
    worker->reader = queue_reader_new(&redis, worker->identity, DEPENDENCIES_READER_BLOCK_MS);
    worker->http = http_multi_new((int)config->max_in_flight);
    inflight_init(&worker->inflight, (int)config->max_in_flight);
    worker->held = xcalloc(held_max(config), sizeof(*worker->held));
    worker->queue_up = true;
    worker->store_up = false; /* the first turn asks */
    return 0;
}

void worker_done(struct worker *worker)
{
    http_multi_free(worker->http);
    if (worker->inflight.flights != NULL) {
        inflight_done(&worker->inflight);
    }
    outgoing_free(worker);
    free(worker->held);
    queue_reader_free(worker->reader);
    queue_free(worker->queue);
    store_free(worker->store);
    provider_set_close(worker->providers);
    memset(worker, 0, sizeof(*worker));
}
