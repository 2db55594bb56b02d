/*
 * work_place - limits the requests that hold a thread for long, for the gateway and for each user.
 *
 * Owns: entering and leaving gateway.working and the caller's share. Does not own: the limits
 * (gateway.h, user_share.h). Threads: a request belongs to its thread; the counts are atomic.
 */
#ifndef GATEWAY_WORK_PLACE_H
#define GATEWAY_WORK_PLACE_H

#include "gateway/http/request.h"

/* Takes the caller's share and, for a WORK route, counts the call in it. An ASYNC call beyond the
 * share is accepted, too, but answered at once. ERR_QUOTA. */
int work_place_open(struct request *request, struct error *err) MUST_CHECK;
/* Counts the call among those that may hold a thread for long. ERR_OVERLOADED, ERR_DRAINING. */
int work_place_enter(struct request *request, struct error *err) MUST_CHECK;
/* Both counts for a call of a route without WORK, because it will hold its thread. */
int work_place_take(struct request *request, struct error *err) MUST_CHECK;
/* Takes back what the request was counted in, and gives its buffer bytes back. */
void work_place_leave(struct request *request);

#endif
