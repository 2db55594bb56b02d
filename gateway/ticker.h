/*
 * ticker - what the gateway does once a second, in a thread of its own: revoked tokens, activity,
 * admission figures, gauges.
 *
 * Also answers readyz and admission from what it saw last, so that those cost no round trip.
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
void ticker_stop(struct ticker *ticker);

/* ERR_OVERLOADED when the backlog is past its limits for this kind of job: creates are refused
 * first, then all but deletes, which a sandbox can have one of, and reconciles. */
int ticker_admit(struct ticker *ticker, enum job_op op, struct error *err) MUST_CHECK;
/* A job was accepted: it counts before the next look at the backlog. */
void ticker_accepted(struct ticker *ticker);
/* Asks Redis and PostgreSQL now. Each text is "ok" or what is wrong. */
struct readiness {
    bool ready;
    char database[ERROR_MESSAGE_BYTES], redis[ERROR_MESSAGE_BYTES], workers[64];
};
void ticker_readiness(struct ticker *ticker, struct readiness *ret);

#endif
