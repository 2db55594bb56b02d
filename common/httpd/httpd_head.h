/* httpd_head - finds the end of a request head and rewrites the head for CivetWeb. */
#ifndef HTTPD_HTTPD_HEAD_H
#define HTTPD_HTTPD_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

enum head_scan { HEAD_PARTIAL, HEAD_WHOLE, HEAD_MALFORMED };
/* Looks for the head's end from *at on, where an earlier call stopped (0 at first). HEAD_WHOLE:
 * *ret_bytes of data are the head. HEAD_MALFORMED: holds a bare CR or LF or a control character. */
enum head_scan head_scan(const char *data, size_t length, size_t *at, size_t *ret_bytes);
/* The Content-Length of a whole head, as far as it may be waited for before a thread is given:
 * 0 = no body, or one that a thread must read (after 100-continue, or malformed); -1 = chunked. */
int64_t head_body_ahead(const char *head, size_t bytes);

/* What CivetWeb is not told of a head. */
struct head_facts {
    char method[24]; /* as sent, cut where it is longer than any that means something */
    bool http_1_0;
    bool close;               /* Connection lists it */
    const char *target_fault; /* what is wrong with the target; NULL = nothing */
};
/* Checks a whole head and writes it to `buf` as CivetWeb is to get it: HTTP/1.1, a method that it
 * knows, the target as a path, Host from an absolute target (RFC 9112 3.2.2), no Connection, no
 * blanks around values. Returns its length. */
long head_for_civetweb(const char *head, size_t bytes, char *buf, size_t size,
                       struct head_facts *facts, struct error *err) MUST_CHECK;

#endif
