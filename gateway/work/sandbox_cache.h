/*
 * sandbox_cache - rows of sandboxes for a moment, so that traffic does not ask for one per request.
 *
 * A row is at most SANDBOX_CACHE_MS old; sandbox_cache_drop() makes a change that this gateway has
 * waited for visible at once. Owns: copies without metadata. Does not own: who may see a row.
 * Threads: any. Failure: the store's errors.
 */
#ifndef GATEWAY_SANDBOX_CACHE_H
#define GATEWAY_SANDBOX_CACHE_H

#include "common/store/store.h"

enum { SANDBOX_CACHE_MS = 200 };

struct sandbox_cache;
struct sandbox_cache *sandbox_cache_new(struct store *store);
void sandbox_cache_free(struct sandbox_cache *cache); /* NULL-safe */
/* Of any owner. ERR_SANDBOX_NOT_FOUND also for a deleted one. */
int sandbox_cache_get(struct sandbox_cache *cache, const char *sandbox_id, struct sandbox *ret,
                      struct error *err) MUST_CHECK;
void sandbox_cache_drop(struct sandbox_cache *cache, const char *sandbox_id);
/* The first of the SANDBOX_CACHE_NEWEST newest sandboxes for which `matches` says yes. The ids are
 * read once a second at most, and one caller looks at a time: a request that names no sandbox may
 * come from a stranger. ERR_SANDBOX_NOT_FOUND. */
enum { SANDBOX_CACHE_NEWEST = 2000 };
int sandbox_cache_find(struct sandbox_cache *cache,
                       bool (*matches)(void *arg, const char *sandbox_id), void *arg,
                       char ret_id[UUID_BYTES], struct error *err) MUST_CHECK;

#endif
