/* sandbox_token - see sandbox_token.h. */
#include "gateway/auth/sandbox_token.h"

#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/store/store_e2b.h"

struct sandbox_tokens {
    struct store *store;
    pthread_mutex_t lock;
    bool known;
    char key[STORE_TOKEN_KEY_BYTES];
};

struct sandbox_tokens *sandbox_tokens_new(struct store *store)
{
    struct sandbox_tokens *tokens = xcalloc(1, sizeof(*tokens));

    tokens->store = store;
    pthread_mutex_init(&tokens->lock, NULL);
    return tokens;
}

void sandbox_tokens_free(struct sandbox_tokens *tokens)
{
    if (tokens != NULL) {
        pthread_mutex_destroy(&tokens->lock);
        sodium_memzero(tokens, sizeof(*tokens));
        free(tokens);
    }
}

/* The key never changes, so after its first use the copy needs no lock but this one. */
static int read_key(struct sandbox_tokens *tokens, char ret[STORE_TOKEN_KEY_BYTES],
                    struct error *err)
{
    int status = 0;

    pthread_mutex_lock(&tokens->lock);
    if (!tokens->known) {
        status = store_sandbox_token_key(tokens->store, tokens->key, err);
        tokens->known = status == 0;
    }
    memcpy(ret, tokens->key, sizeof(tokens->key));
    pthread_mutex_unlock(&tokens->lock);
    return status;
}

int sandbox_token_make(struct sandbox_tokens *tokens, const char *sandbox_id,
                       enum sandbox_token_use use, char ret[SANDBOX_TOKEN_BYTES], struct error *err)
{
    static const char *const purposes[] = {[SANDBOX_TOKEN_ENVD] = "envd ",
                                           [SANDBOX_TOKEN_TRAFFIC] = "traffic ",
                                           [SANDBOX_TOKEN_TERMINAL] = "terminal "};
    const char *purpose = purposes[use];
    unsigned char hash[crypto_auth_hmacsha256_BYTES];
    crypto_auth_hmacsha256_state state;
    char key[STORE_TOKEN_KEY_BYTES];

    if (read_key(tokens, key, err) < 0) {
        return -1;
    }
    crypto_auth_hmacsha256_init(&state, (const unsigned char *)key, strlen(key));
    crypto_auth_hmacsha256_update(&state, (const unsigned char *)purpose, strlen(purpose));
    crypto_auth_hmacsha256_update(&state, (const unsigned char *)sandbox_id, strlen(sandbox_id));
    crypto_auth_hmacsha256_final(&state, hash);
    sodium_bin2hex(ret, SANDBOX_TOKEN_BYTES, hash, sizeof(hash));
    sodium_memzero(key, sizeof(key));
    return 0;
}

int sandbox_token_check(struct sandbox_tokens *tokens, const char *sandbox_id,
                        enum sandbox_token_use use, const char *token, bool *ret_right,
                        struct error *err)
{
    char right[SANDBOX_TOKEN_BYTES];

    if (sandbox_token_make(tokens, sandbox_id, use, right, err) < 0) {
        return -1;
    }
    *ret_right = strlen(token) == SANDBOX_TOKEN_BYTES - 1 &&
                 sodium_memcmp(token, right, SANDBOX_TOKEN_BYTES - 1) == 0;
    return 0;
}
