/* command_output - see command_output.h. */
#include "gateway/data/command_output.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/encode.h"

enum {
    STEP_BYTES = 65536, /* buffer bytes are taken in steps of this size */
    COST = 6, /* memory per byte kept: here, in the JSON tree, and escaped in the answer */
    CHARACTER_MAX_BYTES = 4
};

void command_output_init(struct command_output *output, struct request *caller)
{
    const struct gateway_config *config = caller->gateway->config;

    *output =
        (struct command_output){.caller = caller, .tail_max = (size_t)config->command_tail_bytes};
    strbuf_init(&output->head, (size_t)config->command_output_bytes);
}

void command_output_done(struct command_output *output)
{
    strbuf_done(&output->head);
    free(output->tail);
}

/* Takes buffer bytes until `kept` bytes fit. False: the gateway or the user has no more. */
static bool grant(struct command_output *output, size_t kept)
{
    struct request *caller = output->caller;

    while (output->granted < kept) {
        struct error full = ERROR_INIT; /* reported as `truncated` */

        if (request_take_bytes(caller, (int64_t)STEP_BYTES * COST, &full) < 0) {
            return false;
        }
        output->granted += STEP_BYTES;
    }
    return true;
}

static void add_tail(struct command_output *output, const char *data, size_t bytes)
{
    if (output->tail == NULL && output->tail_max > 0) {
        if (!grant(output, output->head.length + output->tail_max)) {
            output->tail_max = 0;
        } else {
            output->tail = xmalloc(output->tail_max);
        }
    }
    if (output->tail_max == 0) {
        return;
    }
    if (bytes > output->tail_max) {
        data += bytes - output->tail_max;
        bytes = output->tail_max;
    }
    while (bytes > 0) {
        size_t room = output->tail_max - output->tail_at, piece = bytes < room ? bytes : room;

        memcpy(output->tail + output->tail_at, data, piece);
        output->tail_at = (output->tail_at + piece) % output->tail_max;
        output->tail_bytes += piece;
        data += piece;
        bytes -= piece;
    }
    if (output->tail_bytes > output->tail_max) {
        output->tail_bytes = output->tail_max;
    }
}

void command_output_add(struct command_output *output, const void *data, size_t bytes)
{
    size_t room = output->head.max_bytes - output->head.length;
    const char *next = data;

    output->total += (int64_t)bytes;
    if (data == NULL) { /* after a gap everything belongs to the tail */
        output->head_closed = true;
        output->tail_at = output->tail_bytes = 0;
        return;
    }
    if (!output->head_closed) {
        size_t piece = bytes < room ? bytes : room;

        if (!grant(output, output->head.length + piece)) {
            piece = 0;
            output->tail_max = 0;
            output->head_closed = true;
        }
        strbuf_append(&output->head, next, piece);
        output->head_closed = output->head_closed || output->head.length == output->head.max_bytes;
        next += piece;
        bytes -= piece;
    }
    if (bytes > 0) {
        add_tail(output, next, bytes);
    }
}

/* Number of bytes at the end that start an incomplete UTF-8 character. */
static size_t torn_end(const char *data, size_t length)
{
    for (size_t back = 1; back <= CHARACTER_MAX_BYTES && back <= length; back++) {
        unsigned char c = (unsigned char)data[length - back];
        size_t whole = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;

        if ((c & 0xc0) != 0x80) {
            return whole > back ? back : 0;
        }
    }
    return 0;
}

int64_t command_output_omitted(const struct command_output *output)
{
    return output->total - (int64_t)(output->head.length + output->tail_bytes);
}

static char tail_byte(const struct command_output *output, size_t index)
{
    size_t first = output->tail_at + output->tail_max - output->tail_bytes;

    return output->tail[(first + index) % output->tail_max];
}

void command_output_end(struct command_output *output)
{
    if (command_output_omitted(output) == 0) {
        return;
    }
    output->head.length -= torn_end(output->head.data, output->head.length);
    output->head.data[output->head.length] = '\0';
    for (int i = 1; i < CHARACTER_MAX_BYTES && output->tail_bytes > 0 &&
                    ((unsigned char)tail_byte(output, 0) & 0xc0) == 0x80;
         i++) {
        output->tail_bytes--;
    }
}

bool command_output_put(const struct command_output *output, cJSON *data, const char *field,
                        bool base64)
{
    size_t length = output->head.length + output->tail_bytes;
    struct strbuf bytes, text;
    bool replaced = false;

    strbuf_init(&bytes, length + 1);
    strbuf_init(&text, length * UTF8_CLEAN_GROWTH + 8);
    strbuf_append(&bytes, output->head.data, output->head.length);
    if (output->tail_bytes > 0) {
        size_t first = (output->tail_at + output->tail_max - output->tail_bytes) % output->tail_max;
        size_t piece = output->tail_max - first;

        piece = piece < output->tail_bytes ? piece : output->tail_bytes;
        strbuf_append(&bytes, output->tail + first, piece);
        strbuf_append(&bytes, output->tail, output->tail_bytes - piece);
    }
    if (base64) {
        encode_base64(&text, bytes.data, bytes.length);
    } else {
        replaced = memchr(bytes.data, '\0', bytes.length) != NULL ||
                   !utf8_is_valid(bytes.data, bytes.length);
        (void)utf8_put_clean(&text, bytes.data, bytes.length);
    }
    cJSON_AddStringToObject(data, field, text.data);
    strbuf_done(&bytes);
    strbuf_done(&text);
    return replaced;
}

void command_output_put_omitted(const struct command_output *output, cJSON *data, const char *field)
{
    int64_t bytes = command_output_omitted(output);

    if (bytes > 0) {
        cJSON *omitted = cJSON_AddObjectToObject(data, field);

        json_add_int64(omitted, "offset", (int64_t)output->head.length);
        json_add_int64(omitted, "bytes", bytes);
    }
}
