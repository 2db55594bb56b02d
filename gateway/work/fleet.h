/*
 * fleet - what the workers say of themselves and of the providers, for /metrics and /readyz.
 *
 * Owns: reading their heartbeats (a worker has no port of its own; its counters travel in the
 * heartbeat it sends anyway), the names of their metrics. Does not own: the form of a heartbeat
 * (lifecycle-worker/heartbeat.c).
 * Threads: any; one at a time reads, and what was read is good for a second. Failure: what a full
 * or absent Redis does not take, workers leave in PostgreSQL; without both there are no figures of
 * workers, and readiness says why.
 */
#ifndef GATEWAY_FLEET_H
#define GATEWAY_FLEET_H

#include "common/base/json.h"
#include "common/base/strbuf.h"
#include "common/queue/queue.h"
#include "common/store/store.h"

struct fleet;
/* `store` outlives it. */
struct fleet *fleet_new(const struct queue_options *redis, struct store *store);
void fleet_free(struct fleet *fleet); /* NULL-safe */

/*
 * Prometheus text of every live worker, with the labels worker and provider. Each series is one
 * worker's own counter: sum them over the workers, after rate().
 */
void fleet_print(struct fleet *fleet, struct strbuf *out);
/* One member a provider: "ok", or what its workers say is wrong with it. */
void fleet_describe(struct fleet *fleet, cJSON *ret);

#endif
