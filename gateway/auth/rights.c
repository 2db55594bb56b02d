/*
 * rights - two hash tables under one read-write lock, filled from the store by growing ids.
 *
 * Each refresh reads a few ids again, because a transaction may commit behind a later one. Revoked
 * tokens are forgotten when they have expired. Changed users are kept: about 100 bytes each.
 */
#include "gateway/auth/rights.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"

enum { BUCKETS = 4096, OVERLAP = 1000 };

struct revoked {
    char jti[JTI_BYTES];
    int64_t expires_at_ms;
    struct revoked *next;
};

struct changed {
    struct store_user_change change;
    struct changed *next;
};

struct rights {
    struct store *store;
    pthread_rwlock_t lock; /* guards both tables */
    struct revoked *revoked[BUCKETS];
    struct changed *changed[BUCKETS];
    pthread_mutex_t refresh_lock; /* serializes reads of the store; guards the two ids below */
    int64_t last_revoked, last_changed;
    _Atomic bool known;
};

struct rights *rights_new(struct store *store)
{
    struct rights *rights = xcalloc(1, sizeof(*rights));

    rights->store = store;
    pthread_rwlock_init(&rights->lock, NULL);
    pthread_mutex_init(&rights->refresh_lock, NULL);
    return rights;
}

void rights_free(struct rights *rights)
{
    if (rights == NULL) {
        return;
    }
    for (int i = 0; i < BUCKETS; i++) {
        for (struct revoked *entry = rights->revoked[i], *next; entry != NULL; entry = next) {
            next = entry->next;
            free(entry);
        }
        for (struct changed *entry = rights->changed[i], *next; entry != NULL; entry = next) {
            next = entry->next;
            free(entry);
        }
    }
    pthread_rwlock_destroy(&rights->lock);
    pthread_mutex_destroy(&rights->refresh_lock);
    free(rights);
}

static size_t bucket_of(const char *id)
{
    return id_hash64(id, strlen(id)) % BUCKETS;
}

/* Under the lock. */
static struct revoked *find_revoked(const struct rights *rights, const char *jti)
{
    struct revoked *entry = rights->revoked[bucket_of(jti)];

    while (entry != NULL && strcmp(entry->jti, jti) != 0) {
        entry = entry->next;
    }
    return entry;
}

/* Under the lock. */
static struct changed *find_changed(const struct rights *rights, const char *id)
{
    struct changed *entry = rights->changed[bucket_of(id)];

    while (entry != NULL && strcmp(entry->change.id, id) != 0) {
        entry = entry->next;
    }
    return entry;
}

static void add_revoked(void *arg, const char *jti, int64_t expires_at_ms)
{
    struct rights *rights = arg;
    struct revoked **bucket = &rights->revoked[bucket_of(jti)];
    struct revoked *entry;

    if (strlen(jti) >= JTI_BYTES) {
        /* no token with such a long jti is accepted, so none can match */
        return;
    }
    pthread_rwlock_wrlock(&rights->lock);
    if (find_revoked(rights, jti) == NULL) {
        entry = xcalloc(1, sizeof(*entry));
        str_copy(entry->jti, sizeof(entry->jti), jti);
        entry->expires_at_ms = expires_at_ms;
        entry->next = *bucket;
        *bucket = entry;
    }
    pthread_rwlock_unlock(&rights->lock);
}

static void add_changed(void *arg, const struct store_user_change *change)
{
    struct rights *rights = arg;
    struct changed **bucket = &rights->changed[bucket_of(change->id)];
    struct changed *entry;

    pthread_rwlock_wrlock(&rights->lock);
    entry = find_changed(rights, change->id);
    if (entry == NULL) {
        entry = xcalloc(1, sizeof(*entry));
        entry->next = *bucket;
        *bucket = entry;
    }
    if (change->generation >= entry->change.generation) {
        entry->change = *change;
    }
    pthread_rwlock_unlock(&rights->lock);
}

/* Forgets revocations whose tokens have expired anyway. */
static void purge_revoked(struct rights *rights)
{
    int64_t now_ms = clock_wall_ms();

    pthread_rwlock_wrlock(&rights->lock);
    for (int i = 0; i < BUCKETS; i++) {
        struct revoked **link = &rights->revoked[i];

        while (*link != NULL) {
            struct revoked *entry = *link;

            if (entry->expires_at_ms > now_ms) {
                link = &entry->next;
                continue;
            }
            *link = entry->next;
            free(entry);
        }
    }
    pthread_rwlock_unlock(&rights->lock);
}

static int64_t read_again_from(int64_t last)
{
    return last > OVERLAP ? last - OVERLAP : 0;
}

int rights_refresh(struct rights *rights, struct error *err)
{
    int64_t revoked = 0, changed = 0;
    int status;

    pthread_mutex_lock(&rights->refresh_lock);
    status = store_tokens_revoked(rights->store, read_again_from(rights->last_revoked), add_revoked,
                                  rights, &revoked, err);
    if (status == 0) {
        status = store_users_changed(rights->store, read_again_from(rights->last_changed),
                                     add_changed, rights, &changed, err);
    }
    if (status == 0) {
        rights->last_revoked = revoked > rights->last_revoked ? revoked : rights->last_revoked;
        rights->last_changed = changed > rights->last_changed ? changed : rights->last_changed;
        atomic_store(&rights->known, true);
        purge_revoked(rights);
    }
    pthread_mutex_unlock(&rights->refresh_lock);
    return status;
}

bool rights_known(const struct rights *rights)
{
    return atomic_load(&rights->known);
}

int rights_revoke(struct rights *rights, const char *jti, int64_t expires_at_ms, struct error *err)
{
    if (store_token_revoke(rights->store, jti, expires_at_ms, err) != 0) {
        return -1;
    }
    add_revoked(rights, jti, expires_at_ms);
    return 0;
}

/* For our own tokens the generation decides: a disabled user gets no token, and a newer generation
 * was issued after the change. A token without one comes from another issuer, or from an old
 * release: then its `iat` decides, in whole seconds. */
static bool ended_by(const struct store_user_change *change, const struct principal *principal)
{
    if (principal->by_key) { /* a new password does not end API keys */
        return change->disabled && principal->generation <= change->generation;
    }
    return principal->own ? principal->generation < change->generation
                          : change->disabled || principal->issued_at_ms <= change->not_before_ms;
}

bool rights_ended(struct rights *rights, const struct principal *principal)
{
    const struct changed *changed;
    bool ended;

    pthread_rwlock_rdlock(&rights->lock);
    changed = find_changed(rights, principal->subject);
    ended = (principal->jti[0] != '\0' && find_revoked(rights, principal->jti) != NULL) ||
            (changed != NULL && ended_by(&changed->change, principal));
    pthread_rwlock_unlock(&rights->lock);
    return ended;
}

bool rights_user_disabled(struct rights *rights, const char *subject)
{
    const struct changed *changed;
    bool disabled;

    pthread_rwlock_rdlock(&rights->lock);
    changed = find_changed(rights, subject);
    disabled = changed != NULL && changed->change.disabled;
    pthread_rwlock_unlock(&rights->lock);
    return disabled;
}

bool rights_user_changed(struct rights *rights, const struct principal *principal)
{
    const struct changed *changed;
    bool newer;

    pthread_rwlock_rdlock(&rights->lock);
    changed = find_changed(rights, principal->subject);
    newer = changed != NULL && changed->change.generation > principal->generation;
    pthread_rwlock_unlock(&rights->lock);
    return newer;
}
