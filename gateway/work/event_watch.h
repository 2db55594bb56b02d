/*
 * event_watch - tells the requests that follow the event feed when there is something new.
 *
 * Owns: one thread that asks PostgreSQL for the newest event while somebody follows, for all
 * followers together: at once when a job has ended that this gateway waited for, else twice a
 * second. Not LISTEN: a NOTIFY makes all commits of the database queue for one lock. Does not own:
 * reading the events. Threads: any.
 */
#ifndef GATEWAY_EVENT_WATCH_H
#define GATEWAY_EVENT_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/store/store.h"

struct event_watch;
struct event_watch *event_watch_start(struct store *store, int max_followers,
                                      struct error *err) MUST_CHECK;
void event_watch_stop(struct event_watch *watch);

/* Counts one follower, which ends with event_watch_leave(). ERR_OVERLOADED: there are too many. */
int event_watch_enter(struct event_watch *watch, struct error *err) MUST_CHECK;
void event_watch_leave(struct event_watch *watch);
/* Grows whenever there is something new. */
uint64_t event_watch_state(struct event_watch *watch);
/* Waits until it is no longer `state`, at most timeout_ms; false when nothing is new. */
bool event_watch_wait(struct event_watch *watch, uint64_t state, int64_t timeout_ms);
/* Something has happened: looks now. */
void event_watch_poke(struct event_watch *watch);

#endif
