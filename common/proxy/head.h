/*
 * head - HTTP/1.x message heads and the framing of what follows them, as far as a relay must
 * understand them.
 *
 * Owns: where a head ends, its header values, which hop-by-hop headers go, how far a request's or
 * response's body goes (RFC 9112, 6). Does not own: sockets, routes. Threads: no shared state.
 * Failure: false or 0; what is ambiguous is refused, never guessed.
 */
#ifndef PROXY_HEAD_H
#define PROXY_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/strbuf.h"

enum { HEAD_MAX_BYTES = 65536 };

/* Bytes up to and with the empty line, 0 = not there yet. */
size_t head_length(const char *data, size_t length);
/* In all of these `head` is a whole head, NUL-terminated. */
/* The value of a header, copied and trimmed; false when absent or too long. */
bool head_value(const char *head, const char *name, char *out, size_t size);
bool head_has(const char *head, const char *name);
/* Whether a comma-separated header names `token`, case aside. */
bool head_lists(const char *head, const char *name, const char *token);
/* Path of a request's target without its query, and the query ("" when none); false for a head
 * that is no request or does not fit. An absolute target loses its scheme and host. */
bool head_target(const char *head, char *path, size_t path_size, char *query, size_t query_size);
bool head_method_is(const char *head, const char *method);
/* A request that lets its connection carry another one: HTTP/1.1 without "close". */
bool head_keeps_alive(const char *head);
/* Status of a response head, 0 if it is none. */
int head_status(const char *head);

/* How a head changes on its way. Pointers may be NULL: no such change. */
struct head_edit {
    bool upgrade;           /* Connection and Upgrade stay as they are */
    const char *connection; /* the new Connection header, unless `upgrade` */
    const char *host;       /* replaces every Host */
    const char *path;       /* replaces path and query of a request */
    const char *set;        /* whole lines; each replaces the headers of its name */
    const char *drop;       /* names of headers that go, with commas between */
};
/* Appends the head as edited, and without the headers that belong to one hop: Connection and what
 * it names, Keep-Alive, Proxy-Connection. */
void head_rewrite(const char *head, const struct head_edit *edit, struct strbuf *out);

/* How far a body goes. */
struct body_scan {
    enum { BODY_NONE, BODY_LENGTH, BODY_CHUNKED, BODY_TO_END } kind;
    enum { CHUNK_SIZE, CHUNK_DATA, CHUNK_TRAILER, BODY_DONE, BODY_BROKEN } state;
    int64_t left; /* bytes of the body, or of the present chunk with its line end */
    int line_bytes;
    bool size_seen, size_ended;
    int64_t size;
};
/* Of a request. false: the head's framing is ambiguous (both lengths, bad number): refuse it. */
bool body_scan_request(struct body_scan *scan, const char *head);
/* Of a final response (not 1xx) to a request that was, or was not, HEAD. Never fails: what has no
 * certain length goes on until the connection ends. */
void body_scan_response(struct body_scan *scan, const char *head, bool to_head_request);
/* Bytes of data that belong to the body. `state` tells when it is over. */
size_t body_scan_feed(struct body_scan *scan, const char *data, size_t length);

#endif
