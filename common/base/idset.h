/*
 * idset - which of many ids have been seen, in 16 bytes for each.
 *
 * Keeps a 64-bit fingerprint of an id, not the id: of a million ids, two share one with a
 * probability of 1 in 37 million. Not for ids that a stranger chooses. Threads: none shared.
 * Failure: none.
 */
#ifndef BASE_IDSET_H
#define BASE_IDSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Empty when zeroed. */
struct idset {
    uint64_t *slots; /* owned; 0 = free */
    size_t count, capacity;
};

/* True when it was not there. */
bool idset_add(struct idset *set, const char *id);
bool idset_has(const struct idset *set, const char *id);
void idset_done(struct idset *set);

#endif
