/*
 * outgoing - acks, replies and wake-ups that go to Redis after the next commit.
 *
 * Owns: the three lists. They are bounded; what does not fit while Redis is away is dropped, and
 * polling, takeover and the reaper repair it. Threads: the worker's one.
 */
#ifndef WORKER_OUTGOING_H
#define WORKER_OUTGOING_H

#include "lifecycle-worker/worker_state.h"

/* Acknowledges and deletes the entry; no effect for one without an id. */
void outgoing_ack(struct worker *worker, const struct queue_entry *entry);
/* Adds a wake-up to its stream. */
void outgoing_wake(struct worker *worker, const struct wakeup *wakeup);
/* The job has ended in `state`: tells the gateway that waits for it, if one does. */
void outgoing_reply(struct worker *worker, const struct job *job, enum job_state state);
/* Sends the lists in one pipeline; they stay when Redis does not answer. */
void outgoing_send(struct worker *worker);
void outgoing_free(struct worker *worker);

#endif
