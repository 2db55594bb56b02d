/*
 * utf8 - checks untrusted bytes for UTF-8 and makes text of them.
 *
 * Threads: no shared state. Failure: documented per function; no function reads beyond `length`.
 */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/strbuf.h"

/* Strict UTF-8 (no overlong forms, no surrogates, max U+10FFFF). NUL bytes are valid UTF-8. */
bool utf8_is_valid(const void *data, size_t length);
/* Number of leading bytes that are whole, valid UTF-8 sequences. */
size_t utf8_valid_prefix(const void *data, size_t length);
/* Appends the bytes as text: each that is not valid UTF-8, and each NUL, becomes U+FFFD. 0, or -1
 * on overflow; length * UTF8_CLEAN_GROWTH always suffices. */
enum { UTF8_CLEAN_GROWTH = 3 };
int utf8_put_clean(struct strbuf *out, const void *data, size_t length);

#endif
