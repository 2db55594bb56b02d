/*
 * readiness - whether this gateway can serve: PostgreSQL, Redis, at least one live worker.
 *
 * Owns: a Redis connection of its own, used by one caller at a time. Does not own: the form of the
 * answer (handlers_ops.c). Threads: any. Failure: what is wrong is in the texts that it returns.
 */
#ifndef GATEWAY_READINESS_H
#define GATEWAY_READINESS_H

#include <stdbool.h>

#include "common/base/error.h"
#include "common/queue/queue.h"
#include "common/store/store.h"

struct readiness;
struct readiness *readiness_new(const struct queue_options *redis, struct store *store);
void readiness_free(struct readiness *readiness); /* NULL-safe */

/* Each text is "ok", "degraded: ..." or the error. */
struct readiness_report {
    bool ready;
    char database[ERROR_MESSAGE_BYTES], redis[ERROR_MESSAGE_BYTES], workers[64];
};
/* Queries PostgreSQL and Redis now. */
void readiness_report(struct readiness *readiness, struct readiness_report *ret);
/* True when the Redis keys belong to another deployment; err names both. False also while Redis
 * does not answer. */
bool readiness_keys_are_foreign(struct readiness *readiness, struct error *err);

#endif
