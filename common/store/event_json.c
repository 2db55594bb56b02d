/* event_json - see event_json.h. */
#include "common/store/event_json.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define SOURCE "/agent/sandboxes/sandboxes"

cJSON *event_json(const struct store_event *event)
{
    cJSON *tree = cJSON_CreateObject(), *data, *actor;
    char text[EVENT_CURSOR_BYTES];

    snprintf(text, sizeof(text), "%lld", (long long)event->cursor.id);
    cJSON_AddStringToObject(tree, "specversion", "1.0");
    cJSON_AddStringToObject(tree, "id", text);
    cJSON_AddStringToObject(tree, "source", SOURCE);
    cJSON_AddStringToObject(tree, "type", event->type);
    if (event->sandbox_id[0] != '\0') {
        cJSON_AddStringToObject(tree, "subject", event->sandbox_id);
    }
    json_add_time(tree, "time", event->at_ms);
    cJSON_AddStringToObject(tree, "datacontenttype", "application/json");
    event_cursor_print(&event->cursor, text);
    cJSON_AddStringToObject(tree, "cursor", text);
    data = cJSON_AddObjectToObject(tree, "data");
    json_add_string_or_null(data, "sandbox_id", event->sandbox_id);
    json_add_string_or_null(data, "from", event->from);
    json_add_string_or_null(data, "to", event->to);
    cJSON_AddStringToObject(data, "reason", event->reason);
    actor = cJSON_AddObjectToObject(data, "actor");
    cJSON_AddStringToObject(actor, "kind", event->actor_kind);
    json_add_string_or_null(actor, "id", event->actor_id);
    json_add_string_or_null(data, "job", event->job_id);
    return tree;
}

void event_cursor_print(const struct store_event_cursor *cursor, char ret[EVENT_CURSOR_BYTES])
{
    snprintf(ret, EVENT_CURSOR_BYTES, "%lld_%lld", (long long)cursor->position,
             (long long)cursor->id);
}

int event_cursor_parse(const char *text, struct store_event_cursor *ret, struct error *err)
{
    char *end = NULL;

    errno = 0;
    if (isdigit((unsigned char)text[0])) {
        ret->position = strtoll(text, &end, 10);
    }
    if (end != NULL && *end == '_' && isdigit((unsigned char)end[1])) {
        ret->id = strtoll(end + 1, &end, 10);
        if (*end == '\0' && errno == 0) {
            return 0;
        }
    }
    return error_set(err, ERR_INVALID, "after is not a cursor that was given out");
}
