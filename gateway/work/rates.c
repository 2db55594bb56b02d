/*
 * rates - a chained hash of buckets under one mutex, and the thread that settles them with Redis.
 *
 * Tokens are counted in thousandths. A bucket that is full and was not used for a minute is
 * dropped.
 */
#include "gateway/work/rates.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/log.h"
#include "common/store/store_limits.h"

enum {
    BUCKETS = 4096,
    USERS_MAX = 65536,
    SYNC_MS = 100,
    BATCH = 256,
    LIMITS_EVERY_MS = 2000,
    IDLE_MS = 60000,
    BURST_SECONDS = 2,
    MILLI = 1000
};

struct bucket {
    char subject[OWNER_BYTES];
    int64_t per_second; /* 0 = no limit */
    int64_t left_milli;
    int64_t filled_ms; /* time for which left_milli holds */
    int64_t used_ms;   /* time of the last call */
    int64_t untold;    /* calls not reported to Redis yet */
    struct bucket *next;
};

struct rates {
    struct queue *queue;
    struct store *store;
    int64_t per_second;
    pthread_t thread;
    pthread_mutex_t lock; /* guards the fields below */
    pthread_cond_t stop;
    bool stopping;
    struct bucket *buckets[BUCKETS];
    int count;
    struct store_owner_limit *own; /* limits set for single users, sorted by owner */
    size_t own_count;
};

/* ---- buckets; under the lock ----------------------------------------------------------------- */

static int compare_owner(const void *a, const void *b)
{
    return strcmp(((const struct store_owner_limit *)a)->owner,
                  ((const struct store_owner_limit *)b)->owner);
}

static int64_t rate_of(const struct rates *rates, const char *subject)
{
    struct store_owner_limit wanted;
    const struct store_owner_limit *found;

    if (rates->own_count == 0) {
        return rates->per_second;
    }
    str_copy(wanted.owner, sizeof(wanted.owner), subject);
    found = bsearch(&wanted, rates->own, rates->own_count, sizeof(*rates->own), compare_owner);
    return found != NULL ? found->value : rates->per_second;
}

static int64_t burst_milli(const struct bucket *bucket)
{
    return bucket->per_second * BURST_SECONDS * MILLI;
}

static void fill(struct bucket *bucket, int64_t now_ms)
{
    bucket->left_milli += (now_ms - bucket->filled_ms) * bucket->per_second;
    if (bucket->left_milli > burst_milli(bucket)) {
        bucket->left_milli = burst_milli(bucket);
    }
    bucket->filled_ms = now_ms;
}

static struct bucket *find(struct rates *rates, const char *subject, bool make, int64_t now_ms)
{
    struct bucket **slot = &rates->buckets[id_hash64(subject, strlen(subject)) % BUCKETS];
    struct bucket *bucket = *slot;

    while (bucket != NULL && strcmp(bucket->subject, subject) != 0) {
        bucket = bucket->next;
    }
    if (bucket == NULL && make && rates->count < USERS_MAX) {
        bucket = xcalloc(1, sizeof(*bucket));
        str_copy(bucket->subject, sizeof(bucket->subject), subject);
        bucket->per_second = rate_of(rates, subject);
        bucket->left_milli = burst_milli(bucket);
        bucket->filled_ms = now_ms;
        bucket->next = *slot;
        *slot = bucket;
        rates->count++;
    }
    if (bucket != NULL) {
        fill(bucket, now_ms);
    }
    return bucket;
}

static void tell(const struct bucket *bucket, struct rate_state *ret)
{
    *ret = (struct rate_state){.per_second = bucket->per_second,
                               .burst = bucket->per_second * BURST_SECONDS,
                               .left = bucket->left_milli > 0 ? bucket->left_milli / MILLI : 0};
}

int rates_take(struct rates *rates, const char *subject, struct rate_state *ret, struct error *err)
{
    int64_t now_ms = clock_mono_ms(), missing_milli = 0;
    struct bucket *bucket;

    *ret = (struct rate_state){.per_second = 0};
    pthread_mutex_lock(&rates->lock);
    bucket = find(rates, subject, true, now_ms);
    if (bucket != NULL && bucket->per_second > 0) {
        if (bucket->left_milli >= MILLI) {
            bucket->left_milli -= MILLI;
            bucket->untold++;
            bucket->used_ms = now_ms;
        } else {
            missing_milli = MILLI - bucket->left_milli;
        }
        tell(bucket, ret);
    }
    pthread_mutex_unlock(&rates->lock);
    if (missing_milli == 0) {
        return 0;
    }
    error_set(err, ERR_RATE_LIMITED, "%lld calls a second are allowed", (long long)ret->per_second);
    err->retry_after_s =
        (int)((missing_milli + ret->per_second * MILLI - 1) / (ret->per_second * MILLI));
    return -1;
}

void rates_look(struct rates *rates, const char *subject, struct rate_state *ret)
{
    struct bucket *bucket;

    *ret = (struct rate_state){.per_second = 0};
    pthread_mutex_lock(&rates->lock);
    bucket = find(rates, subject, true, clock_mono_ms());
    if (bucket != NULL) {
        tell(bucket, ret);
    }
    pthread_mutex_unlock(&rates->lock);
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* Takes up to BATCH buckets with unreported calls, and counts these calls as reported. */
static size_t collect(struct rates *rates, struct queue_rate *batch, char (*subjects)[OWNER_BYTES],
                      int *slot)
{
    size_t count = 0;

    pthread_mutex_lock(&rates->lock);
    for (; *slot < BUCKETS && count < BATCH; (*slot)++) {
        for (struct bucket *b = rates->buckets[*slot]; b != NULL && count < BATCH; b = b->next) {
            if (b->untold == 0 || b->per_second == 0) {
                continue;
            }
            sha256_hex(b->subject, strlen(b->subject), batch[count].key);
            batch[count].per_second = b->per_second;
            batch[count].burst = b->per_second * BURST_SECONDS;
            batch[count].used = b->untold;
            b->untold = 0;
            memcpy(subjects[count++], b->subject, OWNER_BYTES);
        }
    }
    pthread_mutex_unlock(&rates->lock);
    return count;
}

/* Sets each bucket to what Redis has left, minus the calls taken here meanwhile. */
static void apply(struct rates *rates, const struct queue_rate *batch,
                  char (*subjects)[OWNER_BYTES], size_t count)
{
    int64_t now_ms = clock_mono_ms();

    pthread_mutex_lock(&rates->lock);
    for (size_t i = 0; i < count; i++) {
        struct bucket *bucket = find(rates, subjects[i], false, now_ms);

        if (bucket != NULL) {
            bucket->left_milli = (batch[i].ret_left - bucket->untold) * MILLI;
        }
    }
    pthread_mutex_unlock(&rates->lock);
}

static void forget_idle(struct rates *rates)
{
    int64_t now_ms = clock_mono_ms();

    pthread_mutex_lock(&rates->lock);
    for (int i = 0; i < BUCKETS; i++) {
        struct bucket **link = &rates->buckets[i];

        while (*link != NULL) {
            struct bucket *bucket = *link;

            fill(bucket, now_ms);
            if (bucket->untold > 0 || now_ms - bucket->used_ms < IDLE_MS ||
                bucket->left_milli < burst_milli(bucket)) {
                link = &bucket->next;
                continue;
            }
            *link = bucket->next;
            free(bucket);
            rates->count--;
        }
    }
    pthread_mutex_unlock(&rates->lock);
}

static int read_limits(struct rates *rates, struct error *err)
{
    struct store_owner_limit *own, *old;
    size_t count;

    if (store_limit_owners(rates->store, LIMIT_CALLS, &own, &count, err) < 0) {
        return -1;
    }
    pthread_mutex_lock(&rates->lock);
    old = rates->own;
    rates->own = own;
    rates->own_count = count;
    for (int i = 0; i < BUCKETS; i++) {
        for (struct bucket *bucket = rates->buckets[i]; bucket != NULL; bucket = bucket->next) {
            int64_t per_second = rate_of(rates, bucket->subject);

            if (per_second != bucket->per_second) {
                bucket->per_second = per_second;
                bucket->left_milli = burst_milli(bucket);
            }
        }
    }
    pthread_mutex_unlock(&rates->lock);
    free(old);
    return 0;
}

static int settle_with_redis(struct rates *rates, struct queue_rate *batch,
                             char (*subjects)[OWNER_BYTES], struct error *err)
{
    int slot = 0, status = 0;

    while (slot < BUCKETS && status == 0) {
        size_t count = collect(rates, batch, subjects, &slot);

        if (count > 0) {
            status = queue_rates(rates->queue, batch, count, err);
        }
        if (count > 0 && status == 0) {
            apply(rates, batch, subjects, count);
        }
    }
    return status;
}

static bool pause_or_stop(struct rates *rates)
{
    const struct timespec until = clock_cond_until(SYNC_MS);
    bool stopping;
    int status = 0;

    pthread_mutex_lock(&rates->lock);
    while (!rates->stopping && status == 0) {
        status = pthread_cond_timedwait(&rates->stop, &rates->lock, &until);
    }
    stopping = rates->stopping;
    pthread_mutex_unlock(&rates->lock);
    return stopping;
}

static void *keep_settled(void *arg)
{
    struct rates *rates = arg;
    struct queue_rate *batch = xcalloc(BATCH, sizeof(*batch));
    char(*subjects)[OWNER_BYTES] = xcalloc(BATCH, sizeof(*subjects));
    int64_t next_limits_ms = 0;
    bool down = false;

    do {
        struct error err = ERROR_INIT;
        int status = settle_with_redis(rates, batch, subjects, &err);

        if (status < 0 && !down) {
            log_error(LOG_WARN, "rates.not_shared",
                      &err); /* each gateway continues with its own buckets */
        }
        down = status < 0;
        if (clock_mono_ms() >= next_limits_ms) {
            struct error store_err = ERROR_INIT;

            /* upkeep.c logs that the database is away; the values known so far stay */
            (void)read_limits(rates, &store_err);
            forget_idle(rates);
            next_limits_ms = clock_mono_ms() + LIMITS_EVERY_MS;
        }
    } while (!pause_or_stop(rates));
    free(batch);
    free(subjects);
    return NULL;
}

struct rates *rates_start(const struct queue_options *redis, struct store *store,
                          int64_t per_second, struct error *err)
{
    struct rates *rates = xcalloc(1, sizeof(*rates));
    int status;

    rates->queue = queue_new(redis);
    rates->store = store;
    rates->per_second = per_second;
    pthread_mutex_init(&rates->lock, NULL);
    clock_cond_init(&rates->stop);
    status = pthread_create(&rates->thread, NULL, keep_settled, rates);
    if (status != 0) {
        error_set_errno(err, ERR_INTERNAL, status, "starting the rate limiter");
        return NULL;
    }
    return rates;
}

void rates_stop(struct rates *rates)
{
    if (rates == NULL) {
        return;
    }
    pthread_mutex_lock(&rates->lock);
    rates->stopping = true;
    pthread_cond_signal(&rates->stop);
    pthread_mutex_unlock(&rates->lock);
    pthread_join(rates->thread, NULL);
    for (int i = 0; i < BUCKETS; i++) {
        for (struct bucket *bucket = rates->buckets[i], *next; bucket != NULL; bucket = next) {
            next = bucket->next;
            free(bucket);
        }
    }
    queue_free(rates->queue);
    free(rates->own);
    pthread_cond_destroy(&rates->stop);
    pthread_mutex_destroy(&rates->lock);
    free(rates);
}
