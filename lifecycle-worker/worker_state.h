/*
 * worker_state - what the files of the worker share: its connections, tables and figures.
 *
 * A record without functions of its own; worker.c fills it. Threads: the worker's one.
 */
#ifndef WORKER_WORKER_STATE_H
#define WORKER_WORKER_STATE_H

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
#include "lifecycle-worker/database_clock.h"
#include "lifecycle-worker/gate.h"
#include "lifecycle-worker/inflight.h"

struct worker_counters {
#define WORKER_GAUGE(...)
#define WORKER_COUNTER(key, metric, help) int64_t key;
#define PROVIDER_GAUGE(...)
#define PROVIDER_COUNTER(...)
#include "common/domain/worker_figures.def"
#undef WORKER_GAUGE
#undef WORKER_COUNTER
#undef PROVIDER_GAUGE
#undef PROVIDER_COUNTER
};

/* Sent to Redis in one pipeline after each commit (outgoing.c); kept while Redis is away. */
struct worker_outgoing {
    struct queue_entry *acks;
    struct queue_reply *replies;
    struct wakeup *wakeups;
    size_t ack_count, reply_count, wakeup_count;
    size_t ack_capacity, reply_capacity, wakeup_capacity;
};

struct worker {
    const struct worker_config *config;
    struct store *store;
    struct queue *queue;
    struct queue_reader *reader; /* NULL once draining */
    struct provider_set *providers;
    struct http_multi *http; /* NULL once the drain has ended */
    int signal_fd;
    char identity[SERVICE_NAME_BYTES];
    char deployment_id[UUID_BYTES]; /* "" until PostgreSQL has answered */
    struct queue_owner owner;       /* of the Redis keys: the same id */
    bool keys_ours; /* the mark was ours once; a foreign mark then no longer ends the worker */
    struct error refusal; /* why this worker must not run; ERR_OK = it may */
    struct retry_policy policy;
    struct absence_policy absence;
    struct gate_policy gate_policy;
    struct gate gates[PROVIDER_KIND_COUNT];
    int gate_count;
    struct inflight inflight;
    struct queue_entry *held; /* read, not yet claimed */
    size_t held_count;
    bool held_in_turn; /* read from the streams: creates and resumes of several owners take turns */
    struct worker_outgoing outgoing;
    struct worker_counters counters;
    int64_t started_wall_ms;

    bool store_up;
    int64_t store_retry_ms; /* monotonic, as are all below; next try while it is down */
    bool queue_up;
    int64_t queue_down_since_ms;
    int64_t queue_refused_ms; /* Redis is up and last refused something; 0 = it refuses nothing */
    int64_t queue_retry_ms;
    int64_t next_heartbeat_ms, next_autoclaim_ms, holds_read_ms, next_due_ms;
    int64_t next_beat_ms; /* heartbeat in PostgreSQL */
    int64_t next_mark_ms; /* next check whose Redis keys these are */
    int64_t read_retry_ms;
    struct database_clock clock;
    int64_t drain_end_ms; /* 0 = not draining */
};

#endif
