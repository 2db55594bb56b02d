/*
 * connect - the Connect protocol; see connect.h.
 */
#include "deploy/sandbox-host/agent/connect.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/alloc.h"
#include "common/base/encode.h"
#include "common/base/json.h"

static const struct {
    const char *name;
    int status;
} codes[] = {
#define X(code, name, status) [code] = {name, status},
#include "deploy/sandbox-host/agent/connect_codes.def"
#undef X
};

int connect_fail(struct connect_error *err, enum connect_code code, const char *format, ...)
{
    va_list args;

    err->code = code;
    va_start(args, format);
    vsnprintf(err->message, sizeof(err->message), format, args);
    va_end(args);
    /* names inside come from clients and the file system: cut where the text is still UTF-8 */
    err->message[utf8_valid_prefix(err->message, strlen(err->message))] = '\0';
    return -1;
}

int connect_fail_from(struct connect_error *err, enum connect_code code, const char *prefix,
                      const struct error *cause)
{
    return connect_fail(err, code, "%s%s", prefix, cause->message);
}

const char *connect_code_name(enum connect_code code)
{
    return codes[code].name;
}

int connect_code_status(enum connect_code code)
{
    return codes[code].status;
}

cJSON *connect_error_json(const struct connect_error *err)
{
    cJSON *object = cJSON_CreateObject();

    cJSON_AddStringToObject(object, "code", connect_code_name(err->code));
    cJSON_AddStringToObject(object, "message", err->message);
    return object;
}

int connect_parse_timeout(const char *header, int64_t *ret_ms, struct connect_error *err)
{
    if (header == NULL || header[0] == '\0') {
        *ret_ms = -1;
        return 0;
    }
    const size_t length = strlen(header);
    if (length > 10 || strspn(header, "0123456789") != length) {
        return connect_fail(err, CONNECT_INVALID_ARGUMENT,
                            "protocol error: invalid timeout \"%.32s\"", header);
    }
    *ret_ms = strtoll(header, NULL, 10);
    return 0;
}

bool connect_content_type_is(const char *header, const char *wanted)
{
    if (header == NULL) {
        return false;
    }
    size_t length = strcspn(header, ";");
    while (length > 0 && (header[length - 1] == ' ' || header[length - 1] == '\t')) {
        length--;
    }
    return length == strlen(wanted) && strncasecmp(header, wanted, length) == 0;
}

struct connect_head connect_head_parse(const unsigned char bytes[CONNECT_HEAD_BYTES])
{
    return (struct connect_head){
        .flags = bytes[0],
        .length = (uint32_t)bytes[1] << 24 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 8 |
                  (uint32_t)bytes[4],
    };
}

int connect_put_envelope(struct strbuf *out, uint8_t flags, const char *payload, size_t length)
{
    const unsigned char head[CONNECT_HEAD_BYTES] = {
        flags,
        (unsigned char)(length >> 24),
        (unsigned char)(length >> 16),
        (unsigned char)(length >> 8),
        (unsigned char)length,
    };

    if (strbuf_append(out, head, sizeof(head)) != 0) {
        return -1;
    }
    return strbuf_append(out, payload, length);
}

int connect_one_envelope(const char *body, size_t length, const char **ret_payload,
                         size_t *ret_length, struct connect_error *err)
{
    if (length < CONNECT_HEAD_BYTES) {
        return connect_fail(err, CONNECT_INVALID_ARGUMENT,
                            "protocol error: incomplete envelope: unexpected EOF");
    }
    const struct connect_head head = connect_head_parse((const unsigned char *)body);
    if ((head.flags & CONNECT_FLAG_COMPRESSED) != 0) {
        return connect_fail(err, CONNECT_INTERNAL,
                            "protocol error: received compressed message without "
                            "Connect-Content-Encoding header");
    }
    if ((head.flags & CONNECT_FLAG_END) != 0) {
        return connect_fail(err, CONNECT_INVALID_ARGUMENT,
                            "protocol error: end-of-stream where a message was expected");
    }
    if (head.length > length - CONNECT_HEAD_BYTES) {
        return connect_fail(err, CONNECT_INVALID_ARGUMENT,
                            "protocol error: promised %lu bytes in enveloped message, got %lu "
                            "bytes",
                            (unsigned long)head.length,
                            (unsigned long)(length - CONNECT_HEAD_BYTES));
    }
    if (head.length < length - CONNECT_HEAD_BYTES) {
        return connect_fail(err, CONNECT_UNIMPLEMENTED,
                            "unary or server-streaming request has multiple messages");
    }
    *ret_payload = body + CONNECT_HEAD_BYTES;
    *ret_length = head.length;
    return 0;
}

void connect_stream_init(struct connect_stream *stream, struct http_exchange *exchange)
{
    *stream = (struct connect_stream){.exchange = exchange};
    strbuf_init(&stream->out, 2 * AGENT_STREAM_OUT_BYTES);
}

void connect_stream_done(struct connect_stream *stream)
{
    strbuf_done(&stream->out);
}

int connect_stream_put(struct connect_stream *stream, const char *json, size_t length)
{
    return connect_put_envelope(&stream->out, 0, json, length);
}

int connect_stream_flush(struct connect_stream *stream)
{
    if (!stream->begun && !stream->gone) {
        stream->begun = true;
        if (http_stream_begin(stream->exchange, 200, "application/connect+json", "", -1) != 0) {
            stream->gone = true;
        }
    }
    if (!stream->gone && stream->out.length > 0 &&
        http_stream_write(stream->exchange, stream->out.data, stream->out.length) != 0) {
        stream->gone = true;
    }
    strbuf_reset(&stream->out);
    return stream->gone ? -1 : 0;
}

void connect_stream_end(struct connect_stream *stream, const struct connect_error *err)
{
    struct strbuf text;

    strbuf_init(&text, 8192);
    if (err == NULL || err->code == CONNECT_OK) {
        strbuf_puts(&text, "{}");
    } else {
        cJSON *root = cJSON_CreateObject();
        cJSON_AddItemToObject(root, "error", connect_error_json(err));
        if (json_print(root, &text) != 0) {
            strbuf_reset(&text);
            strbuf_puts(&text, "{\"error\":{\"code\":\"internal\"}}");
        }
        cJSON_Delete(root);
    }
    connect_put_envelope(&stream->out, CONNECT_FLAG_END, text.data, text.length);
    strbuf_done(&text);
    if (connect_stream_flush(stream) == 0) {
        (void)http_stream_end(stream->exchange);
    }
}
