/* range - see range.h. */
#include "common/httpd/range.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool read_int64(const char **at, int64_t *ret)
{
    char *end = NULL;

    if (**at < '0' || **at > '9') {
        return false;
    }
    errno = 0;
    *ret = strtoll(*at, &end, 10);
    *at = end;
    return errno == 0;
}

enum range_kind http_range_parse(const char *header, int64_t size, int64_t *ret_start,
                                 int64_t *ret_length)
{
    int64_t first = 0, last = size - 1;

    if (header == NULL || strncasecmp(header, "bytes=", 6) != 0 || strchr(header, ',') != NULL) {
        return RANGE_NONE;
    }
    const char *at = header + 6;
    if (*at == '-') {
        at++;
        if (!read_int64(&at, &last) || *at != '\0') {
            return RANGE_BAD;
        }
        first = last < size ? size - last : 0;
        last = size - 1;
    } else {
        if (!read_int64(&at, &first) || *at++ != '-' ||
            (*at != '\0' && (!read_int64(&at, &last) || *at != '\0' || last < first))) {
            return RANGE_BAD;
        }
        last = last < size ? last : size - 1;
    }
    if (first >= size) {
        return RANGE_BAD;
    }
    *ret_start = first;
    *ret_length = last - first + 1;
    return RANGE_ONE;
}
