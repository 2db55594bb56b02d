/*
 * key_owner - the deployment that owns the Redis keys, which PostgreSQL knows.
 *
 * Threads: any. Failure: none; while PostgreSQL is away the owner may be unknown.
 */
#ifndef GATEWAY_KEY_OWNER_H
#define GATEWAY_KEY_OWNER_H

#include <stdbool.h>

#include "common/queue/queue.h"
#include "common/store/store.h"

/* True when the owner is known. Else reads the deployment's id from PostgreSQL and sets the owner,
 * which all Redis connections share. */
bool key_owner_known(struct queue_owner *owner, struct store *store);

#endif
