/*
 * activity - which sandboxes are in use, so that an idle deadline moves and a running command is
 * never idle.
 *
 * Handlers only note the begin and the end of a call; activity_flush(), called by the ticker ten
 * times a second, touches all of them in one statement. Owns: what is noted and not yet written.
 * Does not own: the deadline, which the store moves. Threads: any. Failure: what could not be
 * written is owed to the next flush.
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

#endif
