/*
 * enqueuer - one thread that writes the wake-ups of all handlers to Redis, in batches.
 *
 * A handler never waits for Redis: the job is committed already, and a wake-up that cannot be
 * written is dropped, because the reaper adds it again within seconds. Safe from any thread.
 */
#ifndef GATEWAY_ENQUEUER_H
#define GATEWAY_ENQUEUER_H

#include "common/base/error.h"
#include "common/domain/types.h"
#include "common/queue/queue.h"

struct enqueuer;
struct enqueuer *enqueuer_start(const struct queue_options *redis, struct error *err) MUST_CHECK;
/* Writes what is left, then ends. */
void enqueuer_stop(struct enqueuer *enqueuer);
void enqueuer_add(struct enqueuer *enqueuer, const struct wakeup *wakeup);

#endif
