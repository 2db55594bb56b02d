/*
 * connect - the server half of the Connect protocol, JSON over HTTP/1.1.
 *
 * Owns: envelopes, error codes and their HTTP statuses, Connect-Timeout-Ms, content types, the
 * end-of-stream message. Does not own: methods (rpc.h), HTTP itself (httpd). Threads: a stream
 * belongs to its handler thread. Failure: a method fills struct connect_error, which the protocol
 * can carry whole; struct error has no place for its codes. Source: connectrpc.com/docs/protocol.
 */
#ifndef AGENT_CONNECT_H
#define AGENT_CONNECT_H

#include "common/base/json.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/strbuf.h"
#include "common/httpd/httpd.h"

enum connect_code {
#define X(code, name, status) code,
#include "deploy/sandbox-host/agent/connect_codes.def"
#undef X
    CONNECT_CODE_COUNT
};

struct connect_error {
    enum connect_code code;
    char message[512];
};

/* Fills *err and returns -1. */
int connect_fail(struct connect_error *err, enum connect_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same with a struct error's message behind "<prefix>". */
int connect_fail_from(struct connect_error *err, enum connect_code code, const char *prefix,
                      const struct error *cause);
const char *connect_code_name(enum connect_code code);
int connect_code_status(enum connect_code code);
/* {"code":"..","message":".."} */
cJSON *connect_error_json(const struct connect_error *err);

/* Value of Connect-Timeout-Ms: -1 = none. At most 10 digits, else invalid_argument. */
int connect_parse_timeout(const char *header, int64_t *ret_ms,
                          struct connect_error *err) MUST_CHECK;
/* `header` is `wanted`, parameters (";...") and case aside. */
bool connect_content_type_is(const char *header, const char *wanted);

#define CONNECT_HEAD_BYTES      5
#define CONNECT_FLAG_COMPRESSED 0x01
#define CONNECT_FLAG_END        0x02

/* The 5 bytes before a payload. */
struct connect_head {
    uint8_t flags;
    uint32_t length;
};
struct connect_head connect_head_parse(const unsigned char bytes[CONNECT_HEAD_BYTES]);
/* Appends head and payload. 0, or -1 on strbuf overflow. */
int connect_put_envelope(struct strbuf *out, uint8_t flags, const char *payload, size_t length);
/* The payload of a body that must be exactly one uncompressed envelope. */
int connect_one_envelope(const char *body, size_t length, const char **ret_payload,
                         size_t *ret_length, struct connect_error *err) MUST_CHECK;

/* A flush is due once this much has gathered; the buffer holds twice that. */
#define AGENT_STREAM_OUT_BYTES (256u << 10)

/* A response stream. Envelopes gather in `out`, connect_stream_flush() sends them in one write. */
struct connect_stream {
    struct http_exchange *exchange;
    struct strbuf out;
    bool begun;
    bool gone; /* the client left or stopped reading: nothing more can be sent */
};

void connect_stream_init(struct connect_stream *stream, struct http_exchange *exchange);
void connect_stream_done(struct connect_stream *stream);
int connect_stream_put(struct connect_stream *stream, const char *json, size_t length);
int connect_stream_flush(struct connect_stream *stream); /* -1 = gone */
/* End-of-stream message: {} or the error. */
void connect_stream_end(struct connect_stream *stream, const struct connect_error *err);

#endif
