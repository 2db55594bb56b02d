/* strbuf - see strbuf.h. */
#include "common/base/strbuf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"

enum { STRBUF_FIRST_BYTES = 64 };

/* An empty buffer points here, so that data is always a string; capacity 0 says that it is not on
 * the heap. */
static char empty_string[1];

void strbuf_init(struct strbuf *buf, size_t max_bytes)
{
    *buf = (struct strbuf){.data = empty_string, .max_bytes = max_bytes};
}

void strbuf_done(struct strbuf *buf)
{
    if (buf == NULL) {
        return;
    }
    if (buf->capacity > 0) {
        free(buf->data);
    }
    strbuf_init(buf, buf->max_bytes);
}

void strbuf_reset(struct strbuf *buf)
{
    buf->length = 0;
    buf->overflow = false;
    if (buf->capacity > 0) {
        buf->data[0] = '\0';
    }
}

static int make_room(struct strbuf *buf, size_t more)
{
    size_t needed, capacity;

    if (buf->overflow || more > buf->max_bytes - buf->length) {
        buf->overflow = true;
        return -1;
    }
    needed = buf->length + more + 1;
    if (needed <= buf->capacity) {
        return 0;
    }
    capacity = buf->capacity > 0 ? buf->capacity : STRBUF_FIRST_BYTES;
    while (capacity < needed) {
        capacity *= 2;
    }
    if (capacity > buf->max_bytes + 1) {
        capacity = buf->max_bytes + 1;
    }
    buf->data = xrealloc(buf->capacity > 0 ? buf->data : NULL, capacity);
    buf->capacity = capacity;
    return 0;
}

int strbuf_append(struct strbuf *buf, const void *data, size_t length)
{
    if (length == 0) {
        return buf->overflow ? -1 : 0;
    }
    if (make_room(buf, length) < 0) {
        return -1;
    }
    memcpy(buf->data + buf->length, data, length);
    buf->length += length;
    buf->data[buf->length] = '\0';
    return 0;
}

int strbuf_puts(struct strbuf *buf, const char *text)
{
    return strbuf_append(buf, text, strlen(text));
}

int strbuf_putc(struct strbuf *buf, char c)
{
    return strbuf_append(buf, &c, 1);
}

int strbuf_vprintf(struct strbuf *buf, const char *format, va_list args)
{
    va_list again;
    int length;

    va_copy(again, args);
    length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (length < 0 || make_room(buf, (size_t)length) < 0) {
        buf->overflow = true;
        return -1;
    }
    if (length == 0) {
        return 0;
    }
    vsnprintf(buf->data + buf->length, (size_t)length + 1, format, args);
    buf->length += (size_t)length;
    return 0;
}

int strbuf_printf(struct strbuf *buf, const char *format, ...)
{
    va_list args;
    int status;

    va_start(args, format);
    status = strbuf_vprintf(buf, format, args);
    va_end(args);
    return status;
}

int strbuf_put_urlencoded(struct strbuf *buf, const char *text, bool keep_slash)
{
    static const char digits[] = "0123456789ABCDEF";
    int status = 0;

    for (const unsigned char *p = (const unsigned char *)text; *p != '\0' && status == 0; p++) {
        bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                     (*p >= '0' && *p <= '9') || strchr("-._~", *p) != NULL ||
                     (keep_slash && *p == '/');

        if (plain) {
            status = strbuf_putc(buf, (char)*p);
        } else {
            char escape[3] = {'%', digits[*p >> 4], digits[*p & 15]};

            status = strbuf_append(buf, escape, sizeof(escape));
        }
    }
    return status;
}

void strbuf_consume(struct strbuf *buf, size_t length)
{
    if (length >= buf->length) {
        buf->length = 0;
    } else {
        buf->length -= length;
        memmove(buf->data, buf->data + length, buf->length);
    }
    if (buf->capacity > 0) {
        buf->data[buf->length] = '\0';
    }
}

char *strbuf_take(struct strbuf *buf)
{
    char *text = buf->capacity > 0 ? buf->data : xstrdup("");

    strbuf_init(buf, buf->max_bytes);
    return text;
}
