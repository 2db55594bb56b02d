/*
 * alloc - checked allocation: never returns NULL, aborts when memory is exhausted.
 *
 * A process without memory ends at once; its jobs are redelivered to another. The owner of a size
 * that comes from outside bounds it before it gets here.
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
