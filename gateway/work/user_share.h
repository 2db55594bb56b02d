/*
 * user_share - limits how much of this gateway's threads and memory one user may hold.
 *
 * A thread that serves a slow call cannot be taken back when another user comes, so no user gets
 * more than a part of the threads. Owns: the counts of users with requests in service. Threads:
 * any. Failure: ERR_QUOTA.
 */
#ifndef GATEWAY_USER_SHARE_H
#define GATEWAY_USER_SHARE_H

#include <semaphore.h>
#include <stdatomic.h>
#include <stdint.h>

#include "common/base/error.h"

struct user_share {
    char subject[256];
    _Atomic int calls;     /* WORK calls being served */
    _Atomic int64_t bytes; /* bytes in the buffers of all its requests */
    sem_t accepts;         /* database connections it may still use to have jobs accepted */
    int holders;           /* requests that hold this entry; guarded by the table's lock */
    struct user_share *next;
};

struct user_shares;
/* Limits for one user: calls in service, buffer bytes, and database connections used to accept
 * jobs. Accepts of one user lock each other out near a quota, so they may not fill the pool. */
struct user_shares *user_shares_new(int max_calls, int64_t max_bytes, int max_accepts);
void user_shares_free(struct user_shares *shares);
int64_t user_shares_max_bytes(const struct user_shares *shares);

/* Returns the user's share. Release it once for each time it was taken. */
struct user_share *user_share_hold(struct user_shares *shares, const char *subject);
void user_share_release(struct user_shares *shares, struct user_share *share);

/* Counts one call. ERR_QUOTA: it is not counted. */
int user_share_enter(struct user_shares *shares, struct user_share *share,
                     struct error *err) MUST_CHECK;
void user_share_leave(struct user_share *share);

/* Waits for one of the user's database connections; gives it back. */
void user_share_accept_begin(struct user_share *share);
void user_share_accept_end(struct user_share *share);

#endif
