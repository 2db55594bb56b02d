/*
 * store_api_keys - the keys of programs, of which only the SHA-256 is kept.
 *
 * Threads and failure: as store.h.
 */
#ifndef STORE_STORE_API_KEYS_H
#define STORE_STORE_API_KEYS_H

#include "common/store/store.h"

enum { STORE_SCOPES_BYTES = 128, STORE_KEY_HASH_BYTES = 65, STORE_KEY_PREFIX_BYTES = 16 };

struct store_api_key {
    char id[UUID_BYTES];
    char owner[OWNER_BYTES];
    char username[LABEL_BYTES];
    char name[LABEL_BYTES];
    char prefix[STORE_KEY_PREFIX_BYTES];
    char hash[STORE_KEY_HASH_BYTES]; /* SHA-256 of the key, hexadecimal; not read back */
    char scopes[STORE_SCOPES_BYTES]; /* with blanks between them */
    int64_t created_at_ms;
    int64_t expires_at_ms, last_used_at_ms; /* 0 = never */
};

/* ERR_QUOTA when the owner has `max` keys already; 0 = no limit. */
int store_api_key_add(struct store *store, const struct store_api_key *key, int max,
                      struct error *err) MUST_CHECK;
/* The unrevoked ones of `owner` (NULL = of all), the newest first, after the key `after_id` (NULL =
 * from the first). *ret is a heap array. */
int store_api_keys_list(struct store *store, const char *owner, const char *after_id, int limit,
                        struct store_api_key **ret, size_t *ret_count,
                        struct error *err) MUST_CHECK;
/* Reads the unrevoked key with this id; `owner` NULL matches any owner. ERR_NOT_FOUND. */
int store_api_key_get(struct store *store, const char *id, const char *owner,
                      struct store_api_key *ret, struct error *err) MUST_CHECK;
/* Revokes the key: every gateway refuses it after its next refresh. ERR_NOT_FOUND. */
int store_api_key_revoke(struct store *store, const char *id, const char *owner,
                         struct error *err) MUST_CHECK;
/* Adds `replacement`, and lets the key `id` expire after overlap_ms if it would not sooner. */
int store_api_key_rotate(struct store *store, const char *id,
                         const struct store_api_key *replacement, int64_t overlap_ms,
                         struct error *err) MUST_CHECK;

/* The owner on whose behalf a key acts. */
struct store_api_key_holder {
    struct store_api_key key;
    bool is_user; /* the owner is a user of ours; the rest is then that user's */
    bool admin, disabled;
    int64_t token_generation;
};
/* Finds the unrevoked key with this SHA-256. ERR_NOT_FOUND. */
int store_api_key_find(struct store *store, const char *hash, struct store_api_key_holder *ret,
                       struct error *err) MUST_CHECK;
/* Records that these keys were used now, with a precision of one minute. */
int store_api_keys_used(struct store *store, const char *const *ids, size_t count,
                        struct error *err) MUST_CHECK;

#endif
