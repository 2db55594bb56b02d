/* user_share - see user_share.h. A chained hash table under a mutex; an entry exists while a
 * request holds it. */
#include "gateway/work/user_share.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/id.h"

enum { BUCKETS = 256, RETRY_S = 1 };

struct user_shares {
    int max_calls, max_accepts;
    int64_t max_bytes;
    pthread_mutex_t lock;
    struct user_share *buckets[BUCKETS];
};

struct user_shares *user_shares_new(int max_calls, int64_t max_bytes, int max_accepts)
{
    struct user_shares *shares = xcalloc(1, sizeof(*shares));

    shares->max_calls = max_calls > 0 ? max_calls : 1;
    shares->max_bytes = max_bytes;
    shares->max_accepts = max_accepts > 0 ? max_accepts : 1;
    pthread_mutex_init(&shares->lock, NULL);
    return shares;
}

void user_shares_free(struct user_shares *shares)
{
    if (shares != NULL) {
        pthread_mutex_destroy(&shares->lock);
        free(shares);
    }
}

int64_t user_shares_max_bytes(const struct user_shares *shares)
{
    return shares->max_bytes;
}

static struct user_share **bucket_of(struct user_shares *shares, const char *subject)
{
    return &shares->buckets[id_hash64(subject, strlen(subject)) % BUCKETS];
}

struct user_share *user_share_hold(struct user_shares *shares, const char *subject)
{
    struct user_share **bucket = bucket_of(shares, subject), *share;

    pthread_mutex_lock(&shares->lock);
    share = *bucket;
    while (share != NULL && strcmp(share->subject, subject) != 0) {
        share = share->next;
    }
    if (share == NULL) {
        share = xcalloc(1, sizeof(*share));
        str_copy(share->subject, sizeof(share->subject), subject);
        sem_init(&share->accepts, 0, (unsigned)shares->max_accepts);
        share->next = *bucket;
        *bucket = share;
    }
    share->holders++;
    pthread_mutex_unlock(&shares->lock);
    return share;
}

void user_share_release(struct user_shares *shares, struct user_share *share)
{
    struct user_share **link = bucket_of(shares, share->subject);

    pthread_mutex_lock(&shares->lock);
    if (--share->holders == 0) {
        while (*link != share) {
            link = &(*link)->next;
        }
        *link = share->next;
        sem_destroy(&share->accepts);
        free(share);
    }
    pthread_mutex_unlock(&shares->lock);
}

int user_share_enter(struct user_shares *shares, struct user_share *share, struct error *err)
{
    if (atomic_fetch_add(&share->calls, 1) < shares->max_calls) {
        return 0;
    }
    atomic_fetch_sub(&share->calls, 1);
    error_set(err, ERR_QUOTA, "calls_at_once: the limit is %d, and as many are being served",
              shares->max_calls);
    err->limit = err->used = shares->max_calls;
    err->retry_after_s = RETRY_S;
    return -1;
}

void user_share_leave(struct user_share *share)
{
    atomic_fetch_sub(&share->calls, 1);
}

void user_share_accept_begin(struct user_share *share)
{
    while (sem_wait(&share->accepts) != 0) {
        continue; /* interrupted by a signal */
    }
}

void user_share_accept_end(struct user_share *share)
{
    sem_post(&share->accepts);
}
