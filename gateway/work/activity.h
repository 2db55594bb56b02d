/*
 * activity - which sandboxes are in use, so that an idle deadline moves and a running command is
 * never idle.
 *
 * Handlers only note the begin and the end of a call; activity_flush(), called by upkeep.c ten
 * times a second, touches all of them in one statement, and activity_watch() sees pauses. Owns:
 * what is noted and not yet written. Does not own: the deadline, which the store moves. Threads:
 * any. Failure: what could not be written is owed to the next flush.
 */
#ifndef GATEWAY_ACTIVITY_H
#define GATEWAY_ACTIVITY_H

#include "common/base/error.h"
#include "common/store/store.h"

struct activity;
struct activity *activity_new(struct store *store);
void activity_free(struct activity *activity);
/* Touches at once when the deadline is near enough to strike before the next flush. */
int activity_begin(struct activity *activity, const struct sandbox *sandbox,
                   struct error *err) MUST_CHECK;
void activity_end(struct activity *activity, const char *sandbox_id);
/* ERR_DATABASE_DOWN, ERR_OVERLOADED: nothing was written, and all of it is still owed. */
int activity_flush(struct activity *activity, struct error *err) MUST_CHECK;
/* Looks, in one statement, which of the sandboxes in use have been paused; once a second. */
int activity_watch(struct activity *activity, struct error *err) MUST_CHECK;
/* How often a sandbox in use was seen to be paused: a call that sees it grow was paused. */
unsigned activity_pauses(struct activity *activity, const char *sandbox_id);

#endif
