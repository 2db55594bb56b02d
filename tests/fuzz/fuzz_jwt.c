/*
 * Fuzz target: bearer tokens. Whatever comes in, a token is taken only when it was signed with our
 * key by our algorithm, names a subject and has not expired.
 *
 * Input: byte 0 chooses: 0 the whole Authorization header; 1 header and payload of a token (split
 * by a newline) that gets a right signature here; 2 a right token with one byte replaced.
 */
#include <sodium.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "gateway/auth/auth.h"
#include "gateway/auth/jwt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SECRET "0123456789abcdef0123456789abcdef"

enum { NOW_S = 1800000000, TEXT_BYTES = 2 * TOKEN_BYTES };

static struct token_keys *keys_once(void)
{
    static struct token_keys *keys;
    struct error err = ERROR_INIT;

    if (keys == NULL) {
        const struct auth_options options = {.secret = SECRET};

        if (sodium_init() < 0 || (keys = token_keys_new(&options, &err)) == NULL) {
            abort();
        }
    }
    return keys;
}

static void append(char *out, const char *text)
{
    snprintf(out + strlen(out), TEXT_BYTES - strlen(out), "%s", text);
}

static void put_part(char *out, const void *bytes, size_t size)
{
    sodium_bin2base64(out + strlen(out), TEXT_BYTES - strlen(out), bytes, size,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

/* header.payload.signature, signed as HS256 signs. */
static void sign(char out[TEXT_BYTES], const char *header, size_t header_bytes, const char *payload,
                 size_t payload_bytes)
{
    crypto_auth_hmacsha256_state state;
    unsigned char mac[crypto_auth_hmacsha256_BYTES];

    out[0] = '\0';
    put_part(out, header, header_bytes);
    append(out, ".");
    put_part(out, payload, payload_bytes);
    crypto_auth_hmacsha256_init(&state, (const unsigned char *)SECRET, strlen(SECRET));
    crypto_auth_hmacsha256_update(&state, (const unsigned char *)out, strlen(out));
    crypto_auth_hmacsha256_final(&state, mac);
    append(out, ".");
    put_part(out, mac, sizeof(mac));
}

/* What a token that was taken must be. */
static void check_taken(const struct token_claims *claims)
{
    if (claims->subject[0] == '\0' || claims->username[0] == '\0' ||
        claims->expires_at_s + TOKEN_LEEWAY_S <= NOW_S ||
        memchr(claims->subject, '\0', sizeof(claims->subject)) == NULL ||
        memchr(claims->role, '\0', sizeof(claims->role)) == NULL ||
        memchr(claims->jti, '\0', sizeof(claims->jti)) == NULL) {
        abort();
    }
}

static int verify(const char *token, size_t length, struct error *err)
{
    struct token_claims claims;
    int status = token_verify(keys_once(), token, length, NOW_S, &claims, err);

    if (status == 0) {
        check_taken(&claims);
    } else if (err->code < ERR_TOKEN_MISSING || err->code > ERR_TOKEN_REVOKED ||
               strcmp(err->message, TOKEN_REFUSED_MESSAGE) != 0) {
        abort();
    }
    return status;
}

/* Nobody but us can sign: free text is never a token. */
static void try_header(const char *text, size_t size)
{
    static struct auth *auth;
    struct error err = ERROR_INIT;
    struct principal principal;
    char *copy = malloc(size + 1);

    if (auth == NULL) {
        const struct auth_options options = {.secret = SECRET,
                                             .token_ttl_s = 60,
                                             .login_max_parallel = 1,
                                             .login_user_max = 1,
                                             .login_address_max = 1,
                                             .key_address_max = 1,
                                             .login_window_s = 1,
                                             .login_delay_max_s = 30};

        auth = auth_new(&options, NULL, &err);
    }
    if (copy == NULL || auth == NULL) {
        abort();
    }
    memcpy(copy, text, size);
    copy[size] = '\0';
    if (auth_authenticate(auth, "192.0.2.1", copy, NULL, &principal, &err) == 0 ||
        verify(text, size, &err) == 0) {
        abort();
    }
    free(copy);
}

static void try_signed(const char *text, size_t size)
{
    char token[TEXT_BYTES];
    const char *split = memchr(text, '\n', size);
    struct error err = ERROR_INIT;

    if (split != NULL && size < TOKEN_BYTES) {
        sign(token, text, (size_t)(split - text), split + 1, size - (size_t)(split - text) - 1);
        (void)!verify(token, strlen(token), &err);
    }
}

/* One byte of a good token replaced by another one. */
static void try_forged(const uint8_t *data, size_t size)
{
    static const char header[] = "{\"alg\":\"HS256\",\"typ\":\"JWT\"}";
    static const char payload[] = "{\"sub\":\"u\",\"exp\":1900000000}";
    char token[TEXT_BYTES];
    struct error err = ERROR_INIT;
    size_t at, length;

    if (size < 2) {
        return;
    }
    sign(token, header, strlen(header), payload, strlen(payload));
    length = strlen(token);
    if (verify(token, length, &err) != 0) {
        abort();
    }
    at = data[0] % length;
    if (token[at] == (char)data[1]) {
        return;
    }
    token[at] = (char)data[1];
    if (verify(token, length, &err) == 0) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > 2 * TOKEN_BYTES) {
        return 0;
    }
    switch (data[0] % 3) {
    case 0:
        try_header((const char *)data + 1, size - 1);
        break;
    case 1:
        try_signed((const char *)data + 1, size - 1);
        break;
    default:
        try_forged(data + 1, size - 1);
        break;
    }
    return 0;
}
