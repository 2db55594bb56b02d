/*
 * login_limit - how often a login may fail: per user name and per address, in a sliding window.
 *
 * An attempt is counted as a failure before the password is looked at and taken back on success,
 * so many attempts at once cannot all slip under the limit. The table is bounded; when it is full
 * the key idle longest is forgotten. Keys are kept as hashes.
 * Threads: any. Failure: none. Times come from clock_mono_ms().
 */
#ifndef GATEWAY_LOGIN_LIMIT_H
#define GATEWAY_LOGIN_LIMIT_H

#include <stdint.h>

struct login_limit;
/* Failures allowed in window_s seconds for one user name and for one address, each at least 1: that
 * many times are remembered of a key, 8 bytes each. */
struct login_limit *login_limit_new(int user_max, int address_max, int window_s);
void login_limit_free(struct login_limit *limit);

/* 0 = go on, the attempt is counted; > 0 = refused, seconds until another may be made. */
int login_limit_take(struct login_limit *limit, const char *username, const char *address);
/* The attempt was right, or was never really made: takes its count back. LOGIN_LIMIT_SUCCESS also
 * forgets the user's earlier failures. */
enum login_limit_end { LOGIN_LIMIT_SUCCESS, LOGIN_LIMIT_NOT_TRIED };
void login_limit_give_back(struct login_limit *limit, const char *username, const char *address,
                           enum login_limit_end end);

#endif
