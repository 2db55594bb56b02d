/* port_cache - see port_cache.h. */
#include "gateway/work/port_cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"

enum { SLOTS = 1024 };

struct slot {
    char sandbox_id[UUID_BYTES];
    int asked;       /* the port that was asked for */
    int64_t read_ms; /* 0 = empty */
    bool found;
    struct store_port port;
};

struct port_cache {
    struct store *store;
    pthread_mutex_t lock;
    unsigned generation; /* grows with every drop: what was read before is not kept */
    struct slot slots[SLOTS];
};

struct port_cache *port_cache_new(struct store *store)
{
    struct port_cache *cache = xcalloc(1, sizeof(*cache));

    cache->store = store;
    pthread_mutex_init(&cache->lock, NULL);
    return cache;
}

void port_cache_free(struct port_cache *cache)
{
    if (cache != NULL) {
        pthread_mutex_destroy(&cache->lock);
        free(cache);
    }
}

static int answer(const struct slot *slot, struct store_port *ret, struct error *err)
{
    *ret = slot->port;
    return slot->found ? 0 : error_set(err, ERR_NOT_FOUND, "the port is not exposed");
}

int port_cache_find(struct port_cache *cache, const char *sandbox_id, int port, bool any_port,
                    struct store_port *ret, struct error *err)
{
    struct slot *slot =
        &cache->slots[(id_hash64(sandbox_id, strlen(sandbox_id)) + (unsigned)port) % SLOTS];
    struct slot fresh = {.asked = port, .read_ms = clock_mono_ms()};
    unsigned generation;
    bool cached;

    pthread_mutex_lock(&cache->lock);
    generation = cache->generation;
    cached = slot->read_ms > 0 && fresh.read_ms - slot->read_ms < PORT_CACHE_MS &&
             slot->asked == port && strcmp(slot->sandbox_id, sandbox_id) == 0;
    if (cached) {
        fresh = *slot;
    }
    pthread_mutex_unlock(&cache->lock);
    if (cached) {
        return answer(&fresh, ret, err);
    }
    fresh.found = store_port_find(cache->store, sandbox_id, port, any_port, &fresh.port, err) == 0;
    if (!fresh.found && err->code != ERR_NOT_FOUND) {
        return -1;
    }
    str_copy(fresh.sandbox_id, sizeof(fresh.sandbox_id), sandbox_id);
    pthread_mutex_lock(&cache->lock);
    if (cache->generation == generation) {
        *slot = fresh;
    }
    pthread_mutex_unlock(&cache->lock);
    return answer(&fresh, ret, err);
}

void port_cache_drop(struct port_cache *cache)
{
    pthread_mutex_lock(&cache->lock);
    cache->generation++;
    for (int i = 0; i < SLOTS; i++) {
        cache->slots[i].read_ms = 0;
    }
    pthread_mutex_unlock(&cache->lock);
}
