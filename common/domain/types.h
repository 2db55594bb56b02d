/*
 * types - sandboxes and jobs as every program sees them, and the names of their enums.
 *
 * Owns: the enums (generated from the .def lists), struct sandbox, struct job, struct wakeup.
 * Pure data: no I/O, no clock. Times are wall-clock milliseconds, 0 = not set. Strings in fixed
 * arrays are NUL-terminated; *_json members are heap strings owned by the struct (or NULL).
 */
#ifndef DOMAIN_TYPES_H
#define DOMAIN_TYPES_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/id.h"

enum sandbox_status {
#define X(code, name, terminal) code,
#include "common/domain/states.def"
#undef X
    SANDBOX_STATUS_COUNT
};
enum job_op {
#define X(code, name) code,
#include "common/domain/ops.def"
#undef X
    JOB_OP_COUNT
};
enum job_state {
#define X(code, name, terminal) code,
#include "common/domain/job_states.def"
#undef X
    JOB_STATE_COUNT
};
enum outcome {
#define X(code, name) code,
#include "common/domain/outcomes.def"
#undef X
    OUTCOME_COUNT
};

/* Enum <-> wire name. The parsers return -1 for an unknown name. */
const char *sandbox_status_name(enum sandbox_status status);
int sandbox_status_parse(const char *name, enum sandbox_status *ret);
const char *job_op_name(enum job_op op);
int job_op_parse(const char *name, enum job_op *ret);
const char *job_state_name(enum job_state state);
int job_state_parse(const char *name, enum job_state *ret);
bool job_state_is_terminal(enum job_state state);
const char *outcome_name(enum outcome outcome);

/* What happens at the deadline. */
enum on_timeout { ON_TIMEOUT_PAUSE, ON_TIMEOUT_DELETE };
/* IDLE: activity moves expires_at. ABSOLUTE: only schedule-timeout does. */
enum timeout_mode { TIMEOUT_IDLE, TIMEOUT_ABSOLUTE };
const char *on_timeout_name(enum on_timeout value); /* "pause" | "delete" */
int on_timeout_parse(const char *name, enum on_timeout *ret);

enum {
    OWNER_BYTES = 256,
    LABEL_BYTES = 256,
    PROVIDER_BYTES = 32,
    PROVIDER_ID_BYTES = 128,
    TEMPLATE_BYTES = 128,
    DOMAIN_BYTES = 256,
    SECRET_BYTES = 512,
    AGENT_VERSION_BYTES = 32,
    REASON_BYTES = 256,
    GATEWAY_NAME_BYTES = 128,
    REQUEST_ID_BYTES = 64,
    TRACEPARENT_BYTES = 64,
};

struct sandbox {
    char id[UUID_BYTES];
    char owner[OWNER_BYTES];   /* JWT sub */
    char user_id[LABEL_BYTES]; /* the caller's own label */
    char provider[PROVIDER_BYTES];
    char provider_sandbox_id[PROVIDER_ID_BYTES]; /* "" until created */
    char template_id[TEMPLATE_BYTES];
    char domain[DOMAIN_BYTES];        /* the provider's override for port host names, or "" */
    char access_token[SECRET_BYTES];  /* data plane; secret, never returned or logged */
    char traffic_token[SECRET_BYTES]; /* user ports; secret */
    enum sandbox_status status;
    char status_reason[REASON_BYTES];
    int64_t version;
    enum timeout_mode timeout_mode;
    enum on_timeout on_timeout;
    int64_t timeout_ms; /* idle length, or the absolute one last asked for */
    int64_t expires_at_ms;
    int64_t provider_expires_at_ms;
    int64_t create_sent_at_ms; /* a create may have reached the provider at this time */
    int64_t created_at_ms, started_at_ms, stopped_at_ms, deleted_at_ms, last_activity_at_ms;
    int64_t missing_since_ms; /* the provider does not know it at the moment; 0 = it does */
    int64_t read_at_ms;       /* when the row was read, by the clock of its times: the database's */
    int64_t delete_at_ms;     /* deleted then, unless a resume comes first; 0 = never */
    int64_t paused_ttl_ms, max_life_ms;      /* for its create only; 0 = no end */
    char *metadata_json;                     /* object of strings, or NULL */
    char provider_reason[REASON_BYTES];      /* why it is not at the first choice; "" = it is */
    char agent_version[AGENT_VERSION_BYTES]; /* of the provider's agent inside, or "" = not told */
};

struct job {
    char id[UUID_BYTES];
    char sandbox_id[UUID_BYTES];
    int64_t seq;
    enum job_op op;
    enum job_state state;
    int attempt; /* attempts started, this one included once claimed */
    int max_attempts;
    int crashes; /* leases that ran out in a row */
    int64_t lease_token;
    int64_t lease_until_ms;
    int64_t run_at_ms;
    int64_t deadline_ms; /* after this an unstarted job fails instead of running; 0 = none */
    int64_t created_at_ms;
    char reply_to[GATEWAY_NAME_BYTES]; /* gateway waiting for the result, or "" */
    char request_id[REQUEST_ID_BYTES];
    char traceparent[TRACEPARENT_BYTES];
    char origin[16];          /* client | deadline | lifetime | reconcile | operator */
    char *params_json;        /* op's arguments: see job_params */
    char *result_json;        /* what the waiter answers with, once terminal */
    enum outcome outcome;     /* class of the last failure */
    char error[256];          /* its text, secret-free */
    int provider_http_status; /* of the last failure, 0 = none */
};

/* A stream entry: a pointer to a job, nothing secret, nothing that decides. */
struct wakeup {
    char job_id[UUID_BYTES];
    char sandbox_id[UUID_BYTES];
    enum job_op op;
    int attempt;
    int64_t enqueued_at_ms;
    char reply_to[GATEWAY_NAME_BYTES];
    char request_id[REQUEST_ID_BYTES];
    char traceparent[TRACEPARENT_BYTES];
};

void sandbox_done(struct sandbox *sandbox); /* frees heap members */
void job_done(struct job *job);

#endif
