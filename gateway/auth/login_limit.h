/*
 * login_limit - slows down guessing: per pair of user name and address, and per address.
 *
 * Beyond the failures that a window allows, attempts are spaced: 1 s after the last one, then 2, 4,
 * up to a maximum. Nobody is locked out: a stranger's failures slow down that stranger's address,
 * and a wait is never longer than the maximum.
 * An attempt is counted as a failure before the password is looked at and taken back on success,
 * so many attempts at once cannot all slip under the limit. The table is bounded; when it is full
 * the key idle longest is forgotten. Keys are kept as hashes.
 * Threads: any. Failure: none. Times come from clock_mono_ms().
 */
#ifndef GATEWAY_LOGIN_LIMIT_H
#define GATEWAY_LOGIN_LIMIT_H

#include <stdint.h>

struct login_limit;
/* Failures allowed in window_s seconds for one user name from one address (pair_max) and for all
 * names from one address, each at least 1: that many times are remembered of a key, 8 bytes each.
 * delay_max_s: the longest wait between attempts beyond them. */
struct login_limit *login_limit_new(int pair_max, int address_max, int window_s, int delay_max_s);
void login_limit_free(struct login_limit *limit);

/* 0 = continue; the attempt is counted. > 0 = refused and not counted; seconds until the next
 * attempt. */
int login_limit_take(struct login_limit *limit, const char *username, const char *address);
/* Counts an attempt that is made although login_limit_take() refused it. */
void login_limit_count(struct login_limit *limit, const char *username, const char *address);
/* Takes an attempt's count back: its password was right, or was not checked. LOGIN_LIMIT_SUCCESS
 * also forgets the pair's earlier failures. */
enum login_limit_end { LOGIN_LIMIT_SUCCESS, LOGIN_LIMIT_NOT_TRIED };
void login_limit_give_back(struct login_limit *limit, const char *username, const char *address,
                           enum login_limit_end end);

#endif
