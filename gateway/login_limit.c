/*
 * login_limit - exact sliding windows in a set-associative table.
 *
 * Owns: one ring of times a key. A key maps to one set of SET_ENTRIES places by its keyed hash
 * (so nobody can choose names that share a set); the place used longest ago is reused.
 * Threads: one mutex, held for a few comparisons. See login_limit.h.
 */
#include "gateway/login_limit.h"

#include <pthread.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"

enum { SETS = 1024, SET_ENTRIES = 8, KEY_BYTES = 16 };

struct entry {
    unsigned char key[KEY_BYTES];
    int64_t *times_ms; /* ring of `max` */
    int max, first, count;
    int64_t used_ms; /* 0 = free */
};

struct login_limit {
    pthread_mutex_t lock;
    int user_max, address_max;
    int64_t window_ms;
    unsigned char secret[crypto_generichash_KEYBYTES];
    struct entry table[SETS][SET_ENTRIES];
};

struct login_limit *login_limit_new(int user_max, int address_max, int window_s)
{
    struct login_limit *limit = xcalloc(1, sizeof(*limit));

    pthread_mutex_init(&limit->lock, NULL);
    limit->user_max = user_max;
    limit->address_max = address_max;
    limit->window_ms = (int64_t)window_s * 1000;
    randombytes_buf(limit->secret, sizeof(limit->secret));
    return limit;
}

void login_limit_free(struct login_limit *limit)
{
    if (limit == NULL) {
        return;
    }
    for (int s = 0; s < SETS; s++) {
        for (int i = 0; i < SET_ENTRIES; i++) {
            free(limit->table[s][i].times_ms);
        }
    }
    pthread_mutex_destroy(&limit->lock);
    free(limit);
}

static void make_key(const struct login_limit *limit, const char *kind, const char *text,
                     unsigned char key[KEY_BYTES])
{
    crypto_generichash_state state;

    crypto_generichash_init(&state, limit->secret, sizeof(limit->secret), KEY_BYTES);
    crypto_generichash_update(&state, (const unsigned char *)kind, strlen(kind) + 1);
    crypto_generichash_update(&state, (const unsigned char *)text, strlen(text));
    crypto_generichash_final(&state, key, KEY_BYTES);
}

static void forget_old(const struct login_limit *limit, struct entry *entry, int64_t now_ms)
{
    while (entry->count > 0 && entry->times_ms[entry->first] + limit->window_ms <= now_ms) {
        entry->first = (entry->first + 1) % entry->max;
        entry->count--;
    }
}

/* The entry of this key; when absent and `max` > 0, a new one. */
static struct entry *entry_of(struct login_limit *limit, const char *kind, const char *text,
                              int max, int64_t now_ms)
{
    unsigned char key[KEY_BYTES];
    struct entry *set, *oldest;

    make_key(limit, kind, text, key);
    set = limit->table[(key[0] | key[1] << 8) % SETS];
    oldest = &set[0];
    for (int i = 0; i < SET_ENTRIES; i++) {
        if (set[i].used_ms != 0 && memcmp(set[i].key, key, KEY_BYTES) == 0) {
            forget_old(limit, &set[i], now_ms);
            return &set[i];
        }
        if (set[i].used_ms < oldest->used_ms) {
            oldest = &set[i];
        }
    }
    if (max <= 0) {
        return NULL;
    }
    if (oldest->max != max) {
        free(oldest->times_ms);
        oldest->times_ms = xcalloc((size_t)max, sizeof(*oldest->times_ms));
        oldest->max = max;
    }
    memcpy(oldest->key, key, KEY_BYTES);
    oldest->first = 0;
    oldest->count = 0;
    return oldest;
}

/* ms until this key may try again; 0 = now. */
static int64_t blocked_ms(const struct login_limit *limit, const struct entry *entry,
                          int64_t now_ms)
{
    if (entry->count < entry->max) {
        return 0;
    }
    return entry->times_ms[entry->first] + limit->window_ms - now_ms;
}

static void count_one(struct entry *entry, int64_t now_ms)
{
    entry->times_ms[(entry->first + entry->count) % entry->max] = now_ms;
    entry->count++;
}

int login_limit_take(struct login_limit *limit, const char *username, const char *address)
{
    int64_t now_ms = clock_mono_ms(), wait_ms;
    struct entry *user, *from;

    pthread_mutex_lock(&limit->lock);
    /* marked as used at once, so that the second search cannot take the first one's place */
    user = entry_of(limit, "user", username, limit->user_max, now_ms);
    user->used_ms = now_ms + 1;
    from = entry_of(limit, "address", address, limit->address_max, now_ms);
    from->used_ms = now_ms + 1;
    wait_ms = blocked_ms(limit, user, now_ms);
    if (blocked_ms(limit, from, now_ms) > wait_ms) {
        wait_ms = blocked_ms(limit, from, now_ms);
    }
    if (wait_ms <= 0) {
        count_one(user, now_ms);
        count_one(from, now_ms);
    }
    pthread_mutex_unlock(&limit->lock);
    return wait_ms > 0 ? (int)((wait_ms + 999) / 1000) : 0;
}

void login_limit_give_back(struct login_limit *limit, const char *username, const char *address,
                           enum login_limit_end end)
{
    int64_t now_ms = clock_mono_ms();
    struct entry *user, *from;

    pthread_mutex_lock(&limit->lock);
    user = entry_of(limit, "user", username, 0, now_ms);
    from = entry_of(limit, "address", address, 0, now_ms);
    if (user != NULL && end == LOGIN_LIMIT_SUCCESS) {
        user->count = 0;
    } else if (user != NULL && user->count > 0) {
        user->count--;
    }
    if (from != NULL && from->count > 0) {
        from->count--;
    }
    pthread_mutex_unlock(&limit->lock);
}
