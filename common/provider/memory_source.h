/*
 * memory_source - reads content from memory for whoever takes a file_read_fn.
 *
 * Threads: one source belongs to one reader. Failure: none.
 */
#ifndef PROVIDER_MEMORY_SOURCE_H
#define PROVIDER_MEMORY_SOURCE_H

#include <stddef.h>

/* The bytes that are still to be read; borrowed. */
struct memory_source {
    const char *data;
    size_t left;
};
/* A file_read_fn; `arg` is a struct memory_source. 0 = everything was read. */
long memory_source_read(void *arg, void *buf, size_t bytes);

#endif
