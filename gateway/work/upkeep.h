/*
 * upkeep - the gateway's periodic work, in one thread: revoked rights, activity, backlog, gauges.
 *
 * Once a second it refreshes revoked rights (auth), looks for pauses (activity), reads the backlog
 * for admission and the gauges, and checks the owner of the Redis keys. Ten times a second it
 * flushes activity. Owns: the thread and the gauges. Does not own: what it refreshes. Threads: any.
 * Failure: one log line when it begins and one when it ends; the last figures stay meanwhile.
 */
#ifndef GATEWAY_UPKEEP_H
#define GATEWAY_UPKEEP_H

#include "common/base/error.h"

struct gateway;
struct upkeep;
struct upkeep *upkeep_start(struct gateway *gateway, struct error *err) MUST_CHECK;
void upkeep_stop(struct upkeep *upkeep); /* NULL-safe */

#endif
