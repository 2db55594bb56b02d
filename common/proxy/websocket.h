/*
 * websocket - the frames of a WebSocket server (RFC 6455), for programs that speak it themselves.
 *
 * Owns: the accept key, reading a client's frames, writing a server's. Does not own: sockets, what
 * the messages mean. The relay (relay.h) passes WebSockets through without this. Threads: no shared
 * state. Failure: -1 for frames that break the protocol.
 */
#ifndef PROXY_WEBSOCKET_H
#define PROXY_WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/strbuf.h"

enum {
    WEBSOCKET_ACCEPT_BYTES = 29,
    WEBSOCKET_HEAD_BYTES = 14,              /* most bytes of a client's frame before its data */
    WEBSOCKET_FRAME_MAX_BYTES = 256 * 1024, /* most data of a client's frame */
};

enum websocket_opcode {
    WEBSOCKET_CONTINUATION = 0,
    WEBSOCKET_TEXT = 1,
    WEBSOCKET_BINARY = 2,
    WEBSOCKET_CLOSE = 8,
    WEBSOCKET_PING = 9,
    WEBSOCKET_PONG = 10,
};

struct websocket_frame {
    enum websocket_opcode opcode;
    bool is_final; /* of its message */
    char *data;    /* in the buffer that was parsed, unmasked */
    size_t bytes;
};

/* Sec-WebSocket-Accept for the client's Sec-WebSocket-Key. */
void websocket_accept(const char *key, char ret[WEBSOCKET_ACCEPT_BYTES]);
/* The first frame of `data`: bytes it takes, 0 = it is not whole yet, -1 = it breaks the protocol
 * or is longer than WEBSOCKET_FRAME_MAX_BYTES. Call it once for each frame: it unmasks in place. */
long websocket_parse(char *data, size_t length, struct websocket_frame *ret);
/* Appends one whole message to `out`. */
void websocket_put(struct strbuf *out, enum websocket_opcode opcode, const void *data,
                   size_t bytes);
/* Appends the close of the connection; the reason is at most 123 bytes. */
void websocket_put_close(struct strbuf *out, int code, const char *reason);

#endif
