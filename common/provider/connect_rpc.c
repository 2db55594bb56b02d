/*
 * connect_rpc - see connect_rpc.h.
 *
 * Owns: the incremental envelope parser and the error tables. Does not own: any I/O.
 * Threads: none shared. Failure: the parser stops at the first envelope that cannot be one.
 */
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/json.h"
#include "common/provider/connect_rpc.h"

enum { FLAG_COMPRESSED = 0x01, FLAG_END_STREAM = 0x02 };

static const char *const code_names[CONNECT_CODE_COUNT] = {
    [CONNECT_NONE] = "none",
    [CONNECT_CANCELED] = "canceled",
    [CONNECT_UNKNOWN] = "unknown",
    [CONNECT_INVALID_ARGUMENT] = "invalid_argument",
    [CONNECT_DEADLINE_EXCEEDED] = "deadline_exceeded",
    [CONNECT_NOT_FOUND] = "not_found",
    [CONNECT_ALREADY_EXISTS] = "already_exists",
    [CONNECT_PERMISSION_DENIED] = "permission_denied",
    [CONNECT_RESOURCE_EXHAUSTED] = "resource_exhausted",
    [CONNECT_FAILED_PRECONDITION] = "failed_precondition",
    [CONNECT_ABORTED] = "aborted",
    [CONNECT_OUT_OF_RANGE] = "out_of_range",
    [CONNECT_UNIMPLEMENTED] = "unimplemented",
    [CONNECT_INTERNAL] = "internal",
    [CONNECT_UNAVAILABLE] = "unavailable",
    [CONNECT_DATA_LOSS] = "data_loss",
    [CONNECT_UNAUTHENTICATED] = "unauthenticated",
};

const char *connect_code_name(enum connect_code code)
{
    return code_names[code];
}

static enum connect_code code_parse(const char *name)
{
    for (int i = 1; i < CONNECT_CODE_COUNT; i++) {
        if (strcmp(name, code_names[i]) == 0) {
            return (enum connect_code)i;
        }
    }
    return CONNECT_UNKNOWN;
}

/* Maps an HTTP status to a code, as E2B's Python client does, for answers without a string code. */
static enum connect_code code_from_status(int status)
{
    switch (status) {
    case 400:
        return CONNECT_INVALID_ARGUMENT;
    case 401:
        return CONNECT_UNAUTHENTICATED;
    case 403:
        return CONNECT_PERMISSION_DENIED;
    case 404:
        return CONNECT_NOT_FOUND;
    case 409:
        return CONNECT_ALREADY_EXISTS;
    case 413:
    case 429:
        return CONNECT_RESOURCE_EXHAUSTED;
    case 499:
        return CONNECT_CANCELED;
    case 502:
    case 503:
        return CONNECT_UNAVAILABLE;
    case 504:
        return CONNECT_DEADLINE_EXCEEDED;
    default:
        return CONNECT_UNKNOWN;
    }
}

static void copy_printable(char *out, size_t size, const char *text, size_t bytes)
{
    size_t n = 0;
    for (size_t i = 0; i < bytes && n + 1 < size; i++) {
        unsigned char c = (unsigned char)text[i];
        out[n++] = c >= 0x20 && c < 0x7f ? (char)c : '?';
    }
    out[n] = '\0';
}

/* Reads code and message of an error object. False: it has neither. */
static bool take_error_object(const cJSON *object, struct connect_error *ret)
{
    const cJSON *code = cJSON_GetObjectItemCaseSensitive(object, "code");
    const cJSON *message = cJSON_GetObjectItemCaseSensitive(object, "message");
    ret->own = cJSON_IsString(code) || cJSON_IsNumber(code);
    if (cJSON_IsString(code)) {
        ret->code = code_parse(code->valuestring);
        ret->from_rpc = true;
    }
    if (cJSON_IsString(message)) {
        copy_printable(ret->message, sizeof(ret->message), message->valuestring,
                       strlen(message->valuestring));
    }
    return cJSON_IsString(code) || cJSON_IsString(message);
}

void connect_error_decode(int status, const char *body, size_t bytes, struct connect_error *ret)
{
    struct error ignored = ERROR_INIT; /* a body that is not JSON is an answer, too */
    memset(ret, 0, sizeof(*ret));
    ret->code = code_from_status(status);
    cJSON *root = bytes > 0 ? json_parse(body, bytes, &ignored) : NULL;
    if (!root || !take_error_object(root, ret)) {
        copy_printable(ret->message, sizeof(ret->message), body, bytes < 120 ? bytes : 120);
    }
    cJSON_Delete(root);
}

int connect_envelope_put(struct strbuf *out, const char *json, size_t bytes)
{
    const char head[5] = {0, (char)(bytes >> 24 & 0xff), (char)(bytes >> 16 & 0xff),
                          (char)(bytes >> 8 & 0xff), (char)(bytes & 0xff)};
    if (strbuf_append(out, head, sizeof(head)) != 0) {
        return -1;
    }
    return strbuf_append(out, json, bytes);
}

void connect_stream_init(struct connect_stream *stream, size_t max_message_bytes)
{
    memset(stream, 0, sizeof(*stream));
    stream->max_message_bytes = max_message_bytes;
    strbuf_init(&stream->payload, max_message_bytes);
}

void connect_stream_done(struct connect_stream *stream)
{
    strbuf_done(&stream->payload);
}

/* Reads the 0x02 envelope: {} or {"error":{"code","message"}}, with optional metadata. */
static int take_end(struct connect_stream *stream, const char *json, size_t bytes,
                    struct error *err)
{
    stream->ended = true;
    if (bytes == 0) {
        return 0;
    }
    cJSON *root = json_parse(json, bytes, err);
    if (!root) {
        err->code = ERR_PROVIDER;
        return error_prefix(err, "end of stream");
    }
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(root, "error");
    if (error && !cJSON_IsNull(error)) {
        stream->end.code = CONNECT_UNKNOWN;
        stream->end.from_rpc = true;
        take_error_object(error, &stream->end);
    }
    cJSON_Delete(root);
    return 0;
}

static int take_envelope(struct connect_stream *stream, const char *json, size_t bytes,
                         connect_message_fn on_message, void *arg, struct error *err)
{
    if (stream->head[0] & FLAG_END_STREAM) {
        return take_end(stream, json, bytes, err);
    }
    if (bytes == 0) { /* an empty message says nothing */
        return 0;
    }
    return on_message(arg, json, bytes, err) != 0 ? -1 : 0;
}

static int take_head(struct connect_stream *stream, struct error *err)
{
    const unsigned char *head = stream->head;
    if (head[0] & FLAG_COMPRESSED) {
        return error_set(err, ERR_PROVIDER, "compressed message without having been asked for");
    }
    if (head[0] & ~(unsigned)FLAG_END_STREAM) {
        return error_set(err, ERR_PROVIDER, "not a Connect stream (flags 0x%02x)", head[0]);
    }
    stream->want = (uint32_t)head[1] << 24 | (uint32_t)head[2] << 16 | (uint32_t)head[3] << 8 |
                   (uint32_t)head[4];
    if (stream->want > stream->max_message_bytes) {
        return error_set(err, ERR_PROVIDER, "message of %lu bytes is over the limit",
                         (unsigned long)stream->want);
    }
    return 0;
}

int connect_stream_feed(struct connect_stream *stream, const void *data, size_t bytes,
                        connect_message_fn on_message, void *arg, struct error *err)
{
    const char *at = data;
    /* the head of an empty message is complete without further bytes */
    while (!stream->ended && (bytes > 0 || (stream->head_bytes == sizeof(stream->head) &&
                                            stream->want == stream->payload.length))) {
        if (stream->head_bytes < sizeof(stream->head)) {
            size_t n = sizeof(stream->head) - stream->head_bytes;
            n = n < bytes ? n : bytes;
            memcpy(stream->head + stream->head_bytes, at, n);
            stream->head_bytes += n;
            at += n;
            bytes -= n;
            if (stream->head_bytes < sizeof(stream->head)) {
                break;
            }
            if (take_head(stream, err) != 0) {
                return -1;
            }
        }
        size_t missing = stream->want - stream->payload.length;
        const char *json = at;
        size_t n = missing < bytes ? missing : bytes;
        if (n < missing || stream->payload.length > 0) { /* the message arrives in several feeds */
            strbuf_append(&stream->payload, at, n);
            json = stream->payload.data;
        }
        at += n;
        bytes -= n;
        if (n < missing) {
            break;
        }
        int rc = take_envelope(stream, json, stream->want, on_message, arg, err);
        strbuf_reset(&stream->payload);
        stream->head_bytes = 0;
        if (rc != 0) {
            return -1;
        }
    }
    return 0;
}
