/*
 * rates - how many calls a second each user may make.
 *
 * A call takes a token from this gateway's copy of its user's bucket: no round trip. A thread tells
 * Redis ten times a second what was taken, for all users in one command, and learns what is left of
 * what all gateways share. So two gateways together let through a tenth of a second's calls too
 * many. Without Redis each gateway's own copy goes on alone.
 * Owns: the buckets, the thread. Does not own: the defaults (config.h), users' own values (store).
 * Threads: any. Failure: a refusal is ERR_RATE_LIMITED; a table that is full lets calls through.
 */
#ifndef GATEWAY_RATES_H
#define GATEWAY_RATES_H

#include "common/queue/queue.h"
#include "common/store/store.h"

struct rates;
/* per_second: of a user without a value of its own; 0 = no limit. */
struct rates *rates_start(const struct queue_options *redis, struct store *store,
                          int64_t per_second, struct error *err) MUST_CHECK;
void rates_stop(struct rates *rates);

/* What a user has of calls; per_second 0 = no limit, and the rest means nothing. */
struct rate_state {
    int64_t per_second, burst, left;
};
/* Takes one call. On a refusal err->retry_after_s is set. */
int rates_take(struct rates *rates, const char *subject, struct rate_state *ret,
               struct error *err) MUST_CHECK;
/* The same without taking one. */
void rates_look(struct rates *rates, const char *subject, struct rate_state *ret);

#endif
