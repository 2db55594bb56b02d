/* sandbox_cache - see sandbox_cache.h. */
#include "gateway/work/sandbox_cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/store/store_e2b.h"

enum { SLOTS = 1024, LOCKS = 64, NEWEST_MS = 1000 };

struct slot {
    int64_t read_ms; /* 0 = empty */
    struct sandbox sandbox;
};

struct sandbox_cache {
    struct store *store;
    pthread_mutex_t locks[LOCKS]; /* of the slots whose number has this remainder */
    struct slot slots[SLOTS];
    pthread_mutex_t newest_lock; /* of what follows */
    int64_t newest_read_ms;
    size_t newest_count;
    char newest[SANDBOX_CACHE_NEWEST][UUID_BYTES];
};

struct sandbox_cache *sandbox_cache_new(struct store *store)
{
    struct sandbox_cache *cache = xcalloc(1, sizeof(*cache));

    cache->store = store;
    pthread_mutex_init(&cache->newest_lock, NULL);
    for (int i = 0; i < LOCKS; i++) {
        pthread_mutex_init(&cache->locks[i], NULL);
    }
    return cache;
}

void sandbox_cache_free(struct sandbox_cache *cache)
{
    if (cache != NULL) {
        pthread_mutex_destroy(&cache->newest_lock);
        for (int i = 0; i < LOCKS; i++) {
            pthread_mutex_destroy(&cache->locks[i]);
        }
        free(cache);
    }
}

static size_t slot_of(const char *sandbox_id)
{
    return id_hash64(sandbox_id, strlen(sandbox_id)) % SLOTS;
}

int sandbox_cache_get(struct sandbox_cache *cache, const char *sandbox_id, struct sandbox *ret,
                      struct error *err)
{
    const size_t number = slot_of(sandbox_id);
    pthread_mutex_t *lock = &cache->locks[number % LOCKS];
    struct slot *slot = &cache->slots[number];
    const int64_t now_ms = clock_mono_ms();
    bool found;

    pthread_mutex_lock(lock);
    found = slot->read_ms > 0 && now_ms - slot->read_ms < SANDBOX_CACHE_MS &&
            strcmp(slot->sandbox.id, sandbox_id) == 0;
    if (found) {
        *ret = slot->sandbox;
    }
    pthread_mutex_unlock(lock);
    if (found) {
        return 0;
    }
    if (store_sandbox_get(cache->store, sandbox_id, "", true, ret, err) < 0) {
        return -1;
    }
    sandbox_done(ret); /* the metadata, which no request needs */
    ret->metadata_json = NULL;
    pthread_mutex_lock(lock);
    slot->sandbox = *ret;
    slot->read_ms = now_ms; /* before it was read: rather too old than too new */
    pthread_mutex_unlock(lock);
    return 0;
}

void sandbox_cache_drop(struct sandbox_cache *cache, const char *sandbox_id)
{
    const size_t number = slot_of(sandbox_id);
    struct slot *slot = &cache->slots[number];

    pthread_mutex_lock(&cache->locks[number % LOCKS]);
    if (strcmp(slot->sandbox.id, sandbox_id) == 0) {
        slot->read_ms = 0;
    }
    pthread_mutex_unlock(&cache->locks[number % LOCKS]);
}

int sandbox_cache_find(struct sandbox_cache *cache,
                       bool (*matches)(void *arg, const char *sandbox_id), void *arg,
                       char ret_id[UUID_BYTES], struct error *err)
{
    int status = 0;
    bool found = false;

    pthread_mutex_lock(&cache->newest_lock);
    if (cache->newest_read_ms == 0 || clock_mono_ms() - cache->newest_read_ms >= NEWEST_MS) {
        status = store_newest_ids(cache->store, SANDBOX_CACHE_NEWEST, cache->newest,
                                  &cache->newest_count, err);
        cache->newest_read_ms = status == 0 ? clock_mono_ms() : 0;
    }
    for (size_t i = 0; status == 0 && !found && i < cache->newest_count; i++) {
        found = matches(arg, cache->newest[i]);
        if (found) {
            memcpy(ret_id, cache->newest[i], UUID_BYTES);
        }
    }
    pthread_mutex_unlock(&cache->newest_lock);
    return status < 0 ? -1 : found ? 0 : error_set(err, ERR_SANDBOX_NOT_FOUND, "no such sandbox");
}
