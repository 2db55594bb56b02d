/*
 * body - a request body as plain bytes, gunzipped on the way where the client says so.
 *
 * Owns: Content-Encoding. Does not own: the connection. Threads: its exchange's. Failure: -1 + err;
 * ERR_MEDIA_TYPE for an encoding it does not know.
 */
#ifndef AGENT_BODY_H
#define AGENT_BODY_H

#include <zlib.h>

#include "common/httpd/httpd.h"

struct body {
    struct http_exchange *exchange;
    bool gzip, ended;
    z_stream zip;
    unsigned char *packed;
};

int body_init(struct body *body, struct http_exchange *exchange, struct error *err) MUST_CHECK;
void body_done(struct body *body);
/* Bytes, 0 = end, -1 + err. */
long body_read(struct body *body, void *out, size_t bytes, struct error *err) MUST_CHECK;

#endif
