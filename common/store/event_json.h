/*
 * event_json - an event as CloudEvents 1.0 JSON, and its cursor as text.
 *
 * Threads: any. Failure: none but a cursor that is none.
 */
#ifndef STORE_EVENT_JSON_H
#define STORE_EVENT_JSON_H

#include "common/base/json.h"
#include "common/store/store_events.h"

enum { EVENT_CURSOR_BYTES = 48 };

cJSON *event_json(const struct store_event *event);
void event_cursor_print(const struct store_event_cursor *cursor, char ret[EVENT_CURSOR_BYTES]);
/* ERR_INVALID when the text is no cursor that was given out. */
int event_cursor_parse(const char *text, struct store_event_cursor *ret,
                       struct error *err) MUST_CHECK;

#endif
