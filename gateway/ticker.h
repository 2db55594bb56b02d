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

/* ERR_OVERLOADED when the backlog is past its limits: refuse new work. */
int ticker_admit(struct ticker *ticker, struct error *err) MUST_CHECK;
/* Asks Redis and PostgreSQL now. Each text is "ok" or what is wrong. */
struct readiness {
    bool ready;
    char database[ERROR_MESSAGE_BYTES], redis[ERROR_MESSAGE_BYTES], workers[64];
};
void ticker_readiness(struct ticker *ticker, struct readiness *ret);

#endif
