/*
 * connect_rpc - the Connect protocol with JSON, as envd speaks it (connect-go 1.18).
 *
 * Owns: envelopes (1 byte flags, 4 bytes big-endian length, payload), the end-of-stream message,
 * error bodies and their codes. Does not own: HTTP, what a message says.
 * Threads: none shared. Failure: -1 + err; a stream that broke off is never a success.
 */
#ifndef PROVIDER_CONNECT_RPC_H
#define PROVIDER_CONNECT_RPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/strbuf.h"

/* Connect's codes (connectrpc.com/docs/protocol), CONNECT_NONE = no error was found. */
enum connect_code {
    CONNECT_NONE,
    CONNECT_CANCELED,
    CONNECT_UNKNOWN,
    CONNECT_INVALID_ARGUMENT,
    CONNECT_DEADLINE_EXCEEDED,
    CONNECT_NOT_FOUND,
    CONNECT_ALREADY_EXISTS,
    CONNECT_PERMISSION_DENIED,
    CONNECT_RESOURCE_EXHAUSTED,
    CONNECT_FAILED_PRECONDITION,
    CONNECT_ABORTED,
    CONNECT_OUT_OF_RANGE,
    CONNECT_UNIMPLEMENTED,
    CONNECT_INTERNAL,
    CONNECT_UNAVAILABLE,
    CONNECT_DATA_LOSS,
    CONNECT_UNAUTHENTICATED,
    CONNECT_CODE_COUNT
};

struct connect_error {
    enum connect_code code;
    bool from_rpc; /* a string code: the RPC itself sent it */
    bool own; /* a code of either kind, sent by the RPC, envd's HTTP layer or E2B's proxy; false: an
                 unknown proxy sent the error */
    char message[256]; /* as sent, printable, cut; it may echo our request, so strip secrets */
};

const char *connect_code_name(enum connect_code code);
/* Decodes an error answer of any origin: {"code":"not_found",..} of Connect, {"code":404,..} of
 * envd or a proxy, or a body that is not JSON, where the status decides. */
void connect_error_decode(int status, const char *body, size_t bytes, struct connect_error *ret);

/* Appends one envelope around `json`. 0, or -1 on strbuf overflow. */
int connect_envelope_put(struct strbuf *out, const char *json, size_t bytes);

/* ---- reading a stream -------------------------------------------------------------------------
 */

struct connect_stream {
    unsigned char head[5];
    size_t head_bytes;
    uint32_t want;         /* payload bytes of the current envelope */
    struct strbuf payload; /* grows with what arrives, not with what is announced */
    size_t max_message_bytes;
    bool ended;               /* the 0x02 envelope was read; later bytes are ignored */
    struct connect_error end; /* code != NONE: the call failed */
};

void connect_stream_init(struct connect_stream *stream, size_t max_message_bytes);
void connect_stream_done(struct connect_stream *stream);

/* Receives one message. Non-zero ends the feeding; the function then fills err. */
typedef int (*connect_message_fn)(void *arg, const char *json, size_t bytes, struct error *err);
/* Parses the next bytes, split anywhere. -1: ERR_PROVIDER for bytes that are no Connect stream, or
 * the function's own error. */
int connect_stream_feed(struct connect_stream *stream, const void *data, size_t bytes,
                        connect_message_fn on_message, void *arg, struct error *err) MUST_CHECK;

#endif
