/* utf8 - see utf8.h. */
#include "common/base/utf8.h"

#include <string.h>

/* Length of the valid UTF-8 sequence at p; 0: there is none (RFC 3629, Unicode table 3-7). */
static size_t sequence_bytes(const unsigned char *p, size_t left)
{
    unsigned char low = 0x80, high = 0xbf;
    size_t bytes;

    if (p[0] < 0x80) {
        return 1;
    }
    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        bytes = 2;
    } else if ((p[0] & 0xf0) == 0xe0) {
        bytes = 3;
        low = p[0] == 0xe0 ? 0xa0 : 0x80;
        high = p[0] == 0xed ? 0x9f : 0xbf;
    } else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        bytes = 4;
        low = p[0] == 0xf0 ? 0x90 : 0x80;
        high = p[0] == 0xf4 ? 0x8f : 0xbf;
    } else {
        return 0;
    }
    if (left < bytes || p[1] < low || p[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < bytes; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return bytes;
}

size_t utf8_valid_prefix(const void *data, size_t length)
{
    const unsigned char *p = data;
    size_t at = 0;

    while (at < length) {
        size_t bytes = sequence_bytes(p + at, length - at);

        if (bytes == 0) {
            break;
        }
        at += bytes;
    }
    return at;
}

bool utf8_is_valid(const void *data, size_t length)
{
    return utf8_valid_prefix(data, length) == length;
}

int utf8_put_clean(struct strbuf *out, const void *data, size_t length)
{
    static const char replacement[UTF8_CLEAN_GROWTH + 1] = "\xef\xbf\xbd";
    const char *text = data;
    size_t at = 0;

    while (at < length) {
        const size_t valid = utf8_valid_prefix(text + at, length - at);
        const size_t plain = strnlen(text + at, valid);

        (void)strbuf_append(out, text + at, plain);
        at += plain;
        if (at < length) {
            (void)strbuf_puts(out, replacement);
            at++;
        }
    }
    return out->overflow ? -1 : 0;
}
