/*
 * head - an HTTP/1.x message head, as far as a relay must understand it.
 */
#ifndef SANDBOX_HOST_HEAD_H
#define SANDBOX_HOST_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/strbuf.h"

enum { HEAD_MAX_BYTES = 65536 };

/* Bytes up to and with the empty line, 0 = not there yet. */
size_t head_length(const char *data, size_t length);
/* The value of a header, copied and trimmed; false when absent or too long. `head` is
 * NUL-terminated. */
bool head_value(const char *head, const char *name, char *out, size_t size);
/* Status of a response head, 0 if it is none. */
int head_status(const char *head);
/* Copies the head without Connection, Keep-Alive and Proxy-Connection, with `connection` instead
 * (NULL = unchanged). */
void head_rewrite(const char *head, const char *connection, struct strbuf *out);

/* How far a request body goes. */
struct body_scan {
    enum { BODY_NONE, BODY_LENGTH, BODY_CHUNKED } kind;
    int64_t left; /* bytes of the body, or of the present chunk with its line end */
    enum { CHUNK_SIZE, CHUNK_DATA, CHUNK_TRAILER, BODY_DONE, BODY_BROKEN } state;
    int line_bytes;
    bool size_seen;
    int64_t size;
};
/* false: the head's framing is ambiguous (both lengths, bad number): refuse it. */
bool body_scan_init(struct body_scan *scan, const char *head);
/* Bytes of data that belong to the body. state tells when it is over. */
size_t body_scan_feed(struct body_scan *scan, const char *data, size_t length);

#endif
