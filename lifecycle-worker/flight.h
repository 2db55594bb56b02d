/*
 * flight - the record of one piece of work in flight: a job, a kill or a sweep.
 *
 * Owns: the fields of each kind and what hangs on them. Every kind makes one provider call at a
 * time, so the state of that call is common (call.c drives it). Does not own: what becomes of a
 * flight. Threads: the worker's one. Failure: none.
 */
#ifndef WORKER_FLIGHT_H
#define WORKER_FLIGHT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/domain/job_params.h"
#include "common/provider/provider.h"
#include "common/queue/queue.h"
#include "common/store/store.h"
#include "lifecycle-worker/compare.h"
#include "lifecycle-worker/gate.h"

/* The claim writes when a create goes out; the request itself follows within this time. */
enum { FLIGHT_CREATE_SENT_SLACK_MS = 1000 };

enum flight_phase {
    FLIGHT_FREE,
    FLIGHT_CALLING,  /* a request is out */
    FLIGHT_FINISHED, /* job.finish waits to be committed */
    FLIGHT_WAITING   /* until not_before_ms: for the provider to get on, or to try a kill again */
};
enum flight_kind { FLIGHT_JOB, FLIGHT_KILL, FLIGHT_SWEEP };

/* A claimed job, until its outcome is committed or its lease is lost. */
struct flight_job {
    struct store_claimed claimed; /* owned */
    struct job_params params;     /* owned */
    int64_t lease_end_ms;         /* monotonic, with the safety margin taken off */
    struct queue_entry entry;     /* the wake-up that brought the job */
    bool has_entry;
    struct store_finish finish;
    char *result_json; /* owned; finish.result_json points here */
};

/* The end of a sandbox at the provider that no row wants. */
struct flight_kill {
    char request_id[REQUEST_ID_BYTES], job_id[UUID_BYTES]; /* of the job that left it; "" = none */
    char sandbox_id[UUID_BYTES];
    char provider[PROVIDER_BYTES];
    char provider_sandbox_id[PROVIDER_ID_BYTES];
    int tries;
    bool orphan; /* found by a sweep, not left by a job of this worker */
};

/* The comparison of a provider's list with our rows. */
struct flight_sweep {
    char id[UUID_BYTES];
    char provider[PROVIDER_BYTES];
    struct compare compare;           /* owned */
    struct store_sweep_cursor cursor; /* through our rows */
};

struct flight;
struct worker;

/* A step has been taken and nothing has followed from it yet. False: the flight has ended. */
typedef bool (*flight_step_fn)(struct flight *flight, const struct provider_step *step);
/* The call has ended like this. `gate` is the gate it has just left; NULL = it had left before. */
typedef void (*flight_end_fn)(struct flight *flight, const struct provider_step *step,
                              struct gate *gate);
/* A request that must not be repeated is about to go out. False: it must not, and the flight has
 * been finished. */
typedef bool (*flight_once_fn)(struct flight *flight);

struct flight {
    enum flight_phase phase;
    enum flight_kind kind;
    struct worker *worker;
    int64_t claimed_at_ms; /* by the database's clock; 0 = not begun by a claim */
    int64_t began_ms;      /* monotonic */

    /* the provider call, driven by call.c; times are monotonic unless they say otherwise */
    flight_end_fn on_end;
    flight_step_fn on_step; /* NULL = none */
    flight_once_fn on_once; /* NULL = no such request is made */
    int gate_op;            /* GATE_OP_*, or the job's op: what the gate counts it as */
    struct gate *gate;      /* entered, or NULL */
    struct provider_call call;
    bool call_active;           /* call is initialised */
    struct provider_step ended; /* how the call ended, while a start command is on its way */
    struct http_request held;   /* sent when the provider's hold is over */
    bool has_held;              /* held is initialised */
    int64_t entered_ms;         /* the gate */
    int64_t request_began_ms;
    int64_t attempt_end_ms; /* no request begins or runs after it */
    int64_t not_before_ms;  /* FLIGHT_WAITING: the next step */
    int64_t create_sent_ms; /* when this attempt sent a create; 0 = not sent */
    int64_t sent_at_ms;     /* when the last request went out, by the database's clock */
    bool sent;              /* some request of this attempt went out */

    union {
        struct flight_job job;
        struct flight_kill kill;
        struct flight_sweep sweep;
    };
};

/* Frees what hangs on it and makes it FLIGHT_FREE. Its gate must have been left. */
void flight_free(struct flight *flight);
/* Ends the job's part and goes on as this kill. */
void flight_become_kill(struct flight *flight, const struct flight_kill *kill);
/* Log lines name the flight's request, job and sandbox until log_context_clear(). */
void flight_log_context(const struct flight *flight);

/* Fields of a FLIGHT_JOB. */
const struct job *flight_job(const struct flight *flight);
const struct sandbox *flight_sandbox(const struct flight *flight);
/* When an earlier attempt last may have sent a create, by the database's clock; 0 = none did. */
int64_t flight_create_sent_before_ms(const struct flight *flight);
/* The time by the database's clock that has passed since at_ms of the row. */
int64_t flight_since_ms(const struct flight *flight, int64_t at_ms);

#endif
