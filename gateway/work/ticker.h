/*
 * ticker - what the gateway does once a second, in a thread of its own: revoked tokens, activity,
 * admission figures, gauges.
 *
 * Owns: the figures last seen, from which admission is answered without a round trip, and the look
 * that readyz takes. Does not own: what it refreshes (auth.h, activity.h). Threads: any. Failure:
 * told in the log when it begins and when it ends; until then the figures are the last ones seen.
 */
#ifndef GATEWAY_TICKER_H
#define GATEWAY_TICKER_H

#include <stdbool.h>

#include "common/base/error.h"
#include "common/queue/queue.h"

struct gateway;
struct ticker;
struct ticker *ticker_start(struct gateway *gateway, const struct queue_options *redis,
                            struct error *err) MUST_CHECK;
void ticker_stop(struct ticker *ticker); /* NULL-safe */

/* ERR_OVERLOADED when the backlog is past its limits for this kind of job: creates are refused
 * first, then all but deletes, which a sandbox can have one of, and reconciles. */
int ticker_admit(struct ticker *ticker, enum job_op op, struct error *err) MUST_CHECK;
/* A job was accepted: it counts before the next look at the backlog. */
void ticker_accepted(struct ticker *ticker);
/* Asks Redis and PostgreSQL now, one caller at a time. Each text is "ok" or what is wrong. */
struct readiness {
    bool ready;
    char database[ERROR_MESSAGE_BYTES], redis[ERROR_MESSAGE_BYTES], workers[64];
};
void ticker_readiness(struct ticker *ticker, struct readiness *ret);

#endif
