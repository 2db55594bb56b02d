/*
 * strbuf - a growing byte string with a required maximum.
 *
 * There is always a NUL after `length` bytes. Reaching the maximum sets `overflow` and keeps what
 * fitted before; every later append is refused, too. So build freely and check once. Threads: not
 * shared. Failure: overflow only; exhausted memory aborts.
 */
#ifndef BASE_STRBUF_H
#define BASE_STRBUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct strbuf {
    char *data; /* "" before the first append, never NULL after strbuf_init */
    size_t length;
    size_t capacity;
    size_t max_bytes;
    bool overflow;
};

void strbuf_init(struct strbuf *buf, size_t max_bytes);
void strbuf_done(struct strbuf *buf);  /* NULL-safe, idempotent; buf may be re-inited */
void strbuf_reset(struct strbuf *buf); /* keeps memory, clears overflow */

/* Each returns 0, or -1 when the maximum would be passed (buf->overflow is then true). */
int strbuf_append(struct strbuf *buf, const void *data, size_t length);
int strbuf_puts(struct strbuf *buf, const char *text);
int strbuf_putc(struct strbuf *buf, char c);
int strbuf_printf(struct strbuf *buf, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
int strbuf_vprintf(struct strbuf *buf, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));
/* Appends text with every byte outside [A-Za-z0-9._~-] as %XX; `keep_slash` keeps '/'. */
int strbuf_put_urlencoded(struct strbuf *buf, const char *text, bool keep_slash);

/* Removes the first `length` bytes (a consumed prefix). */
void strbuf_consume(struct strbuf *buf, size_t length);
/* Hands the heap string to the caller (free()); buf is empty afterwards. */
char *strbuf_take(struct strbuf *buf);

#endif
