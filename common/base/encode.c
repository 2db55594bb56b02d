/* encode - see encode.h. */
#include "common/base/encode.h"

#include <sodium.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"

int encode_base64(struct strbuf *out, const void *data, size_t length)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = data;
    int status = 0;

    for (size_t i = 0; i < length && status == 0; i += 3) {
        size_t n = length - i;
        uint32_t bits =
            (uint32_t)p[i] << 16 | (n > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (n > 2 ? p[i + 2] : 0U);
        char group[4] = {alphabet[bits >> 18], alphabet[bits >> 12 & 63],
                         n > 1 ? alphabet[bits >> 6 & 63] : '=', n > 2 ? alphabet[bits & 63] : '='};

        status = strbuf_append(out, group, sizeof(group));
    }
    return status;
}

int decode_base64(struct strbuf *out, const char *text, size_t length, struct error *err)
{
    size_t decoded_bytes = 0, max_bytes = length / 4 * 3;
    unsigned char *decoded = xmalloc(max_bytes);
    int status = 0;

    if (length % 4 != 0 || sodium_base642bin(decoded, max_bytes, text, length, NULL, &decoded_bytes,
                                             NULL, sodium_base64_VARIANT_ORIGINAL) != 0) {
        status = error_set(err, ERR_INVALID, "not valid base64");
    } else if (strbuf_append(out, decoded, decoded_bytes) < 0) {
        status = error_set(err, ERR_TOO_LARGE, "more than %zu bytes", out->max_bytes);
    }
    free(decoded);
    return status;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

long percent_decode(char *text, bool plus)
{
    char *out = text;

    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '%') {
            int high = hex_value(p[1]);
            int low = high < 0 ? -1 : hex_value(p[2]);

            if (low < 0 || (high == 0 && low == 0)) {
                return -1;
            }
            *out++ = (char)(high << 4 | low);
            p += 2;
        } else {
            *out++ = plus && *p == '+' ? ' ' : *p;
        }
    }
    *out = '\0';
    return (long)(out - text);
}

void sha256_hex(const void *data, size_t length, char out[SHA256_HEX_BYTES])
{
    unsigned char hash[crypto_hash_sha256_BYTES];

    crypto_hash_sha256(hash, data, length);
    sodium_bin2hex(out, SHA256_HEX_BYTES, hash, sizeof(hash));
}

struct sha256 {
    crypto_hash_sha256_state state;
};

struct sha256 *sha256_new(void)
{
    struct sha256 *sha256 = xmalloc(sizeof(*sha256));

    crypto_hash_sha256_init(&sha256->state);
    return sha256;
}

void sha256_add(struct sha256 *sha256, const void *data, size_t length)
{
    crypto_hash_sha256_update(&sha256->state, data, length);
}

void sha256_finish(struct sha256 *sha256, char out[SHA256_HEX_BYTES])
{
    unsigned char hash[crypto_hash_sha256_BYTES];

    crypto_hash_sha256_final(&sha256->state, hash);
    if (out != NULL) {
        sodium_bin2hex(out, SHA256_HEX_BYTES, hash, sizeof(hash));
    }
    free(sha256);
}
