/* command_events - see command_events.h. */
#include "gateway/http/command_events.h"

#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/encode.h"

enum {
    EVENT_DATA_BYTES = 32768, /* most output in one event */
    EVENT_MAX_BYTES = 262144, /* largest event: each byte of text may be escaped */
    /* Silence after which a comment line is sent. A polled provider is read every 5 s, so the
       client gets a line at least every 10 s. */
    KEEPALIVE_MS = 4500,
};

int command_events_begin(struct command_events *events)
{
    char headers[160];

    if (events->begun || events->gone) {
        return events->gone ? -1 : 0;
    }
    events->begun = true;
    snprintf(headers, sizeof(headers),
             "Cache-Control: no-store\r\nX-Accel-Buffering: no\r\nX-Command-ID: %s\r\n",
             events->command_id);
    events->gone = respond_stream(events->caller, "text/event-stream", headers, -1) < 0;
    return events->gone ? -1 : 0;
}

static void put(struct command_events *events, const char *text, size_t bytes)
{
    events->gone = events->gone || command_events_begin(events) < 0 ||
                   http_stream_write(events->caller->http, text, bytes) < 0;
    if (!events->gone) {
        request_count_sent(events->caller, bytes);
    }
    events->written_ms = clock_mono_ms();
}

void command_events_put(struct command_events *events, const char *name, int64_t next, cJSON *data)
{
    struct strbuf event;

    strbuf_init(&event, EVENT_MAX_BYTES);
    strbuf_printf(&event, "event: %s\n", name);
    if (next >= 0) {
        strbuf_printf(&event, "id: %lld\n", (long long)next);
    }
    strbuf_puts(&event, "data: ");
    json_print(data, &event);
    strbuf_puts(&event, "\n\n");
    cJSON_Delete(data);
    put(events, event.data, event.length);
    strbuf_done(&event);
}

/* Returns text for valid UTF-8, else base64, so that an event loses no byte. */
static cJSON *output_json(const char *bytes, size_t length)
{
    cJSON *data = cJSON_CreateObject();
    struct strbuf text;

    strbuf_init(&text, length / 3 * 4 + 8);
    if (memchr(bytes, '\0', length) == NULL && utf8_is_valid(bytes, length)) {
        strbuf_append(&text, bytes, length);
        cJSON_AddStringToObject(data, "text", text.data);
    } else {
        encode_base64(&text, bytes, length);
        cJSON_AddStringToObject(data, "base64", text.data);
    }
    strbuf_done(&text);
    return data;
}

void command_events_output(struct command_events *events, enum exec_stream stream, const char *data,
                           size_t bytes, int64_t next)
{
    while (bytes > 0 && !events->gone) {
        size_t piece = bytes;

        if (bytes > EVENT_DATA_BYTES) {
            /* do not cut inside a UTF-8 character */
            piece = utf8_valid_prefix(data, EVENT_DATA_BYTES);
            piece = piece > EVENT_DATA_BYTES / 2 ? piece : EVENT_DATA_BYTES;
        }
        data += piece;
        bytes -= piece;
        command_events_put(events, stream == EXEC_STDOUT ? "stdout" : "stderr",
                           next >= 0 ? next - (int64_t)bytes : -1,
                           output_json(data - piece, piece));
    }
}

void command_events_tick(struct command_events *events)
{
    static const char comment[] = ": keep-alive\n\n";

    if (clock_mono_ms() - events->written_ms >= KEEPALIVE_MS) {
        put(events, comment, sizeof(comment) - 1);
    }
}

void command_events_end(struct command_events *events)
{
    if (!events->gone) {
        (void)http_stream_end(events->caller->http);
    }
}
