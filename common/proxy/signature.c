/* signature - see signature.h. */
#include "common/proxy/signature.h"

#include <sodium.h>
#include <string.h>

void signature_make(const char *path, const char *operation, const char *username,
                    const char *token, const char *expiration, char out[SIGNATURE_BYTES])
{
    crypto_hash_sha256_state state;
    unsigned char hash[crypto_hash_sha256_BYTES];
    const char *parts[] = {path, operation, username, token, expiration};
    const size_t count = expiration[0] != '\0' ? 5 : 4;

    crypto_hash_sha256_init(&state);
    for (size_t i = 0; i < count; i++) {
        if (i > 0) {
            crypto_hash_sha256_update(&state, (const unsigned char *)":", 1);
        }
        crypto_hash_sha256_update(&state, (const unsigned char *)parts[i], strlen(parts[i]));
    }
    crypto_hash_sha256_final(&state, hash);
    memcpy(out, "v1_", 3);
    sodium_bin2base64(out + 3, SIGNATURE_BYTES - 3, hash, sizeof(hash),
                      sodium_base64_VARIANT_ORIGINAL_NO_PADDING);
}
