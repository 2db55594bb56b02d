/*
 * worker - claims jobs, drives provider calls, writes how they ended: one thread, one wait.
 *
 * Owns: the loop and everything it touches. worker.c reads and waits, apply.c decides what a job
 * and a provider's answer mean, drive.c makes the calls, settle.c commits and tells.
 * Threads: one. Failure: PostgreSQL, Redis or a provider away stop what needs them and nothing
 * else; finished outcomes are kept until their lease ends.
 */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/service.h"
#include "common/domain/absence.h"
#include "common/domain/providers.h"
#include "common/domain/retry.h"
#include "common/provider/http.h"
#include "common/queue/queue.h"
#include "common/store/store.h"
#include "lifecycle-worker/config.h"
#include "lifecycle-worker/gate.h"
#include "lifecycle-worker/inflight.h"

struct worker_counters {
    int64_t claimed, done, failed, retried, dead, superseded, released;
    int64_t fenced, lease_lost, copies_killed, requests, took_over;
};

/* Told to Redis in one pipeline after each commit; kept while Redis is away. */
struct worker_outgoing {
    struct queue_entry *acks;
    struct queue_reply *replies;
    struct wakeup *wakeups;
    size_t ack_count, reply_count, wakeup_count;
    size_t ack_capacity, reply_capacity, wakeup_capacity;
};

/* The database's clock, as its answers tell it. */
struct database_clock {
    int64_t ahead_ms; /* of our monotonic clock */
    int64_t error_ms; /* half the round trip it was read in */
    int64_t read_ms;  /* monotonic; 0 = never */
};

struct worker {
    const struct worker_config *config;
    struct store *store;
    struct queue *queue;
    struct queue_reader *reader; /* NULL once draining */
    struct provider_set *providers;
    struct http_multi *http;
    int signal_fd;
    char identity[SERVICE_NAME_BYTES];
    char deployment_id[UUID_BYTES]; /* "" until PostgreSQL told it */
    struct queue_owner owner;       /* of the Redis keys: the same id */
    bool keys_ours;                 /* seen once: another's mark is then no reason to end */
    struct error refusal;           /* why this worker must not run; ERR_OK = it may */
    struct retry_policy policy;
    struct absence_policy absence;
    struct gate_policy gate_policy;
    struct gate gates[PROVIDER_KIND_COUNT];
    int gate_count;
    struct inflight inflight;
    struct queue_entry *held; /* read, not yet claimed */
    size_t held_count;
    bool held_in_turn; /* they came from the streams: creates and resumes among them take turns */
    struct worker_outgoing outgoing;
    struct worker_counters counters;
    int64_t started_wall_ms;

    bool store_up;
    int64_t store_retry_ms; /* monotonic, as are all below; next try while it is down */
    bool queue_up;
    int64_t queue_down_since_ms;
    int64_t queue_refused_ms; /* monotonic; Redis is up and last refused something; 0 = works */
    int64_t queue_retry_ms;
    int64_t next_heartbeat_ms, next_autoclaim_ms, holds_read_ms, next_due_ms;
    int64_t next_beat_ms; /* heartbeat in PostgreSQL */
    int64_t next_mark_ms; /* look whose keys they are */
    int64_t read_retry_ms;
    struct database_clock clock;
    int64_t drain_end_ms; /* 0 = not draining */
};

/* Builds the worker; `config` must outlive it. ERR_CONFIG names what is wrong. */
int worker_init(struct worker *worker, const struct worker_config *config, int signal_fd,
                struct error *err) MUST_CHECK;
/* Runs until drained; -1: the Redis keys are another deployment's. */
int worker_run(struct worker *worker, struct error *err) MUST_CHECK;
void worker_done(struct worker *worker); /* also of a half-built one */

/* ---- dependencies.c ---- */

enum { STORE_RETRY_MS = 250, QUEUE_RETRY_MS = 250, READER_BLOCK_MS = 2000 };

/* Notes how a call to the store or the queue went; logs changes only. A refusal of a Redis that is
 * full, or of a key of another type, leaves the queue up: what it may have lost is asked of
 * PostgreSQL as well. */
void worker_note_store(struct worker *worker, const struct error *err /* NULL = good */);
void worker_note_queue(struct worker *worker, const struct error *err /* NULL = good */);
void worker_note_refusal(struct worker *worker, const char *why);
/* For as long after a refusal as another would have come if the reason were still there. */
bool worker_is_degraded(struct worker *worker, int64_t now_ms);
struct gate *worker_gate(struct worker *worker, const char *provider);

/* ---- heartbeat.c ---- */

/* What this worker says of itself in Redis, as JSON; the caller frees. */
char *heartbeat_json(const struct worker *worker);
/* The heartbeat in PostgreSQL, when it is due. Nothing is claimed before the first, nor after an
 * absence of PostgreSQL before the next: it says which leases ran out by a crash. */
void heartbeat_store(struct worker *worker, int64_t now_ms);
/* The time by the database's clock. Every stored time is compared with it, never with our own. */
int64_t worker_now_ms(const struct worker *worker);
/* The same, and no earlier than the claim: what had passed then has passed. */
int64_t flight_now_ms(const struct flight *flight);
/* The database's clock showed database_ms in an answer to a question of sent_ms (monotonic). */
void worker_note_time(struct worker *worker, int64_t database_ms, int64_t sent_ms);

/* ---- apply.c, drive.c ---- */

/* Decides a freshly claimed job: begins its provider call or finishes it. */
void apply_begin(struct worker *worker, struct flight *flight);
/* Gives the job back, to be tried again after delay_ms, without spending an attempt. */
void apply_release(struct worker *worker, struct flight *flight, int64_t delay_ms);
/* Begins (or begins again) the killing of flight->kill_id. */
void apply_kill(struct worker *worker, struct flight *flight);
/* The wait of a FLIGHT_WAITING is over. */
void apply_wake(struct worker *worker, struct flight *flight);

/* ---- reconcile.c ---- */

/* True when the entry asks for a sweep: it is begun or passed over, and acknowledged. */
bool reconcile_take(struct worker *worker, const struct queue_entry *entry);
/* Takes the sweeps that PostgreSQL knows of, when Redis may not tell of them. */
void reconcile_poll(struct worker *worker);
/* A step of the sweep's list, not yet taken: compares the page that came with it. False: the sweep
 * and its flight have ended, because the database does not answer or the lease has run out. */
bool reconcile_page(struct worker *worker, struct flight *flight, const struct provider_step *step);
/* The next of our rows, after the list; behind the last, acts, and ends the sweep and the flight.
 */
void reconcile_rows(struct worker *worker, struct flight *flight);
/* The sweep's list has come to its end, or broke off: goes on to our rows, or ends the sweep. */
void reconcile_listed(struct worker *worker, struct flight *flight,
                      const struct provider_step *step);
/* The orphan of a FLIGHT_KILL is gone. */
void reconcile_killed(struct worker *worker, const struct flight *flight);
/* Sweeps under way: a drain does not wait for them. */
int reconcile_count(const struct worker *worker);
/* A fenced job's request may have come late and undone what came after it: its sandbox is asked for
 * at once, and not only when a sweep has seen the difference twice. */
void reconcile_late_call(struct worker *worker, const struct flight *flight);
/* The worker stops in the middle of the sweep. */
void reconcile_abandon(struct worker *worker, struct flight *flight);

/* ---- settle.c ---- */

/* Commits every finished flight, then tells Redis. */
void settle_finished(struct worker *worker);
/* Sends what has gathered in worker->outgoing. */
void settle_send(struct worker *worker);
void settle_ack(struct worker *worker, const struct queue_entry *entry);
void settle_wake(struct worker *worker, const struct wakeup *wakeup);
void settle_done(struct worker *worker);

#endif
