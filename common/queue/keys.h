/*
 * keys - every Redis key, group and entry field, once. Each key begins with REDIS_PREFIX.
 *
 * Streams of work are never trimmed: trimming deletes unread entries silently.
 */
#ifndef QUEUE_KEYS_H
#define QUEUE_KEYS_H

#define QUEUE_PREFIX_DEFAULT "sandbox:"
#define QUEUE_KEY_JOBS       "jobs:"     /* + op: stream of wake-ups */
#define QUEUE_KEY_DEAD       "jobs:dead" /* stream of dead letters */
#define QUEUE_KEY_REPLY      "reply:"    /* + gateway: stream of finished job ids */
#define QUEUE_KEY_HOLD       "hold:"     /* + provider: exists while calls are on hold */
#define QUEUE_KEY_WORKER     "workers:"  /* + consumer: heartbeat with TTL */
#define QUEUE_KEY_REAPER     "reapers:"  /* + name: heartbeat with TTL */
#define QUEUE_KEY_RATE       "rate:"     /* + hash of a user: bucket of calls, with TTL */
#define QUEUE_KEY_MARK       "mark"      /* id of the owning deployment; absent = Redis was wiped */
#define QUEUE_GROUP          "lifecycle-workers"

/* Longest key: the prefix, a name from above, and what follows it. */
enum { QUEUE_PREFIX_BYTES = 65, QUEUE_KEY_BYTES = QUEUE_PREFIX_BYTES + 16 + 256 };

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
/* Further fields: a reply has a state, a dead letter has an error. */
#define QUEUE_FIELD_STATE "state"
#define QUEUE_FIELD_ERROR "error"

#endif
