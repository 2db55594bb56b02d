/*
 * multipart - a streaming multipart/form-data parser.
 *
 * Owns: boundaries, part headers, name and filename of Content-Disposition. Does not own: where the
 * parts go. Memory is bounded: MULTIPART_HEADER_BYTES of headers per part, one boundary of
 * look-behind. Threads: no shared state. Failure: -1 with ERR_INVALID, or whatever a callback set.
 * Source: RFC 7578, RFC 2046 section 5.1.1.
 */
#ifndef HTTPD_MULTIPART_H
#define HTTPD_MULTIPART_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/error.h"
#include "common/base/strbuf.h"

#define MULTIPART_BOUNDARY_BYTES 200
#define MULTIPART_HEADER_BYTES   16384

struct multipart_handler {
    /* A part begins; name and filename are "" where absent. -1 + err stops. */
    int (*begin)(void *arg, const char *name, const char *filename, struct error *err);
    int (*data)(void *arg, const char *data, size_t length, struct error *err);
    int (*end)(void *arg, struct error *err);
    void *arg;
};

enum multipart_state {
    MULTIPART_PREAMBLE,
    MULTIPART_LINE, /* the rest of a boundary's line */
    MULTIPART_HEADERS,
    MULTIPART_BODY,
    MULTIPART_DONE,
};

struct multipart {
    const struct multipart_handler *handler;
    enum multipart_state state;
    char delimiter[MULTIPART_BOUNDARY_BYTES + 5]; /* CRLF "--" boundary */
    size_t delimiter_bytes;
    bool fresh;         /* `held` begins with the line break that ended the part's headers */
    struct strbuf held; /* bytes that may belong to something longer */
};

/* Takes the boundary out of a Content-Type value. ERR_INVALID when there is none. */
int multipart_init(struct multipart *parser, const char *content_type,
                   const struct multipart_handler *handler, struct error *err) MUST_CHECK;
void multipart_done(struct multipart *parser);
int multipart_feed(struct multipart *parser, const char *data, size_t length,
                   struct error *err) MUST_CHECK;
/* At the end of the body: the closing boundary must have come. */
int multipart_finish(struct multipart *parser, struct error *err) MUST_CHECK;

/*
 * Value of `; name=value` or `; name="quoted \" value"` in a header value, case-insensitive in
 * name. Appended to out. 1 found, 0 absent, -1 malformed.
 */
int multipart_header_param(const char *header, const char *name, struct strbuf *out);

#endif
