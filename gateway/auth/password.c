/*
 * password - argon2id through crypto_pwhash_str.
 *
 * Owns: the cost parameters. Does not own: storage, limits. See password.h.
 */
#include "gateway/auth/password.h"

#include <sodium.h>
#include <string.h>

#include "common/base/alloc.h"

enum { HASH_PASSES = 2, HASH_MEMORY_BYTES = 19 << 20 };

static int hash_bytes(const char *password, size_t length, char out[PASSWORD_HASH_BYTES],
                      struct error *err)
{
    char hash[crypto_pwhash_STRBYTES];

    if (crypto_pwhash_str_alg(hash, password, length, HASH_PASSES, HASH_MEMORY_BYTES,
                              crypto_pwhash_ALG_ARGON2ID13) != 0 ||
        str_copy(out, PASSWORD_HASH_BYTES, hash) != 0) {
        return error_set(err, ERR_INTERNAL, "a password could not be hashed: out of memory");
    }
    return 0;
}

int password_hash(const char *password, char out[PASSWORD_HASH_BYTES], struct error *err)
{
    size_t length = strlen(password);

    if (length < PASSWORD_MIN_BYTES || length > PASSWORD_MAX_BYTES) {
        return error_set(err, ERR_INVALID, "a password has %d to %d bytes", PASSWORD_MIN_BYTES,
                         PASSWORD_MAX_BYTES);
    }
    return hash_bytes(password, length, out, err);
}

int password_hash_dummy(char out[PASSWORD_HASH_BYTES], struct error *err)
{
    unsigned char unknown[32];

    randombytes_buf(unknown, sizeof(unknown));
    return hash_bytes((const char *)unknown, sizeof(unknown), out, err);
}

bool password_verify(const char *hash, const char *password)
{
    return crypto_pwhash_str_verify(hash, password, strlen(password)) == 0;
}
