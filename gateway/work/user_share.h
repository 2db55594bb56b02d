/*
 * user_share - what each user holds of this gateway's threads and memory, and how much that may be.
 *
 * A thread that serves a slow call cannot be taken back when another user comes. So no user gets
 * more than a part of them in the first place. Owns: the counts of the users who are being served.
 * Threads: any. Failure: ERR_QUOTA.
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
    _Atomic int64_t bytes; /* of all its requests' buffers */
    sem_t accepts;         /* database connections it may still take to have work accepted */
    int holders;           /* under the table's lock */
    struct user_share *next;
};

struct user_shares;
/* Most calls and most bytes of one user, and most database connections in which its work is being
 * accepted: these wait for each other where the user is near a limit. */
struct user_shares *user_shares_new(int max_calls, int64_t max_bytes, int max_accepts);
void user_shares_free(struct user_shares *shares);
int64_t user_shares_max_bytes(const struct user_shares *shares);

/* A user's share, to be given back once for each time it is taken. */
struct user_share *user_share_hold(struct user_shares *shares, const char *subject);
void user_share_release(struct user_shares *shares, struct user_share *share);

/* Counts one call. ERR_QUOTA: it is not counted. */
int user_share_enter(struct user_shares *shares, struct user_share *share,
                     struct error *err) MUST_CHECK;
void user_share_leave(struct user_share *share);

/* Waits for one of those connections; gives it back. */
void user_share_accept_begin(struct user_share *share);
void user_share_accept_end(struct user_share *share);

#endif
