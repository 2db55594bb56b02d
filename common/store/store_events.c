/* store_events - see store_events.h. */
#include "common/store/store_events.h"

#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/store/store_internal.h"

enum { FEED_SCAN_ROWS = 2000 /* looked at for the types asked for */ };

#define TEXT(field) row_text(result, row, column++, (field), sizeof(field))
#define INT()       row_int(result, row, column++)

static void row_event(const PGresult *result, int row, int column, struct store_event *ret)
{
    ret->cursor.id = INT();
    ret->cursor.position = INT();
    TEXT(ret->sandbox_id);
    TEXT(ret->type);
    TEXT(ret->from);
    TEXT(ret->to);
    TEXT(ret->reason);
    TEXT(ret->actor);
    TEXT(ret->job_id);
    ret->at_ms = INT();
    TEXT(ret->actor_kind);
    TEXT(ret->actor_id);
    ret->settled = INT() != 0;
}

static void read_event(const PGresult *result, int row, void *ret)
{
    row_event(result, row, 0, ret);
}

static const struct row_type event_rows = {sizeof(struct store_event), read_event};

int store_events(struct store *store, const char *sandbox_id,
                 const struct store_event_cursor *after, int limit, bool whole,
                 struct store_event **ret, size_t *ret_count, struct error *err)
{
    struct params p = {.count = 0};

    param_text(&p, sandbox_id);
    param_int(&p, after->position);
    param_int(&p, after->id);
    param_int(&p, limit);
    param_int(&p, whole);
    return select_rows(store, Q_EVENTS, &p, &event_rows, ret, ret_count, err);
}

int store_event_feed(struct store *store, const struct store_event_filter *filter,
                     struct store_event **ret, size_t *ret_count,
                     struct store_event_cursor *ret_next, bool *ret_more, struct error *err)
{
    enum { LAST_POSITION, LAST_ID, FULL, EVENT };
    struct params p = {.count = 0};
    PGresult *result;
    int rows;

    param_text(&p, filter->owner);
    param_int(&p, filter->after.position);
    param_int(&p, filter->after.id);
    param_text(&p, filter->types);
    param_int(&p, filter->limit);
    param_int(&p, filter->types != NULL ? FEED_SCAN_ROWS : filter->limit + 1);
    if (store_query(store, filter->owner != NULL ? Q_EVENTS_OF_OWNER : Q_EVENTS_OF_ALL, &p, &result,
                    err) < 0) {
        return -1;
    }
    rows = PQntuples(result);
    *ret_next = filter->after;
    *ret_more = false;
    *ret_count = rows > 0 && !PQgetisnull(result, 0, EVENT) ? (size_t)rows : 0;
    *ret = xcalloc(*ret_count, sizeof(**ret));
    for (size_t i = 0; i < *ret_count; i++) {
        row_event(result, (int)i, EVENT, &(*ret)[i]);
    }
    if (rows > 0) {
        struct store_event_cursor last = {.position = row_int(result, 0, LAST_POSITION),
                                          .id = row_int(result, 0, LAST_ID)};

        *ret_next = last;
        *ret_more = row_int(result, 0, FULL) != 0;
        if (*ret_count == (size_t)filter->limit) {
            *ret_next = (*ret)[*ret_count - 1].cursor;
            *ret_more = *ret_more || ret_next->id != last.id;
        }
    }
    PQclear(result);
    return 0;
}

int store_events_end(struct store *store, struct store_event_cursor *ret_end,
                     int64_t *ret_newest_id, struct error *err)
{
    const struct params p = {.count = 0};
    PGresult *result;

    if (store_query(store, Q_EVENTS_END, &p, &result, err) < 0) {
        return -1;
    }
    /* ids begin at 1 */
    *ret_end = (struct store_event_cursor){.position = row_int(result, 0, 0)};
    *ret_newest_id = row_int(result, 0, 1);
    PQclear(result);
    return 0;
}

int store_event_clock_mend(struct store *store, struct error *err)
{
    const struct params p = {.count = 0};

    return store_execute(store, Q_EVENT_CLOCK_MEND, &p, err);
}
