/*
 * encode - base64, hex and percent decoding of untrusted bytes; UTF-8 is in utf8.h.
 *
 * Threads: no shared state. Failure: documented per function; no function reads beyond `length`.
 */
#ifndef BASE_ENCODE_H
#define BASE_ENCODE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/error.h"
#include "common/base/strbuf.h"
#include "common/base/utf8.h"

/* Appends standard, padded base64. 0, or -1 on strbuf overflow. */
int encode_base64(struct strbuf *out, const void *data, size_t length);
/* Appends the bytes of standard base64 (padding required, no white space). -1 + ERR_INVALID,
 * or ERR_TOO_LARGE when out overflows. */
int decode_base64(struct strbuf *out, const char *text, size_t length,
                  struct error *err) MUST_CHECK;
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
