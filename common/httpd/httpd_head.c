/*
 * httpd_head - where a request's head ends, and what it says. Pure.
 *
 * Strict where two parsers may read a head differently (RFC 9112 sections 2.2, 3, 5, 11.2): one
 * blank between the parts of the request line, CR LF at every line's end, no blank before a colon,
 * no folded line, no control character. Failure: error text names the header and never quotes a
 * value.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/httpd/httpd_internal.h"

enum head_scan head_scan(const char *data, size_t length, size_t *at, size_t *ret_bytes)
{
    for (size_t i = *at; i < length; i++) {
        const unsigned char c = (unsigned char)data[i];
        const bool after_cr = i > 0 && data[i - 1] == '\r';

        if ((c == '\n') != after_cr ||
            ((c < ' ' || c == 0x7f) && c != '\n' && c != '\r' && c != '\t')) {
            return HEAD_MALFORMED;
        }
        if (c == '\n' && i >= 3 && data[i - 2] == '\n') {
            *at = i + 1;
            *ret_bytes = i + 1;
            return HEAD_WHOLE;
        }
    }
    *at = length;
    return HEAD_PARTIAL;
}

/* ---- before a thread is given ---- */

static bool line_is(const char *line, size_t bytes, const char *name)
{
    const size_t length = strlen(name);

    return bytes > length && strncasecmp(line, name, length) == 0 && line[length] == ':';
}

int64_t head_body_ahead(const char *head, size_t bytes)
{
    const char *end = head + bytes;
    int64_t length = 0;

    for (const char *line = head; line < end;) {
        const char *line_end = memchr(line, '\n', (size_t)(end - line));
        const size_t line_bytes = (size_t)(line_end - line);

        if (line_is(line, line_bytes, "Transfer-Encoding")) {
            return -1;
        }
        if (line_is(line, line_bytes, "Expect")) {
            length = INT64_MAX;
        }
        if (line_is(line, line_bytes, "Content-Length")) {
            const char *digits = line + strlen("Content-Length:");

            digits += strspn(digits, " \t");
            const size_t count = strspn(digits, "0123456789");
            /* a long or odd number, or a second one, is the worker's to refuse */
            if (length != 0 || count > 9 || strchr(" \t\r", digits[count]) == NULL) {
                length = INT64_MAX;
            } else {
                length = strtoll(digits, NULL, 10);
            }
        }
        line = line_end + 1;
    }
    return length < INT64_MAX ? length : 0;
}

/* ---- parsing ---- */

/* RFC 9110 5.6.2 */
static bool is_token(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        const unsigned char c = (unsigned char)text[i];

        if (!isalnum(c) && (c >= 0x7f || c <= ' ' || strchr("!#$%&'*+-.^_`|~", c) == NULL)) {
            return false;
        }
    }
    return length > 0;
}

/* "http://host[:port]/path?query", as sent to a proxy. Leaves the authority in *ret_authority. */
static char *strip_authority(char *target, char **ret_authority)
{
    static const char scheme[] = "http://";
    static char root[] = "/";
    char *authority = target + sizeof(scheme) - 1, *path;

    if (strncasecmp(target, scheme, sizeof(scheme) - 1) != 0) {
        return target;
    }
    path = authority + strcspn(authority, "/?#");
    *ret_authority = authority;
    if (*path == '\0') {
        return root;
    }
    if (*path != '/') {
        return target; /* no path before the query: refused as no path at all */
    }
    /* the authority needs a place for its end: it moves over the scheme's last slash */
    memmove(authority - 1, authority, (size_t)(path - authority));
    *ret_authority = authority - 1;
    path[-1] = '\0';
    return path;
}

static int parse_request_line(char *line, struct http_head *ret, char **ret_authority,
                              struct error *err)
{
    char *target = strchr(line, ' '), *version, *query;

    if (target == NULL || !is_token(line, (size_t)(target - line))) {
        return error_set(err, ERR_INVALID, "the request line is malformed");
    }
    *target++ = '\0';
    ret->method = line; /* known also of a request that is refused: HEAD gets no body */
    version = strchr(target, ' ');
    if (version == NULL) {
        return error_set(err, ERR_INVALID, "the request line is incomplete");
    }
    *version++ = '\0';
    if (*target == '\0' || strchr(version, ' ') != NULL) {
        return error_set(err, ERR_INVALID,
                         "the request line holds more white space than two blanks");
    }
    if (strcmp(version, "HTTP/1.1") != 0 && strcmp(version, "HTTP/1.0") != 0) {
        return error_set(err, ERR_INVALID, "only versions 1.0 and 1.1 of HTTP are spoken");
    }
    target = strip_authority(target, ret_authority);
    query = strchr(target, '?');
    if (query != NULL) {
        *query++ = '\0';
    }
    ret->path = target;
    ret->query = query != NULL ? query : "";
    ret->http_1_0 = version[strlen("HTTP/1.")] == '0';
    return 0;
}

static int parse_header(char *line, struct http_head *ret, struct error *err)
{
    char *colon = strchr(line, ':'), *value, *end;

    if (*line == ' ' || *line == '\t') {
        return error_set(err, ERR_INVALID,
                         "a header line is folded, or white space comes before the first one");
    }
    if (colon == NULL) {
        return error_set(err, ERR_INVALID, "a header line is malformed");
    }
    if (colon > line && (colon[-1] == ' ' || colon[-1] == '\t')) {
        return error_set(err, ERR_INVALID, "white space between a header's name and its colon");
    }
    if (!is_token(line, (size_t)(colon - line))) {
        return error_set(err, ERR_INVALID, "a header's name is malformed");
    }
    if (ret->count >= HTTPD_HEADERS_MAX - 1) {
        return error_set(err, ERR_HEADERS_TOO_LARGE, "more than %d headers", HTTPD_HEADERS_MAX - 1);
    }
    *colon = '\0';
    value = colon + 1;
    value += strspn(value, " \t");
    end = value + strlen(value);
    while (end > value && (end[-1] == ' ' || end[-1] == '\t')) {
        *--end = '\0';
    }
    ret->headers[ret->count].name = line;
    ret->headers[ret->count++].value = value;
    return 0;
}

/* The line at *next, ended by NUL; NULL for the empty one, and where there is none. */
static char *take_line(char **next, const char *head_end)
{
    char *line = *next, *end = memmem(line, (size_t)(head_end - line), "\r\n", 2);

    if (end == NULL) {
        return NULL;
    }
    *end = '\0';
    *next = end + 2;
    return end > line ? line : NULL;
}

int head_parse(char *head, size_t bytes, struct http_head *ret, struct error *err)
{
    char *next = head, *line, *authority = NULL;

    ret->count = 0;
    if ((line = take_line(&next, head + bytes)) == NULL) {
        return error_set(err, ERR_INVALID, "the request line is missing");
    }
    if (parse_request_line(line, ret, &authority, err) < 0) {
        return -1;
    }
    while ((line = take_line(&next, head + bytes)) != NULL) {
        if (parse_header(line, ret, err) < 0) {
            return -1;
        }
    }
    for (int i = 0; authority != NULL && i < ret->count; i++) {
        if (strcasecmp(ret->headers[i].name, "Host") == 0) {
            ret->headers[i].value = authority;
        }
    }
    return 0;
}
