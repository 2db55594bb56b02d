/*
 * inflight - the fixed table of jobs this worker holds.
 *
 * Owns: the slots and what hangs on them. A full table is the worker's back-pressure: it stops
 * reading. Does not own: what happens to a flight (apply, settle). Threads: the worker's one.
 */
#ifndef WORKER_INFLIGHT_H
#define WORKER_INFLIGHT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/domain/job_params.h"
#include "common/provider/provider.h"
#include "common/queue/queue.h"
#include "common/store/store.h"
#include "lifecycle-worker/compare.h"
#include "lifecycle-worker/gate.h"

enum flight_phase {
    FLIGHT_FREE,
    FLIGHT_CALLING,  /* a request is out */
    FLIGHT_FINISHED, /* `finish` waits to be committed */
    FLIGHT_WAITING   /* until not_before_ms: for the provider to get on, or to kill a copy again */
};
enum flight_kind {
    FLIGHT_JOB,
    FLIGHT_KILL, /* a sandbox we made and nobody's row names; the job is somebody else's now */
    FLIGHT_SWEEP /* the list of a provider's sandboxes; claimed.job.id is the sweep's */
};

struct worker;

struct flight {
    enum flight_phase phase;
    enum flight_kind kind;
    struct worker *worker;
    struct store_claimed claimed; /* owned */
    struct job_params params;     /* owned */
    struct gate *gate;            /* entered, or NULL */
    struct provider_call call;
    bool call_active;           /* call is initialised */
    struct provider_step ended; /* how the call ended, while a start command is on its way */
    struct http_request held;   /* to be sent when the provider's hold is over */
    bool has_held;              /* held is initialised */
    int64_t entered_ms;         /* the gate */
    int64_t request_began_ms;
    bool sent;              /* some request of this attempt went out */
    int64_t began_ms;       /* monotonic, as are the following */
    int64_t create_sent_ms; /* when this attempt sent a create; 0 = not */
    int64_t lease_end_ms;   /* with the safety margin taken off */
    int64_t attempt_end_ms; /* no request is begun or runs after it */
    int64_t sent_at_ms;     /* when the last request went out, by the database's clock */
    struct queue_entry entry;
    bool has_entry;
    struct store_finish finish;
    char *result_json; /* owned; finish.result_json points here */
    char kill_id[PROVIDER_ID_BYTES];
    int kill_tries;
    bool kill_orphan; /* found by a sweep, not left by a job of ours */
    int64_t not_before_ms;
    struct compare compare;           /* of a sweep */
    struct store_sweep_cursor cursor; /* of a sweep, through our rows */
};

struct inflight {
    struct flight *flights;
    int capacity;
    int used;
};

void inflight_init(struct inflight *table, int capacity);
void inflight_done(struct inflight *table);
int inflight_room(const struct inflight *table);
/* A zeroed free slot; only while there is room. */
struct flight *inflight_take(struct inflight *table, struct worker *worker);
/* Frees what hangs on it; NULL-safe. Its gate must have been left. */
void inflight_release(struct inflight *table, struct flight *flight);
/* The flight that works on this job, or NULL. */
struct flight *inflight_find(const struct inflight *table, const char *job_id);
/* Flights in a phase. */
int inflight_count(const struct inflight *table, enum flight_phase phase);

#endif
