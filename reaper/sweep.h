/*
 * sweep - everything the reaper decides, due work first.
 *
 * Owns: deadlines -> pause/delete jobs, lost wake-ups, dead letters, provider lifetimes, when a
 * provider is compared with the database, dead consumers, heartbeat, statistics. Does not own: any
 * provider; the reaper only decides, workers act. Threads: one. Several reapers may run side by
 * side: each statement skips rows another holds. Failure: PostgreSQL or Redis away is logged once
 * and tried again; nothing is lost, since a wake-up that could not be sent is found missing later.
 */
#ifndef REAPER_SWEEP_H
#define REAPER_SWEEP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/service.h"
#include "common/queue/queue.h"
#include "common/store/store.h"
#include "reaper/config.h"

struct sweep {
    const struct reaper_config *config;
    struct store *store;
    struct queue *queue;
    char identity[SERVICE_NAME_BYTES];
    bool store_up, queue_up;
    struct queue_owner owner; /* of the Redis keys: this database's deployment id */
    bool keys_ours; /* the mark was ours once; a foreign mark then no longer ends the reaper */
    struct error refusal;                   /* why this reaper must not run; ERR_OK = it may */
    int64_t store_retry_ms, queue_retry_ms; /* monotonic, as are all below */
    int64_t next_deadlines_ms, next_outbox_ms, next_lifetimes_ms, next_prune_ms, next_reconcile_ms;
    int64_t next_stats_ms, next_heartbeat_ms, next_beat_ms, next_dead_look_ms;
    int64_t queue_refused_ms; /* when Redis, though up, last refused a command; 0 = it works */
    bool prune_goes_on;       /* the last batch was full */
    bool refill;              /* Redis was wiped and not every job is back on its stream */
    int64_t started_wall_ms;
    int64_t deadlines, lifetimes, wakeups, refills; /* counted since the start */
};

void sweep_init(struct sweep *sweep, const struct reaper_config *config);
/* Does what is due. Returns ms until there is something to do again (0 = at once). */
int64_t sweep_run(struct sweep *sweep);
void sweep_done(struct sweep *sweep); /* also takes the heartbeat away */

#endif
