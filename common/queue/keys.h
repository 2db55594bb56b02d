/*
 * keys - every Redis key, group and entry field, once.
 *
 * Streams of work are never trimmed: trimming deletes unread entries silently.
 */
#ifndef QUEUE_KEYS_H
#define QUEUE_KEYS_H

#define QUEUE_KEY_JOBS_PREFIX   "sandbox:jobs:"     /* + op: stream of wake-ups */
#define QUEUE_KEY_DEAD          "sandbox:jobs:dead" /* stream of dead letters */
#define QUEUE_KEY_REPLY_PREFIX  "sandbox:reply:"    /* + gateway: stream of finished job ids */
#define QUEUE_KEY_HOLD_PREFIX   "sandbox:hold:"     /* + provider: exists while calls are on hold */
#define QUEUE_KEY_WORKER_PREFIX "sandbox:workers:"  /* + consumer: heartbeat with TTL */
#define QUEUE_KEY_REAPER_PREFIX "sandbox:reapers:"  /* + name: heartbeat with TTL */
#define QUEUE_KEY_MARK          "sandbox:mark"      /* absent = Redis was wiped */
#define QUEUE_GROUP             "lifecycle-workers"

#define QUEUE_REPLY_MAXLEN   "10000"
#define QUEUE_REPLY_EXPIRE_S "3600"

/* Fields of a work entry, in this order. */
#define QUEUE_FIELD_JOB      "job_id"
#define QUEUE_FIELD_OP       "op"
#define QUEUE_FIELD_SANDBOX  "sandbox_id"
#define QUEUE_FIELD_ATTEMPT  "attempt"
#define QUEUE_FIELD_REQUEST  "request_id"
#define QUEUE_FIELD_ENQUEUED "enqueued_at"
#define QUEUE_FIELD_REPLY    "reply_to"
#define QUEUE_FIELD_TRACE    "traceparent"
/* Beside job_id: of a reply, and of a dead letter. */
#define QUEUE_FIELD_STATE "state"
#define QUEUE_FIELD_ERROR "error"

#endif
