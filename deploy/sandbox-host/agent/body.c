/*
 * body - see body.h.
 */
#include "deploy/sandbox-host/agent/body.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/alloc.h"

#define PACKED_BYTES 65536

int body_init(struct body *body, struct http_exchange *exchange, struct error *err)
{
    const char *encoding = http_header(exchange, "Content-Encoding");

    *body = (struct body){.exchange = exchange};
    if (encoding == NULL || encoding[0] == '\0' || strcasecmp(encoding, "identity") == 0) {
        return 0;
    }
    if (strcasecmp(encoding, "gzip") != 0) {
        return error_set(err, ERR_MEDIA_TYPE,
                         "unsupported Content-Encoding: %.64s, supported: [identity, gzip]",
                         encoding);
    }
    if (inflateInit2(&body->zip, 16 + MAX_WBITS) != Z_OK) {
        return error_set(err, ERR_INTERNAL, "cannot start gzip");
    }
    body->gzip = true;
    body->packed = xmalloc(PACKED_BYTES);
    return 0;
}

void body_done(struct body *body)
{
    if (body->gzip) {
        inflateEnd(&body->zip);
        free(body->packed);
        body->gzip = false;
    }
}

static long read_packed(struct body *body, struct error *err)
{
    const long n = http_read(body->exchange, body->packed, PACKED_BYTES);

    if (n < 0) {
        return error_set(err, ERR_INVALID, "unexpected EOF");
    }
    body->zip.next_in = body->packed;
    body->zip.avail_in = (uInt)n;
    return n;
}

long body_read(struct body *body, void *out, size_t bytes, struct error *err)
{
    if (!body->gzip) {
        const long n = http_read(body->exchange, out, bytes);
        return n < 0 ? error_set(err, ERR_INVALID, "unexpected EOF") : n;
    }
    body->zip.next_out = out;
    body->zip.avail_out = (uInt)bytes;
    while (body->zip.avail_out == bytes) {
        if (body->zip.avail_in == 0) {
            const long n = read_packed(body, err);
            if (n < 0) {
                return -1;
            }
            if (n == 0) {
                return body->ended ? 0 : error_set(err, ERR_INVALID, "gzip: unexpected EOF");
            }
        }
        if (body->ended) { /* a further member of the file */
            if (inflateReset(&body->zip) != Z_OK) {
                return error_set(err, ERR_INTERNAL, "gzip: reset");
            }
            body->ended = false;
        }
        const int status = inflate(&body->zip, Z_NO_FLUSH);
        if (status == Z_STREAM_END) {
            body->ended = true;
        } else if (status != Z_OK && status != Z_BUF_ERROR) {
            return error_set(err, ERR_INVALID, "gzip: invalid data");
        }
    }
    return (long)(bytes - body->zip.avail_out);
}
