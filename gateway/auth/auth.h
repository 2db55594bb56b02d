/*
 * auth - authenticates callers: bearer tokens, API keys, login, logout.
 *
 * Owns: verifying tokens (with a bounded cache), checking passwords with bounded parallelism and
 * limits. Does not own: routes, HTTP, the token format (jwt.h), ended tokens (rights.h), hashing
 * (password.h). Threads: any. Failure: a refused token is one of ERR_TOKEN_*, always with the
 * message "Token 无效". Until revocations have been read once, a revocable token is refused with
 * the store's error, not trusted.
 */
#ifndef GATEWAY_AUTH_H
#define GATEWAY_AUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/id.h"
#include "common/domain/types.h"
#include "common/store/store.h"

#define TOKEN_REFUSED_MESSAGE "Token 无效"

enum {
    TOKEN_BYTES = 16384, /* longest accepted token; other issuers' tokens may carry many claims */
    ISSUED_TOKEN_BYTES = 4096, /* longest token issued here */
    JTI_BYTES = 64,
    ROLE_BYTES = 16
};

struct principal {
    char subject[OWNER_BYTES];  /* owner of the sandboxes; for our own users their id */
    char username[LABEL_BYTES]; /* the subject when the token has no user name */
    bool admin;
    char jti[JTI_BYTES]; /* "" = the token cannot be revoked */
    int64_t expires_at_ms;
    bool own;             /* issued by our login, not by another issuer */
    int64_t generation;   /* own tokens: the user's generation at issue */
    int64_t issued_at_ms; /* `iat`; 0 = the token has none */
    bool by_key;          /* authenticated by an API key, whose id is in `jti` */
    unsigned scopes;      /* the key's scopes (enum scope, api_key.h) */
};

struct auth_options {
    const char *algorithm;         /* HS256 (default when NULL or empty), RS256, ES256 */
    const char *secret;            /* HS256: at least 32 bytes */
    const char *public_key_file;   /* RS256, ES256: PEM, "BEGIN PUBLIC KEY" */
    const char *private_key_file;  /* RS256, ES256: PEM; without it there is no login here */
    const char *issuer, *audience; /* NULL or empty = not checked */
    /* For tokens of another issuer: the claim (`.` separates nested names) and the comma list of
     * its values that make an admin. NULL or empty = such tokens never make an admin. */
    const char *admin_claim, *admin_values;
    int token_ttl_s;
    int login_max_parallel;
    /* failures per window allowed for one user from one address, and for one address */
    int login_user_max, login_address_max, login_window_s;
    int key_address_max;   /* unknown API keys per window allowed from one address */
    int login_delay_max_s; /* longest wait between attempts beyond these limits */
};

struct auth;
/* Reads the key files. ERR_CONFIG names the setting. */
struct auth *auth_new(const struct auth_options *options, struct store *store,
                      struct error *err) MUST_CHECK;
void auth_free(struct auth *auth);

/* Takes the values of `Authorization` (bearer token or API key) and `X-API-Key`, or NULL. If both
 * are sent, `Authorization` decides. `peer`: the client's address, which is slowed down
 * (ERR_RATE_LIMITED with retry_after_s) when it sends too many keys that do not exist. */
int auth_authenticate(struct auth *auth, const char *peer, const char *authorization,
                      const char *api_key, struct principal *ret, struct error *err) MUST_CHECK;

struct auth_token {
    char access_token[ISSUED_TOKEN_BYTES];
    int64_t expires_in_s;
    char user_id[UUID_BYTES];
    char username[LABEL_BYTES];
    char role[ROLE_BYTES];
};
/* ERR_CREDENTIALS (as slow for a user who does not exist), ERR_RATE_LIMITED (*ret_retry_after_s >
 * 0; never for the right password from an address this user has logged in from before),
 * ERR_DATABASE_DOWN, ERR_NOT_IMPLEMENTED (no private key). `peer`: the client's address. */
int auth_login(struct auth *auth, const char *username, const char *password, const char *peer,
               struct auth_token *ret, int *ret_retry_after_s, struct error *err) MUST_CHECK;

/* ERR_INVALID when the token has no jti, or is a key. */
int auth_logout(struct auth *auth, const struct principal *principal, struct error *err) MUST_CHECK;

/* Reads revocations made elsewhere, and writes which keys were used. Call it at least every 2 s. */
int auth_refresh(struct auth *auth, struct error *err) MUST_CHECK;
/* True when the token of a running request was revoked or its user disabled. A token that merely
 * expires does not end a running call. */
bool auth_ended(struct auth *auth, const struct principal *principal);
/* Has that owner of sandboxes been disabled? Known of our own users only. */
bool auth_owner_disabled(struct auth *auth, const char *owner);

#endif
