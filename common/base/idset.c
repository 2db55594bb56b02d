/* idset - see idset.h. Open addressing, at most half full. */
#include "common/base/idset.h"

#include <stdlib.h>

#include "common/base/alloc.h"

enum { FIRST_CAPACITY = 256 }; /* a power of two, as every capacity */

/* FNV-1a, its bits mixed once more because the low ones choose the slot. */
static uint64_t fingerprint(const char *id)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *id != '\0'; id++) {
        hash = (hash ^ (unsigned char)*id) * 0x100000001b3u;
    }
    hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9u;
    hash = (hash ^ (hash >> 27)) * 0x94d049bb133111ebu;
    hash ^= hash >> 31;
    return hash != 0 ? hash : 1;
}

/* The slot that holds the fingerprint, or the free one where it belongs. */
static size_t slot_of(const struct idset *set, uint64_t wanted)
{
    size_t slot = (size_t)wanted & (set->capacity - 1);
    while (set->slots[slot] != 0 && set->slots[slot] != wanted) {
        slot = (slot + 1) & (set->capacity - 1);
    }
    return slot;
}

static void grow(struct idset *set)
{
    struct idset larger = {.capacity = set->capacity == 0 ? FIRST_CAPACITY : 2 * set->capacity};
    larger.slots = xcalloc(larger.capacity, sizeof(*larger.slots));
    larger.count = set->count;
    for (size_t i = 0; i < set->capacity; i++) {
        if (set->slots[i] != 0) {
            larger.slots[slot_of(&larger, set->slots[i])] = set->slots[i];
        }
    }
    free(set->slots);
    *set = larger;
}

bool idset_add(struct idset *set, const char *id)
{
    const uint64_t wanted = fingerprint(id);
    if (2 * set->count >= set->capacity) {
        grow(set);
    }
    size_t slot = slot_of(set, wanted);
    if (set->slots[slot] == wanted) {
        return false;
    }
    set->slots[slot] = wanted;
    set->count++;
    return true;
}

bool idset_has(const struct idset *set, const char *id)
{
    const uint64_t wanted = fingerprint(id);
    return set->capacity > 0 && set->slots[slot_of(set, wanted)] == wanted;
}

void idset_done(struct idset *set)
{
    free(set->slots);
    *set = (struct idset){0};
}
