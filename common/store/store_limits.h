/*
 * store_limits - per-user limits, and what a user has of what they limit.
 *
 * Threads and failure: as store.h. An owner is the subject of tokens; of our own users their id.
 */
#ifndef STORE_STORE_LIMITS_H
#define STORE_STORE_LIMITS_H

#include "common/domain/limits.h"
#include "common/store/store.h"

/* Value of each limit; STORE_LIMIT_DEFAULT = the owner has none of its own, 0 = no limit. */
#define STORE_LIMIT_DEFAULT INT64_C(-1)
int store_limits_get(struct store *store, const char *owner, int64_t ret[USER_LIMIT_COUNT],
                     struct error *err) MUST_CHECK;
/* STORE_LIMIT_DEFAULT removes the owner's own value. */
int store_limit_set(struct store *store, const char *owner, enum user_limit limit, int64_t value,
                    struct error *err) MUST_CHECK;

struct store_owner_limit {
    char owner[OWNER_BYTES];
    int64_t value;
};
/* Every owner's own value of one limit, in the order of strcmp(). *ret is a heap array. */
int store_limit_owners(struct store *store, enum user_limit limit, struct store_owner_limit **ret,
                       size_t *ret_count, struct error *err) MUST_CHECK;

/* The owner's usage that counts against the first three limits. */
struct store_use {
    int64_t alive, paused, created_within_minute;
};
int store_use_get(struct store *store, const char *owner, struct store_use *ret,
                  struct error *err) MUST_CHECK;

/*
 * The line of an owner's creates that wait for room, first in, first out. `waiter` is the request's
 * Idempotency-Key or its job: with the key, a request that is repeated at another gateway has its
 * place again. Wait is called at least once a second; who is silent for 10 s holds nobody up.
 */
int store_create_line_wait(struct store *store, const char *owner, const char *waiter,
                           struct error *err) MUST_CHECK;
/* Keeps the waiter's place alive, if it has one; does not make one. */
int store_create_line_keep(struct store *store, const char *owner, const char *waiter,
                           struct error *err) MUST_CHECK;
int store_create_line_leave(struct store *store, const char *owner, const char *waiter,
                            struct error *err) MUST_CHECK;

#endif
