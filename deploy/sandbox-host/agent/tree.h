/*
 * tree - walking and removing folders of any depth with a bounded stack and few descriptors.
 *
 * Owns: the two algorithms. Does not own: what a caller makes of an entry. Threads: any.
 */
#ifndef AGENT_TREE_H
#define AGENT_TREE_H

#include <limits.h>
#include <stddef.h>

/*
 * Calls visit(arg, path) for every entry below `real`, lexically, a folder before what is in it,
 * down to `depth` levels, not through links. The path shown is `shown` + the relative part. visit
 * returns 0, or -1 to stop. Returns 0, -1 + errno when `real` itself cannot be read, or 1 when
 * visit stopped it. Folders that vanish or cannot be read on the way are passed over.
 */
int tree_walk(const char *real, const char *shown, unsigned depth,
              int (*visit)(void *arg, const char *path), void *arg);

/* rm -rf. 0 (also when there was nothing), or -1 + errno of the first thing that would not go. */
int tree_remove(const char *path);

#endif
