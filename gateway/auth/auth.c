/*
 * auth - token cache, login and logout. See auth.h.
 *
 * Cache: direct-mapped by the token's SHA-256; an entry is only ever a token whose signature was
 * verified here, and its expiry and its end (rights.h) are checked on every use, so nothing needs
 * to be invalidated. Login: an attempt takes its place in the limits, then one of the hashing
 * places.
 */
#include "gateway/auth/auth.h"

#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "gateway/auth/api_key.h"
#include "gateway/auth/jwt.h"
#include "gateway/auth/login_limit.h"
#include "gateway/auth/password.h"
#include "gateway/auth/rights.h"

enum {
    CACHE_SLOTS = 4096,
    CACHE_LOCKS = 64,
    /* a revocation outlives its token by more than the leeway */
    REVOKED_MARGIN_MS = 2 * TOKEN_LEEWAY_S * 1000,
    LOGIN_WAIT_MS = 5000,
    LOGIN_BUSY_RETRY_S = 2,
    /* how long a key is served from the cache. A rotation's earlier end is known after this time;
       store_api_key_revoke() takes effect at once. */
    KEY_CACHE_MS = 30000,
    KEY_ENDED_MS = 1000, /* how long a cached key that has ended is refused without a statement */
};

struct cached {
    unsigned char digest[crypto_hash_sha256_BYTES];
    bool used;
    bool key_used; /* an API key was used since its use was last written */
    int64_t put_ms;
    int64_t ended_ms; /* when the store said that this key has ended; 0 = it has not */
    struct principal principal;
};

struct auth {
    struct store *store;
    struct token_keys *keys;
    int token_ttl_s;

    pthread_mutex_t cache_locks[CACHE_LOCKS];
    struct cached *cache;

    struct rights *rights;
    struct login_limit *limit, *key_limit;
    pthread_mutex_t login_lock;
    pthread_cond_t login_free;
    int login_running, login_max_parallel;
    _Atomic int64_t check_ms; /* duration of the last password check */
    char dummy_hash[PASSWORD_HASH_BYTES];
};

/* ---- life ----------------------------------------------------------------------------------- */

static void init_locks(struct auth *auth)
{
    for (int i = 0; i < CACHE_LOCKS; i++) {
        pthread_mutex_init(&auth->cache_locks[i], NULL);
    }
    pthread_mutex_init(&auth->login_lock, NULL);
    clock_cond_init(&auth->login_free);
}

struct auth *auth_new(const struct auth_options *options, struct store *store, struct error *err)
{
    struct auth *auth = xcalloc(1, sizeof(*auth));

    init_locks(auth);
    auth->store = store;
    auth->rights = rights_new(store);
    auth->token_ttl_s = options->token_ttl_s;
    auth->login_max_parallel = options->login_max_parallel;
    auth->cache = xcalloc(CACHE_SLOTS, sizeof(*auth->cache));
    auth->limit = login_limit_new(options->login_user_max, options->login_address_max,
                                  options->login_window_s, options->login_delay_max_s);
    auth->key_limit = login_limit_new(options->key_address_max, options->key_address_max,
                                      options->login_window_s, options->login_delay_max_s);
    if (sodium_init() < 0) {
        error_set(err, ERR_INTERNAL, "libsodium cannot start");
        goto fail;
    }
    if (options->token_ttl_s < 1 || options->login_max_parallel < 1 ||
        options->login_user_max < 1 || options->login_address_max < 1 ||
        options->key_address_max < 1 || options->login_window_s < 1 ||
        options->login_delay_max_s < 1) {
        error_set(err, ERR_CONFIG, "login limits and token life must be positive");
        goto fail;
    }
    auth->keys = token_keys_new(options, err);
    if (auth->keys == NULL || password_hash_dummy(auth->dummy_hash, err) != 0) {
        goto fail;
    }
    return auth;
fail:
    auth_free(auth);
    return NULL;
}

void auth_free(struct auth *auth)
{
    if (auth == NULL) {
        return;
    }
    rights_free(auth->rights);
    token_keys_free(auth->keys);
    login_limit_free(auth->limit);
    login_limit_free(auth->key_limit);
    free(auth->cache);
    for (int i = 0; i < CACHE_LOCKS; i++) {
        pthread_mutex_destroy(&auth->cache_locks[i]);
    }
    pthread_mutex_destroy(&auth->login_lock);
    pthread_cond_destroy(&auth->login_free);
    free(auth);
}

static int refuse(struct error *err, enum error_code code)
{
    return error_set(err, code, "%s", TOKEN_REFUSED_MESSAGE);
}

/* ---- tokens --------------------------------------------------------------------------------- */

static bool cache_find(struct auth *auth, const unsigned char *digest, size_t slot,
                       struct cached *ret)
{
    pthread_mutex_t *lock = &auth->cache_locks[slot % CACHE_LOCKS];
    struct cached *entry = &auth->cache[slot];
    bool found;

    pthread_mutex_lock(lock);
    found = entry->used && memcmp(entry->digest, digest, sizeof(entry->digest)) == 0;
    if (found) {
        *ret = *entry;
        entry->key_used = entry->principal.by_key;
    }
    pthread_mutex_unlock(lock);
    return found;
}

static void cache_put(struct auth *auth, const unsigned char *digest, size_t slot,
                      const struct principal *principal)
{
    pthread_mutex_t *lock = &auth->cache_locks[slot % CACHE_LOCKS];
    struct cached *entry = &auth->cache[slot];

    pthread_mutex_lock(lock);
    memcpy(entry->digest, digest, sizeof(entry->digest));
    entry->used = true;
    entry->key_used = principal->by_key;
    entry->put_ms = clock_mono_ms();
    entry->ended_ms = 0;
    entry->principal = *principal;
    pthread_mutex_unlock(lock);
}

static void cache_end(struct auth *auth, const unsigned char *digest, size_t slot)
{
    pthread_mutex_t *lock = &auth->cache_locks[slot % CACHE_LOCKS];
    struct cached *entry = &auth->cache[slot];

    pthread_mutex_lock(lock);
    if (entry->used && memcmp(entry->digest, digest, sizeof(entry->digest)) == 0) {
        entry->ended_ms = clock_mono_ms();
    }
    pthread_mutex_unlock(lock);
}

/* The token in the header's value; its length in *ret_length. RFC 6750, section 2.1. */
static const char *bearer_token(const char *authorization, size_t *ret_length, struct error *err)
{
    static const char scheme[] = "Bearer";
    size_t blanks;

    if (authorization == NULL || authorization[0] == '\0') {
        refuse(err, ERR_TOKEN_MISSING);
        return NULL;
    }
    if (strncasecmp(authorization, scheme, sizeof(scheme) - 1) != 0) {
        refuse(err, ERR_TOKEN_MALFORMED);
        return NULL;
    }
    authorization += sizeof(scheme) - 1;
    blanks = strspn(authorization, " ");
    if (authorization[blanks] == '\0' || blanks == 0) {
        refuse(err, authorization[blanks] == '\0' ? ERR_TOKEN_MISSING : ERR_TOKEN_MALFORMED);
        return NULL;
    }
    *ret_length = strlen(authorization + blanks);
    return authorization + blanks;
}

static int verify_afresh(struct auth *auth, const char *token, size_t length, struct principal *ret,
                         struct error *err)
{
    struct token_claims claims;

    if (token_verify(auth->keys, token, length, clock_wall_ms() / 1000, &claims, err) != 0) {
        return -1;
    }
    memset(ret, 0, sizeof(*ret));
    memcpy(ret->subject, claims.subject, sizeof(ret->subject));
    memcpy(ret->username, claims.username, sizeof(ret->username));
    memcpy(ret->jti, claims.jti, sizeof(ret->jti));
    ret->admin = claims.admin;
    ret->expires_at_ms = claims.expires_at_s * 1000;
    ret->own = claims.own;
    ret->generation = claims.generation;
    ret->issued_at_ms = claims.issued_at_s * 1000;
    ret->scopes = SCOPE_ALL;
    return 0;
}

/* Finds the principal of the API key with this SHA-256. */
static int look_up_key(struct auth *auth, const unsigned char *digest, struct principal *ret,
                       struct error *err)
{
    struct store_api_key_holder holder;
    char hash[STORE_KEY_HASH_BYTES];

    sodium_bin2hex(hash, sizeof(hash), digest, crypto_hash_sha256_BYTES);
    if (store_api_key_find(auth->store, hash, &holder, err) != 0) {
        return err->code == ERR_NOT_FOUND ? refuse(err, ERR_TOKEN_REVOKED) : -1;
    }
    if (holder.disabled) {
        return refuse(err, ERR_TOKEN_REVOKED);
    }
    memset(ret, 0, sizeof(*ret));
    str_copy(ret->subject, sizeof(ret->subject), holder.key.owner);
    str_copy(ret->username, sizeof(ret->username), holder.key.username);
    str_copy(ret->jti, sizeof(ret->jti), holder.key.id);
    ret->by_key = true;
    ret->scopes = scopes_parse(holder.key.scopes);
    ret->admin = holder.admin && (ret->scopes & SCOPE_ADMIN) != 0;
    ret->expires_at_ms = holder.key.expires_at_ms > 0 ? holder.key.expires_at_ms : INT64_MAX / 2;
    ret->own = holder.is_user;
    ret->generation = holder.token_generation;
    return 0;
}

/* The same for a key that this gateway has not seen. Anybody can send keys that look right, and
 * each costs a statement: an address that sent too many wrong ones is slowed down. */
static int look_up_new_key(struct auth *auth, const char *peer, const unsigned char *digest,
                           struct principal *ret, struct error *err)
{
    int wait_s = login_limit_take(auth->key_limit, "", peer), status;

    if (wait_s > 0) {
        error_set(err, ERR_RATE_LIMITED, "too many unknown API keys from this address");
        err->retry_after_s = wait_s;
        return -1;
    }
    status = look_up_key(auth, digest, ret, err);
    if (status == 0 || err->code != ERR_TOKEN_REVOKED) {
        login_limit_give_back(auth->key_limit, "", peer, LOGIN_LIMIT_NOT_TRIED);
    }
    return status;
}

/* A cached key is read again after KEY_CACHE_MS, or when its user has changed. */
static bool is_current(struct auth *auth, const struct cached *cached)
{
    return !cached->principal.by_key ||
           (cached->ended_ms == 0 && clock_mono_ms() - cached->put_ms <= KEY_CACHE_MS &&
            !rights_user_changed(auth->rights, &cached->principal));
}

/* What the cache does not know, or knows no longer: verified, or looked up. */
static int identify(struct auth *auth, const char *peer, const char *token, size_t length,
                    const unsigned char *digest, size_t slot, const struct cached *known,
                    struct principal *ret, struct error *err)
{
    if (!api_key_is_one(token, length)) {
        return verify_afresh(auth, token, length, ret, err);
    }
    if (known == NULL) {
        return look_up_new_key(auth, peer, digest, ret, err);
    }
    if (known->ended_ms != 0 && clock_mono_ms() - known->ended_ms < KEY_ENDED_MS) {
        return refuse(err, ERR_TOKEN_REVOKED);
    }
    if (look_up_key(auth, digest, ret, err) != 0) {
        if (err->code == ERR_TOKEN_REVOKED) {
            cache_end(auth, digest, slot);
        }
        return -1;
    }
    return 0;
}

int auth_authenticate(struct auth *auth, const char *peer, const char *authorization,
                      const char *api_key, struct principal *ret, struct error *err)
{
    unsigned char digest[crypto_hash_sha256_BYTES];
    bool has_key = authorization == NULL && api_key != NULL;
    size_t length = has_key ? strlen(api_key) : 0, slot;
    const char *token = has_key ? api_key : bearer_token(authorization, &length, err);
    struct cached cached;
    int64_t leeway_ms;
    bool known;

    if (token == NULL) {
        return -1;
    }
    if (length > TOKEN_BYTES || (has_key && !api_key_is_one(token, length))) {
        return refuse(err, ERR_TOKEN_MALFORMED);
    }
    crypto_hash_sha256(digest, (const unsigned char *)token, length);
    slot = ((size_t)digest[0] << 8 | digest[1]) % CACHE_SLOTS;
    known = cache_find(auth, digest, slot, &cached);
    if (known && is_current(auth, &cached)) {
        *ret = cached.principal;
    } else {
        if (identify(auth, peer, token, length, digest, slot, known ? &cached : NULL, ret, err) !=
            0) {
            return -1;
        }
        cache_put(auth, digest, slot, ret);
    }
    leeway_ms =
        ret->by_key
            ? 0
            : TOKEN_LEEWAY_S * 1000; /* our own clock set a key's expiry, so it needs no leeway */
    if (clock_wall_ms() >= ret->expires_at_ms + leeway_ms) {
        return refuse(err, ERR_TOKEN_EXPIRED);
    }
    if (ret->jti[0] != '\0' && !rights_known(auth->rights) &&
        rights_refresh(auth->rights, err) != 0) {
        return -1;
    }
    if (rights_ended(auth->rights, ret)) {
        return refuse(err, ERR_TOKEN_REVOKED);
    }
    return 0;
}

/* Writes which keys were used since the last call. */
static int write_key_use(struct auth *auth, struct error *err)
{
    char(*ids)[UUID_BYTES] = NULL;
    const char **list = NULL;
    size_t count = 0;
    int status = 0;

    for (size_t slot = 0; slot < CACHE_SLOTS; slot++) {
        pthread_mutex_t *lock = &auth->cache_locks[slot % CACHE_LOCKS];
        struct cached *entry = &auth->cache[slot];

        pthread_mutex_lock(lock);
        if (entry->key_used) {
            entry->key_used = false;
            ids = xrealloc(ids, (count + 1) * sizeof(*ids));
            str_copy(ids[count++], sizeof(*ids), entry->principal.jti);
        }
        pthread_mutex_unlock(lock);
    }
    if (count > 0) {
        list = xcalloc(count, sizeof(*list));
        for (size_t i = 0; i < count; i++) {
            list[i] = ids[i];
        }
        status = store_api_keys_used(auth->store, list, count, err);
    }
    free(list);
    free(ids);
    return status;
}

int auth_logout(struct auth *auth, const struct principal *principal, struct error *err)
{
    int64_t until_ms = principal->expires_at_ms + REVOKED_MARGIN_MS;

    if (principal->jti[0] == '\0' || principal->by_key) {
        return error_set(err, ERR_INVALID, "this token has no jti and cannot be revoked");
    }
    return rights_revoke(auth->rights, principal->jti, until_ms, err);
}

int auth_refresh(struct auth *auth, struct error *err)
{
    return rights_refresh(auth->rights, err) != 0 ? -1 : write_key_use(auth, err);
}

bool auth_ended(struct auth *auth, const struct principal *principal)
{
    return rights_ended(auth->rights, principal);
}

bool auth_owner_disabled(struct auth *auth, const char *owner)
{
    return rights_user_disabled(auth->rights, owner);
}

/* ---- login ---------------------------------------------------------------------------------- */

/* Waits until fewer than LOGIN_PARALLEL passwords are being checked; false after LOGIN_WAIT_MS. */
static bool enter_hashing(struct auth *auth)
{
    const struct timespec until = clock_cond_until(LOGIN_WAIT_MS);
    bool entered;
    int status = 0;

    pthread_mutex_lock(&auth->login_lock);
    while (auth->login_running >= auth->login_max_parallel && status == 0) {
        status = pthread_cond_timedwait(&auth->login_free, &auth->login_lock, &until);
    }
    entered = auth->login_running < auth->login_max_parallel;
    if (entered) {
        auth->login_running++;
    }
    pthread_mutex_unlock(&auth->login_lock);
    return entered;
}

static void leave_hashing(struct auth *auth)
{
    pthread_mutex_lock(&auth->login_lock);
    auth->login_running--;
    pthread_cond_signal(&auth->login_free);
    pthread_mutex_unlock(&auth->login_lock);
}

static int issue_token(struct auth *auth, const struct store_user *user, struct auth_token *ret,
                       struct error *err)
{
    struct token_claims claims = {.expires_at_s = 0};
    int64_t now_s = clock_wall_ms() / 1000;
    char jti[UUID_BYTES];

    id_uuid(jti);
    memset(ret, 0, sizeof(*ret));
    claims.expires_at_s = now_s + auth->token_ttl_s;
    str_copy(claims.subject, sizeof(claims.subject), user->id);
    str_copy(claims.username, sizeof(claims.username), user->username);
    str_copy(claims.role, sizeof(claims.role), user->role);
    str_copy(claims.jti, sizeof(claims.jti), jti);
    claims.generation = user->token_generation;
    if (token_sign(auth->keys, &claims, now_s, ret->access_token, sizeof(ret->access_token), err) !=
        0) {
        return -1;
    }
    ret->expires_in_s = auth->token_ttl_s;
    str_copy(ret->user_id, sizeof(ret->user_id), user->id);
    str_copy(ret->username, sizeof(ret->username), user->username);
    str_copy(ret->role, sizeof(ret->role), user->role);
    return 0;
}

static int wrong_credentials(struct error *err)
{
    return error_set(err, ERR_CREDENTIALS, "wrong user name or password");
}

/* A login attempt. */
struct candidate {
    struct store_user user;
    bool exists, known_address;
};

static int find_candidate(struct auth *auth, const char *username, const char *peer,
                          struct candidate *ret, struct error *err)
{
    struct error find_err = ERROR_INIT;

    memset(ret, 0, sizeof(*ret));
    ret->exists = store_user_find_login(auth->store, username, peer, &ret->user,
                                        &ret->known_address, &find_err) == 0;
    if (!ret->exists && find_err.code != ERR_NOT_FOUND) {
        *err = find_err;
        return -1;
    }
    return 0;
}

/* 0 = the password is right, else ERR_CREDENTIALS. Takes the same time for a user who does not
 * exist. */
static int check_password(struct auth *auth, const struct candidate *candidate,
                          const char *password, struct error *err)
{
    int64_t start_ms = clock_mono_ms();
    bool right = password_verify(
        candidate->exists ? candidate->user.password_hash : auth->dummy_hash, password);

    atomic_store(&auth->check_ms, clock_mono_ms() - start_ms);
    return candidate->exists && right && !candidate->user.disabled ? 0 : wrong_credentials(err);
}

/* Beyond the limits only one attempt succeeds: the right password from an address that this user
 * has logged in from. There the password is checked. Elsewhere it is not, but the refusal takes the
 * time of a check, so that timing does not reveal which users exist. */
static int check_beyond_limits(struct auth *auth, const char *username, const char *peer,
                               const struct candidate *candidate)
{
    if (!candidate->known_address) {
        clock_sleep_ms(atomic_load(&auth->check_ms));
        return -1;
    }
    login_limit_count(auth->limit, username, peer);
    return 0;
}

static void remember_address(struct auth *auth, const struct candidate *candidate, const char *peer)
{
    struct error err = ERROR_INIT;

    if (store_login_address(auth->store, candidate->user.id, peer, &err) != 0) {
        /* the login succeeds; its address is just not remembered as a known one */
        log_error(LOG_WARN, "login.address_not_kept", &err);
    }
}

static int log_in(struct auth *auth, const char *username, const char *password, const char *peer,
                  struct candidate *candidate, struct auth_token *ret, int *retry_after_s,
                  struct error *err)
{
    int slow_s = login_limit_take(auth->limit, username, peer), status;

    *retry_after_s = slow_s;
    if (find_candidate(auth, username, peer, candidate, err) != 0) {
        if (slow_s == 0) {
            login_limit_give_back(auth->limit, username, peer, LOGIN_LIMIT_NOT_TRIED);
        }
        return -1;
    }
    if (slow_s > 0 && check_beyond_limits(auth, username, peer, candidate) != 0) {
        return error_set(err, ERR_RATE_LIMITED, "too many failed logins");
    }
    if (!enter_hashing(auth)) {
        login_limit_give_back(auth->limit, username, peer, LOGIN_LIMIT_NOT_TRIED);
        *retry_after_s = LOGIN_BUSY_RETRY_S;
        return error_set(err, ERR_RATE_LIMITED, "too many logins at once");
    }
    status = check_password(auth, candidate, password, err);
    leave_hashing(auth);
    if (status != 0) {
        return slow_s > 0 ? error_set(err, ERR_RATE_LIMITED, "too many failed logins") : -1;
    }
    status = issue_token(auth, &candidate->user, ret, err);
    login_limit_give_back(auth->limit, username, peer,
                          status == 0 ? LOGIN_LIMIT_SUCCESS : LOGIN_LIMIT_NOT_TRIED);
    if (status == 0) {
        remember_address(auth, candidate, peer);
    }
    return status;
}

int auth_login(struct auth *auth, const char *username, const char *password, const char *peer,
               struct auth_token *ret, int *ret_retry_after_s, struct error *err)
{
    struct candidate candidate = {.exists = false};
    int status;

    *ret_retry_after_s = 0;
    if (!token_keys_can_sign(auth->keys)) {
        return error_set(err, ERR_NOT_IMPLEMENTED,
                         "this server has no key to issue tokens with (JWT_PRIVATE_KEY_FILE)");
    }
    if (username[0] == '\0' || strlen(username) >= LABEL_BYTES ||
        strlen(password) > PASSWORD_MAX_BYTES) {
        return wrong_credentials(err); /* no such user */
    }
    status = log_in(auth, username, password, peer, &candidate, ret, ret_retry_after_s, err);
    sodium_memzero(&candidate, sizeof(candidate));
    return status;
}
