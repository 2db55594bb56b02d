/*
 * login_limit - exact sliding windows in a set-associative table, and the spacing beyond them.
 *
 * Owns: one ring of times a key. A key maps to one set of SET_ENTRIES places by its keyed hash
 * (so nobody can choose names that share a set); the place used longest ago is reused.
 * Threads: one mutex, held for a few comparisons. See login_limit.h.
 */
#include "gateway/auth/login_limit.h"

#include <pthread.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/cidr.h"
#include "common/base/clock.h"

enum { SETS = 1024, SET_ENTRIES = 8, KEY_BYTES = 16, DELAY_FIRST_MS = 1000 };

struct entry {
    unsigned char key[KEY_BYTES];
    int64_t *times_ms; /* ring of `max` */
    int max, first, count;
    int64_t delay_ms; /* wait imposed after the last attempt beyond the limit; 0 = none */
    int64_t next_ms;  /* time from which the next attempt is allowed */
    int64_t used_ms;  /* 0 = free */
};

struct login_limit {
    pthread_mutex_t lock;
    int pair_max, address_max;
    int64_t window_ms, delay_max_ms;
    unsigned char secret[crypto_generichash_KEYBYTES];
    struct entry table[SETS][SET_ENTRIES];
};

struct login_limit *login_limit_new(int pair_max, int address_max, int window_s, int delay_max_s)
{
    struct login_limit *limit = xcalloc(1, sizeof(*limit));

    pthread_mutex_init(&limit->lock, NULL);
    limit->pair_max = pair_max;
    limit->address_max = address_max;
    limit->window_ms = (int64_t)window_s * 1000;
    limit->delay_max_ms = (int64_t)delay_max_s * 1000;
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

/* username NULL: the key for the address alone. */
static void make_key(const struct login_limit *limit, const char *username, const char *address,
                     unsigned char key[KEY_BYTES])
{
    crypto_generichash_state state;
    char client[CIDR_CLIENT_BYTES];

    cidr_client(address, client);
    crypto_generichash_init(&state, limit->secret, sizeof(limit->secret), KEY_BYTES);
    crypto_generichash_update(&state, (const unsigned char *)client, strlen(client) + 1);
    if (username != NULL) {
        crypto_generichash_update(&state, (const unsigned char *)username, strlen(username) + 1);
    }
    crypto_generichash_final(&state, key, KEY_BYTES);
}

static void forget_old(const struct login_limit *limit, struct entry *entry, int64_t now_ms)
{
    while (entry->count > 0 && entry->times_ms[entry->first] + limit->window_ms <= now_ms) {
        entry->first = (entry->first + 1) % entry->max;
        entry->count--;
    }
    if (entry->count == 0) {
        entry->delay_ms = 0;
    }
}

/* Finds this key's entry; if absent and max > 0, makes one. */
static struct entry *entry_of(struct login_limit *limit, const char *username, const char *address,
                              int max, int64_t now_ms)
{
    unsigned char key[KEY_BYTES];
    struct entry *set, *oldest;

    make_key(limit, username, address, key);
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
    oldest->delay_ms = 0;
    return oldest;
}

/* Milliseconds until this key may try again; 0 = now. */
static int64_t blocked_ms(const struct entry *entry, int64_t now_ms)
{
    return entry->count < entry->max || entry->next_ms <= now_ms ? 0 : entry->next_ms - now_ms;
}

static void count_one(const struct login_limit *limit, struct entry *entry, int64_t now_ms)
{
    if (entry->count == entry->max) {
        entry->first = (entry->first + 1) % entry->max;
        entry->count--;
    }
    entry->times_ms[(entry->first + entry->count) % entry->max] = now_ms;
    entry->count++;
    if (entry->count == entry->max) {
        entry->delay_ms = entry->delay_ms == 0 ? DELAY_FIRST_MS : 2 * entry->delay_ms;
        if (entry->delay_ms > limit->delay_max_ms) {
            entry->delay_ms = limit->delay_max_ms;
        }
        entry->next_ms = now_ms + entry->delay_ms;
    }
}

/* Finds both entries. Marks each as used at once, so that the second search cannot evict the first.
 */
static void find_both(struct login_limit *limit, const char *username, const char *address,
                      int64_t now_ms, struct entry **ret_pair, struct entry **ret_address)
{
    *ret_pair = entry_of(limit, username, address, limit->pair_max, now_ms);
    (*ret_pair)->used_ms = now_ms + 1;
    *ret_address = entry_of(limit, NULL, address, limit->address_max, now_ms);
    (*ret_address)->used_ms = now_ms + 1;
}

int login_limit_take(struct login_limit *limit, const char *username, const char *address)
{
    int64_t now_ms = clock_mono_ms(), wait_ms;
    struct entry *pair, *from;

    pthread_mutex_lock(&limit->lock);
    find_both(limit, username, address, now_ms, &pair, &from);
    wait_ms = blocked_ms(pair, now_ms);
    if (blocked_ms(from, now_ms) > wait_ms) {
        wait_ms = blocked_ms(from, now_ms);
    }
    if (wait_ms <= 0) {
        count_one(limit, pair, now_ms);
        count_one(limit, from, now_ms);
    }
    pthread_mutex_unlock(&limit->lock);
    return wait_ms > 0 ? (int)((wait_ms + 999) / 1000) : 0;
}

void login_limit_count(struct login_limit *limit, const char *username, const char *address)
{
    int64_t now_ms = clock_mono_ms();
    struct entry *pair, *from;

    pthread_mutex_lock(&limit->lock);
    find_both(limit, username, address, now_ms, &pair, &from);
    count_one(limit, pair, now_ms);
    count_one(limit, from, now_ms);
    pthread_mutex_unlock(&limit->lock);
}

/* Removes the newest failure, which is the attempt being taken back. */
static void uncount_one(struct entry *entry)
{
    if (entry != NULL && entry->count > 0) {
        entry->count--;
    }
}

void login_limit_give_back(struct login_limit *limit, const char *username, const char *address,
                           enum login_limit_end end)
{
    int64_t now_ms = clock_mono_ms();
    struct entry *pair;

    pthread_mutex_lock(&limit->lock);
    pair = entry_of(limit, username, address, 0, now_ms);
    if (pair != NULL && end == LOGIN_LIMIT_SUCCESS) {
        pair->count = 0;
        pair->delay_ms = 0;
    } else {
        uncount_one(pair);
    }
    uncount_one(entry_of(limit, NULL, address, 0, now_ms));
    pthread_mutex_unlock(&limit->lock);
}
