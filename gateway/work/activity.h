/*
 * activity - records which sandboxes are in use.
 *
 * It moves their idle deadlines, so that a sandbox is never idle while a call runs in it. Handlers
 * report the start and the end of each call. upkeep.c calls activity_flush() ten times a second,
 * which writes all of them in one statement, and activity_watch() once a second, which looks for
 * pauses. Owns: reports that are not written yet. Does not own: the deadline, which the store
 * moves. Threads: any. Failure: a report that could not be written stays for the next flush.
 */
#ifndef GATEWAY_ACTIVITY_H
#define GATEWAY_ACTIVITY_H

#include "common/base/error.h"
#include "common/store/store.h"

struct activity;
struct activity *activity_new(struct store *store);
void activity_free(struct activity *activity);
/* Starts a call. Writes at once when the deadline could pass before the next flush. */
int activity_begin(struct activity *activity, const struct sandbox *sandbox,
                   struct error *err) MUST_CHECK;
void activity_end(struct activity *activity, const char *sandbox_id);
/* ERR_DATABASE_DOWN, ERR_OVERLOADED: nothing was written, and everything stays for the next flush.
 */
int activity_flush(struct activity *activity, struct error *err) MUST_CHECK;
/* Reads, in one statement, which sandboxes in use have been paused. Call it once a second. */
int activity_watch(struct activity *activity, struct error *err) MUST_CHECK;
/* How often activity_watch() has found this sandbox paused. If it grows, the running call was
 * paused. */
unsigned activity_pauses(struct activity *activity, const char *sandbox_id);

#endif
