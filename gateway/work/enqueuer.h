/*
 * enqueuer - writes the wake-ups of all handlers to Redis in batches, in one thread.
 *
 * A handler never waits for Redis, because its job is already committed. Owns: the wake-ups that
 * are not written yet. Does not own: the jobs (PostgreSQL). Threads: any. Failure: a wake-up that
 * cannot be written is dropped; the reaper adds it again within seconds.
 */
#ifndef GATEWAY_ENQUEUER_H
#define GATEWAY_ENQUEUER_H

#include "common/base/error.h"
#include "common/domain/types.h"
#include "common/queue/queue.h"

struct enqueuer;
struct enqueuer *enqueuer_start(const struct queue_options *redis, struct error *err) MUST_CHECK;
/* Writes the remaining wake-ups, then stops the thread. NULL-safe. */
void enqueuer_stop(struct enqueuer *enqueuer);
void enqueuer_add(struct enqueuer *enqueuer, const struct wakeup *wakeup);

#endif
