/*
 * alloc - checked allocation: never NULL, aborts on exhaustion.
 *
 * A process out of memory dies at once; redelivery of its jobs is the recovery.
 * Sizes that come from outside are bounded by their owner before they get here.
 */
#ifndef BASE_ALLOC_H
#define BASE_ALLOC_H

#include <stddef.h>

void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *pointer, size_t size);
char *xstrdup(const char *text);
char *xstrndup(const char *text, size_t length);

/* Copies src into dst[size], always terminated. Returns 0, or -1 if it had to cut. */
int str_copy(char *dst, size_t size, const char *src);

#endif
