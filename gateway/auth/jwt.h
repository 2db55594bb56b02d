/*
 * jwt - JSON Web Tokens with one configured algorithm, over libjwt 1.10.
 *
 * Owns: keys, signing, verifying, the claims we read. libjwt 1.10 checks neither the algorithm nor
 * any claim, and trusts a token when it has no key. So this file checks everything but the
 * signature before libjwt sees the token: form, length, algorithm (from configuration, never from
 * the token), strictly parsed claims. Does not own: revocation, caching. Threads: keys are
 * read-only after token_keys_new(). Failure: ERR_TOKEN_*; messages never quote a token.
 */
#ifndef GATEWAY_JWT_H
#define GATEWAY_JWT_H

#include <stddef.h>
#include <stdint.h>

#include "gateway/auth/auth.h"

enum { TOKEN_LEEWAY_S = 30 };

struct token_claims {
    char subject[OWNER_BYTES];
    char username[LABEL_BYTES]; /* the subject when absent */
    char role[ROLE_BYTES];      /* "" when absent or not a short string */
    char jti[JTI_BYTES];        /* "" when absent or not a short string */
    int64_t expires_at_s;
    int64_t issued_at_s; /* 0 when absent or not a date */
    bool own;            /* issued by token_sign(): carries its claim TOKEN_GENERATION_CLAIM */
    int64_t generation;  /* own: the user's when it was issued */
    bool admin;          /* own: by `role`; else by JWT_ADMIN_CLAIM. Not signed: verify sets it */
};

/* Marks our own tokens. Another holder of the key may write it too, so it only selects the rules
 * for admins and for ended tokens. */
#define TOKEN_GENERATION_CLAIM "sandbox_gen"

struct token_keys;
/* Reads and tries the keys (a signature made is verified). ERR_CONFIG names the setting. */
struct token_keys *token_keys_new(const struct auth_options *options, struct error *err) MUST_CHECK;
void token_keys_free(struct token_keys *keys);
bool token_keys_can_sign(const struct token_keys *keys);

/* Writes a token of `claims` (issued now_s; iss and aud as configured) into out[size]. */
int token_sign(const struct token_keys *keys, const struct token_claims *claims, int64_t now_s,
               char *out, size_t size, struct error *err) MUST_CHECK;
/* Verifies a token of `length` bytes, at most TOKEN_BYTES. Compares exp and nbf to now_s (Unix
 * seconds) with TOKEN_LEEWAY_S of leeway. */
int token_verify(const struct token_keys *keys, const char *token, size_t length, int64_t now_s,
                 struct token_claims *ret, struct error *err) MUST_CHECK;

#endif
