/*
 * range - the Range header of a request for bytes.
 *
 * Threads: no shared state. Failure: RANGE_BAD.
 */
#ifndef HTTPD_RANGE_H
#define HTTPD_RANGE_H

#include <stdint.h>

enum range_kind { RANGE_NONE, RANGE_ONE, RANGE_BAD };
/* "bytes=a-b", "bytes=a-", "bytes=-n" against a size; `header` may be NULL. Several ranges, or
 * another unit, count as none, which a server may do (RFC 9110, 14.2). */
enum range_kind http_range_parse(const char *header, int64_t size, int64_t *ret_start,
                                 int64_t *ret_length);

#endif
