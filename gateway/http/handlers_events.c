/*
 * handlers_events - the history of a sandbox, and the event feed by pages or as it grows.
 */
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/store/event_json.h"
#include "gateway/http/handlers.h"
#include "gateway/work/lifecycle.h"
#include "gateway/work/work_place.h"

enum {
    HISTORY_MAX = 1000,        /* events of a sandbox in one answer */
    TYPES_BYTES = 1024,        /* `types` of the query */
    STREAM_PAGE = 100,         /* events read at once for a stream */
    STREAM_EVENT_BYTES = 8192, /* one of them: each byte of a reason may be escaped */
    STREAM_WAIT_MS = 1000,     /* how soon a stream sees that it is to end */
    STREAM_KEEPALIVE_MS = 4500 /* silence before a comment is sent */
};

static const char *const type_names[] = {
#define TYPE(code, name, meaning) name,
#define ACTOR(code, name, meaning)
#include "common/domain/event_types.def"
#undef TYPE
#undef ACTOR
};
enum { TYPE_COUNT = sizeof(type_names) / sizeof(type_names[0]) };

static void add_cursor(cJSON *tree, const char *name, const struct store_event_cursor *cursor)
{
    char text[EVENT_CURSOR_BYTES];

    event_cursor_print(cursor, text);
    cJSON_AddStringToObject(tree, name, text);
}

/* ---- of one sandbox ------------------------------------------------------------------------ */

/* The answer to a list request, whose items the caller adds to *ret_items. */
static cJSON *page_new(cJSON **ret_items)
{
    cJSON *page = cJSON_CreateObject();

    cJSON_AddTrueToObject(page, "success");
    *ret_items = cJSON_AddArrayToObject(page, "items");
    return page;
}

static cJSON *history_json(const struct store_event *event)
{
    cJSON *item = cJSON_CreateObject();

    json_add_string_or_null(item, "from", event->from);
    cJSON_AddStringToObject(item, "to", event->to);
    cJSON_AddStringToObject(item, "reason", event->reason);
    cJSON_AddStringToObject(item, "actor", event->actor);
    json_add_string_or_null(item, "job", event->job_id);
    json_add_time(item, "time", event->at_ms);
    cJSON_AddStringToObject(item, "type", event->type);
    cJSON_AddStringToObject(item, "actor_kind", event->actor_kind);
    json_add_string_or_null(item, "actor_id", event->actor_id);
    add_cursor(item, "cursor", &event->cursor);
    return item;
}

/* *ret_paged: the caller goes from page to page, and may not miss an event between two. */
static int read_history(struct request *request, struct store_event_cursor *ret_after,
                        int *ret_limit, bool *ret_paged, struct error *err)
{
    char after[EVENT_CURSOR_BYTES], limit[32];
    bool has_after, has_limit;

    if (request_query(request, "after", after, sizeof(after), &has_after, err) < 0 ||
        request_query(request, "limit", limit, sizeof(limit), &has_limit, err) < 0 ||
        request_page_limit(request, ret_limit, err) < 0) {
        return -1;
    }
    if (!has_limit) {
        *ret_limit = HISTORY_MAX;
    }
    *ret_paged = has_after || has_limit;
    return has_after ? event_cursor_parse(after, ret_after, err) : 0;
}

void handle_events(struct request *request)
{
    struct error err = ERROR_INIT;
    struct store_event_cursor after = {0};
    struct sandbox sandbox;
    struct store_event *events;
    size_t count;
    bool paged;
    int limit;
    cJSON *data, *items;

    if (read_history(request, &after, &limit, &paged, &err) < 0 ||
        lifecycle_get(request, request->path_id, &sandbox, &err) < 0 ||
        (sandbox_done(&sandbox), store_events(request->gateway->store, request->path_id, &after,
                                              limit, !paged, &events, &count, &err)) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    data = page_new(&items);
    for (size_t i = 0; i < count; i++) {
        cJSON_AddItemToArray(items, history_json(&events[i]));
        if (events[i].settled) {
            after = events[i].cursor;
        }
    }
    free(events);
    add_cursor(data, "next_cursor", &after);
    respond_data(request, 200, data);
}

/* ---- the feed ------------------------------------------------------------------------------ */

static bool is_type(const char *name, size_t length)
{
    for (int i = 0; i < TYPE_COUNT; i++) {
        if (strlen(type_names[i]) == length && memcmp(type_names[i], name, length) == 0) {
            return true;
        }
    }
    return false;
}

static int check_types(const char *types, struct error *err)
{
    while (true) {
        size_t length = strcspn(types, ",");

        if (!is_type(types, length)) {
            return error_set(err, ERR_INVALID, "types: %.*s is no type of an event",
                             (int)(length < 40 ? length : 40), types);
        }
        if (types[length] == '\0') {
            return 0;
        }
        types += length + 1;
    }
}

static bool wants_stream(const struct request *request)
{
    const char *accept = http_header(request->http, "Accept");

    return accept != NULL && strcasestr(accept, "text/event-stream") != NULL &&
           strcmp(http_method(request->http), "GET") == 0;
}

/* Where to begin: behind Last-Event-ID, which a client sends when it comes again, or `after`. */
static int read_start(struct request *request, struct store_event_cursor *ret, struct error *err)
{
    const char *last = wants_stream(request) ? http_header(request->http, "Last-Event-ID") : NULL;
    char after[EVENT_CURSOR_BYTES];
    int64_t newest_id;
    bool given;

    if (request_query(request, "after", after, sizeof(after), &given, err) < 0) {
        return -1;
    }
    if (last != NULL && last[0] != '\0') {
        return event_cursor_parse(last, ret, err);
    }
    if (!given) {
        *ret = (struct store_event_cursor){0};
        return 0;
    }
    if (strcmp(after, "now") == 0) {
        return store_events_end(request->gateway->store, ret, &newest_id, err);
    }
    return event_cursor_parse(after, ret, err);
}

static int read_filter(struct request *request, char types[TYPES_BYTES],
                       struct store_event_filter *ret, struct error *err)
{
    bool given;

    *ret = (struct store_event_filter){0};
    ret->owner = request->principal.admin ? NULL : request->principal.subject;
    if (request_query(request, "types", types, TYPES_BYTES, &given, err) < 0 ||
        (given && check_types(types, err) < 0) ||
        request_page_limit(request, &ret->limit, err) < 0) {
        return -1;
    }
    ret->types = given ? types : NULL;
    return read_start(request, &ret->after, err);
}

static void answer_page(struct request *request, const struct store_event_filter *filter)
{
    struct error err = ERROR_INIT;
    struct store_event_cursor next;
    struct store_event *events;
    size_t count;
    bool more;
    cJSON *data, *items;

    if (store_event_feed(request->gateway->store, filter, &events, &count, &next, &more, &err) <
        0) {
        respond_error(request, &err, 0);
        return;
    }
    data = page_new(&items);
    for (size_t i = 0; i < count; i++) {
        cJSON_AddItemToArray(items, event_json(&events[i]));
    }
    free(events);
    add_cursor(data, "next_cursor", &next);
    cJSON_AddBoolToObject(data, "more", more);
    respond_data(request, 200, data);
}

/* ---- streamed ------------------------------------------------------------------------------ */

struct event_stream {
    struct request *request;
    struct store_event_filter filter; /* `after` goes on with what was sent */
    int64_t written_ms;
};

static int put_text(struct event_stream *stream, const char *text, size_t length)
{
    stream->written_ms = clock_mono_ms();
    request_count_sent(stream->request, length);
    return http_stream_write(stream->request->http, text, length);
}

static int put_event(struct event_stream *stream, const struct store_event *event)
{
    char cursor[EVENT_CURSOR_BYTES];
    cJSON *tree = event_json(event);
    struct strbuf text;
    int status;

    event_cursor_print(&event->cursor, cursor);
    strbuf_init(&text, STREAM_EVENT_BYTES);
    strbuf_printf(&text, "id: %s\nevent: %s\ndata: ", cursor, event->type);
    json_print(tree, &text);
    strbuf_puts(&text, "\n\n");
    cJSON_Delete(tree);
    status = put_text(stream, text.data, text.length);
    strbuf_done(&text);
    return status;
}

/* Sends all there is. -1: the client is gone, or PostgreSQL is; it comes again with its cursor. */
static int put_news(struct event_stream *stream)
{
    struct error err = ERROR_INIT;
    bool more = true;
    int status = 0;

    while (more && status == 0 && !service_draining()) {
        struct store_event *events;
        struct store_event_cursor next;
        size_t count;

        if (store_event_feed(stream->request->gateway->store, &stream->filter, &events, &count,
                             &next, &more, &err) < 0) {
            cJSON_Delete(request_error_json(stream->request, &err)); /* notes it for the log */
            return -1;
        }
        for (size_t i = 0; i < count && status == 0; i++) {
            status = put_event(stream, &events[i]);
        }
        free(events);
        stream->filter.after = next;
    }
    return status;
}

static void follow(struct event_stream *stream)
{
    static const char comment[] = ": keep-alive\n\n";
    struct request *request = stream->request;
    struct event_watch *watch = request->gateway->event_watch;
    int status = 0;

    while (status == 0 && !service_draining() &&
           !auth_ended(request->gateway->auth, &request->principal) &&
           !http_peer_gone(request->http)) {
        const uint64_t state = event_watch_state(watch);

        status = put_news(stream);
        while (status == 0 && !event_watch_wait(watch, state, STREAM_WAIT_MS) &&
               !service_draining() && !http_peer_gone(request->http) &&
               !auth_ended(request->gateway->auth, &request->principal)) {
            if (clock_mono_ms() - stream->written_ms >= STREAM_KEEPALIVE_MS) {
                status = put_text(stream, comment, sizeof(comment) - 1);
            }
        }
    }
}

static void answer_stream(struct request *request, const struct store_event_filter *filter)
{
    struct event_stream stream = {.request = request, .filter = *filter};
    struct event_watch *watch = request->gateway->event_watch;
    struct error err = ERROR_INIT;

    stream.filter.limit = STREAM_PAGE;
    stream.written_ms = clock_mono_ms();
    if (work_place_take(request, &err) < 0 || event_watch_enter(watch, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    if (respond_stream(request, "text/event-stream",
                       "Cache-Control: no-store\r\nX-Accel-Buffering: no\r\n", -1) == 0) {
        follow(&stream);
        (void)http_stream_end(request->http);
    }
    event_watch_leave(watch);
}

void handle_event_feed(struct request *request)
{
    struct error err = ERROR_INIT;
    struct store_event_filter filter;
    char types[TYPES_BYTES];

    if (read_filter(request, types, &filter, &err) < 0) {
        respond_error(request, &err, 0);
    } else if (wants_stream(request)) {
        answer_stream(request, &filter);
    } else {
        answer_page(request, &filter);
    }
}
