/*
 * store_events - the history of sandboxes, and the feed of all events of an owner.
 *
 * A cursor names an event. The feed gives only settled events: those that no later commit can come
 * before. So a reader that goes on from its cursor sees every event once.
 * Threads and failure: as store.h.
 */
#ifndef STORE_STORE_EVENTS_H
#define STORE_STORE_EVENTS_H

#include "common/store/store.h"

struct store_event_cursor {
    int64_t position, id; /* 0, 0 = before the oldest */
};

struct store_event {
    struct store_event_cursor cursor;
    char sandbox_id[UUID_BYTES]; /* "" = its sandbox has no row */
    char type[48];               /* one of event_types.def */
    char from[16], to[16], reason[REASON_BYTES], job_id[UUID_BYTES];
    char actor[64];      /* the process that wrote it; of an accepted create `client` */
    char actor_kind[16]; /* one of event_types.def: who asked for it */
    char actor_id[OWNER_BYTES];
    int64_t at_ms;
    bool settled;
};

/* Reads up to `limit` events of one sandbox that follow `after`, oldest first. `whole` includes
 * events that are not settled. *ret is a heap array. */
int store_events(struct store *store, const char *sandbox_id,
                 const struct store_event_cursor *after, int limit, bool whole,
                 struct store_event **ret, size_t *ret_count, struct error *err) MUST_CHECK;

struct store_event_filter {
    const char *owner; /* NULL = all */
    const char *types; /* with commas between; NULL = all */
    struct store_event_cursor after;
    int limit;
};
/* Reads settled events, oldest first. *ret is a heap array. *ret_next is the cursor of the next
 * call, even when no event was found. *ret_more: more events may follow already. */
int store_event_feed(struct store *store, const struct store_event_filter *filter,
                     struct store_event **ret, size_t *ret_count,
                     struct store_event_cursor *ret_next, bool *ret_more,
                     struct error *err) MUST_CHECK;
/* Returns the cursor behind every settled event, and the id of the newest one; 0 = there is
 * none. */
int store_events_end(struct store *store, struct store_event_cursor *ret_end,
                     int64_t *ret_newest_id, struct error *err) MUST_CHECK;

/* Makes positions go on where they ended after a dump was restored into another cluster, where
 * they would begin again. Changes nothing otherwise. */
int store_event_clock_mend(struct store *store, struct error *err) MUST_CHECK;

#endif
