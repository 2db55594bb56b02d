/*
 * rates - limits the calls per second of each user, over all gateways.
 *
 * A call takes a token from this gateway's copy of its user's bucket, without a round trip. Ten
 * times a second a thread reports the calls of all users to Redis in one command, and reads what
 * all gateways have left. Two gateways together may therefore admit a tenth of a second's calls too
 * many. Without Redis each gateway continues with its own copy. Owns: the buckets, the thread. Does
 * not own: the defaults (config.h), limits of single users (store). Threads: any. Failure: a
 * refusal is ERR_RATE_LIMITED; a full table admits calls.
 */
#ifndef GATEWAY_RATES_H
#define GATEWAY_RATES_H

#include "common/queue/queue.h"
#include "common/store/store.h"

struct rates;
/* per_second: for users without a limit of their own; 0 = no limit. */
struct rates *rates_start(const struct queue_options *redis, struct store *store,
                          int64_t per_second, struct error *err) MUST_CHECK;
void rates_stop(struct rates *rates);

/* A user's bucket. per_second 0 = no limit; the other members are then undefined. */
struct rate_state {
    int64_t per_second, burst, left;
};
/* Takes one call. On a refusal err->retry_after_s is set. */
int rates_take(struct rates *rates, const char *subject, struct rate_state *ret,
               struct error *err) MUST_CHECK;
/* Reads the bucket without taking a call. */
void rates_look(struct rates *rates, const char *subject, struct rate_state *ret);

#endif
