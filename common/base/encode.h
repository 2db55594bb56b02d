/*
 * encode - base64, hex, UTF-8 and percent decoding of untrusted bytes.
 *
 * Threads: no shared state. Failure: documented per function; no function reads beyond `length`.
 */
#ifndef BASE_ENCODE_H
#define BASE_ENCODE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/error.h"
#include "common/base/strbuf.h"

/* Appends standard, padded base64. 0, or -1 on strbuf overflow. */
int encode_base64(struct strbuf *out, const void *data, size_t length);
/* Appends the bytes of standard base64 (padding required, no white space). -1 + ERR_INVALID,
 * or ERR_TOO_LARGE when out overflows. */
int decode_base64(struct strbuf *out, const char *text, size_t length,
                  struct error *err) MUST_CHECK;
/* Strict UTF-8 (no overlong forms, no surrogates, max U+10FFFF). NUL bytes are valid UTF-8. */
bool utf8_is_valid(const void *data, size_t length);
/* Number of leading bytes that are whole, valid UTF-8 sequences. */
size_t utf8_valid_prefix(const void *data, size_t length);
/* Appends the bytes as text: each that is not valid UTF-8, and each NUL, becomes U+FFFD. 0, or -1
 * on overflow; length * UTF8_CLEAN_GROWTH always suffices. */
enum { UTF8_CLEAN_GROWTH = 3 };
int utf8_put_clean(struct strbuf *out, const void *data, size_t length);
/* Decodes %XX (and '+' as space if plus) in place. Returns the new length, or -1 on a bad
 * escape or an encoded NUL. */
long percent_decode(char *text, bool plus);
/* SHA-256 as 64 hex digits + NUL. */
#define SHA256_HEX_BYTES 65
void sha256_hex(const void *data, size_t length, char out[SHA256_HEX_BYTES]);
/* SHA-256 in pieces. sha256_finish() frees the state; out may be NULL. */
struct sha256;
struct sha256 *sha256_new(void);
void sha256_add(struct sha256 *sha256, const void *data, size_t length);
void sha256_finish(struct sha256 *sha256, char out[SHA256_HEX_BYTES]);

#endif
