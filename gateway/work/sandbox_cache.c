/* sandbox_cache - see sandbox_cache.h. */
#include "gateway/work/sandbox_cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"

enum { SLOTS = 1024, LOCKS = 64 };

struct slot {
    int64_t read_ms; /* 0 = empty */
    struct sandbox sandbox;
};

struct sandbox_cache {
    struct store *store;
    pthread_mutex_t locks[LOCKS]; /* of the slots whose number has this remainder */
    struct slot slots[SLOTS];
};

struct sandbox_cache *sandbox_cache_new(struct store *store)
{
    struct sandbox_cache *cache = xcalloc(1, sizeof(*cache));

    cache->store = store;
    for (int i = 0; i < LOCKS; i++) {
        pthread_mutex_init(&cache->locks[i], NULL);
    }
    return cache;
}

void sandbox_cache_free(struct sandbox_cache *cache)
{
    if (cache != NULL) {
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
