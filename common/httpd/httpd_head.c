/*
 * httpd_head - where a request's head ends, and the form in which CivetWeb gets it. Pure.
 *
 * Strict where two parsers may read a head differently (RFC 9112 sections 2.2, 3, 5, 11.2): one
 * blank between the parts of the request line, CR LF at every line's end, no blank before a colon,
 * no folded line, no control character. CivetWeb 1.15 is lax there (parse_http_headers,
 * skip_to_end_of_word_and_terminate), drops headers from the 65th on, and refuses by itself what is
 * fine: methods that it does not know, absolute targets of another port, tabs, bytes above 0x7f in
 * a query. So a head is checked here and written anew in the one form that both read alike.
 * Failure: error text names the header and never quotes a value.
 */
#include "common/httpd/httpd_head.h"

#include <ctype.h>
#include <stdio.h>
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

/* ---- rewriting ---- */

struct span {
    const char *text;
    size_t length;
};

struct rewriter {
    char *at, *end;
    bool full;
    struct head_facts *facts;
    struct span authority; /* of an absolute target; length 0 = none */
    int headers;
};

static void put(struct rewriter *out, const char *text, size_t bytes)
{
    if (bytes > (size_t)(out->end - out->at)) {
        out->full = true;
        return;
    }
    memcpy(out->at, text, bytes);
    out->at += bytes;
}

static void put_text(struct rewriter *out, const char *text)
{
    put(out, text, strlen(text));
}

static bool span_is(struct span span, const char *text)
{
    return span.length == strlen(text) && strncasecmp(span.text, text, span.length) == 0;
}

/* RFC 9110 5.6.2 */
static bool is_token(struct span span)
{
    for (size_t i = 0; i < span.length; i++) {
        const unsigned char c = (unsigned char)span.text[i];

        if (!isalnum(c) && (c >= 0x7f || c <= ' ' || strchr("!#$%&'*+-.^_`|~", c) == NULL)) {
            return false;
        }
    }
    return span.length > 0;
}

/* Cuts the span up to the first `delimiter` off `rest`; false: there is none. */
static bool cut(struct span *rest, char delimiter, struct span *ret)
{
    const char *at = memchr(rest->text, delimiter, rest->length);

    if (at == NULL) {
        return false;
    }
    *ret = (struct span){rest->text, (size_t)(at - rest->text)};
    rest->text = at + 1;
    rest->length -= ret->length + 1;
    return true;
}

/* What is wrong with the path; NULL = nothing. */
static const char *path_fault(struct span path)
{
    if (path.length == 0 || path.text[0] != '/') {
        return "the request target is not a path";
    }
    for (size_t i = 0; i < path.length; i++) {
        const unsigned char c = (unsigned char)path.text[i];

        if (c <= ' ' || c >= 0x7f) {
            return "the path holds a character that must be escaped";
        }
        if (c != '%') {
            continue;
        }
        if (path.length - i < 3 || !isxdigit((unsigned char)path.text[i + 1]) ||
            !isxdigit((unsigned char)path.text[i + 2])) {
            return "the path holds a malformed escape";
        }
        if (path.text[i + 1] == '0' && path.text[i + 2] == '0') {
            return "the path holds an escaped NUL";
        }
    }
    return NULL;
}

/* Takes "http://host[:port]" off a target as it is sent to a proxy. */
static struct span strip_authority(struct rewriter *out, struct span target)
{
    static const char scheme[] = "http://";
    const size_t skip = sizeof(scheme) - 1;

    if (target.length < skip || strncasecmp(target.text, scheme, skip) != 0) {
        return target;
    }
    out->authority = (struct span){target.text + skip, 0};
    while (skip + out->authority.length < target.length &&
           strchr("/?#", out->authority.text[out->authority.length]) == NULL) {
        out->authority.length++;
    }
    target.text = out->authority.text + out->authority.length;
    target.length -= skip + out->authority.length;
    return target.length > 0 ? target : (struct span){"/", 1};
}

static void put_target(struct rewriter *out, struct span target)
{
    static const char digits[] = "0123456789ABCDEF";
    struct span path = target;
    const char *query = memchr(target.text, '?', target.length);

    if (query != NULL) {
        path.length = (size_t)(query - target.text);
    }
    out->facts->target_fault = path_fault(path);
    if (out->facts->target_fault != NULL) {
        put_text(out, "/");
        return;
    }
    for (size_t i = 0; i < target.length; i++) {
        const unsigned char c = (unsigned char)target.text[i];

        if (c > ' ' && c < 0x7f) {
            put(out, &target.text[i], 1);
        } else {
            put(out, (const char[]){'%', digits[c >> 4], digits[c & 15]}, 3);
        }
    }
}

static int put_request_line(struct rewriter *out, struct span rest, struct error *err)
{
    /* of what CivetWeb takes, what a handler here may know; another one is its OPTIONS */
    static const char *const methods[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"};
    struct head_facts *facts = out->facts;
    struct span method, target;
    const char *told = "OPTIONS";

    if (!cut(&rest, ' ', &method) || !is_token(method)) {
        return error_set(err, ERR_INVALID, "the request line is malformed");
    }
    /* known also of a request that is refused: HEAD gets no body */
    snprintf(facts->method, sizeof(facts->method), "%.*s", (int)method.length, method.text);
    if (!cut(&rest, ' ', &target)) {
        return error_set(err, ERR_INVALID, "the request line is incomplete");
    }
    if (target.length == 0 || memchr(rest.text, ' ', rest.length) != NULL) {
        return error_set(err, ERR_INVALID,
                         "the request line holds more white space than two blanks");
    }
    if (rest.length != 8 ||
        (memcmp(rest.text, "HTTP/1.1", 8) != 0 && memcmp(rest.text, "HTTP/1.0", 8) != 0)) {
        return error_set(err, ERR_INVALID, "only versions 1.0 and 1.1 of HTTP are spoken");
    }
    facts->http_1_0 = rest.text[7] == '0';
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        told = strcmp(facts->method, methods[i]) == 0 ? methods[i] : told;
    }
    put_text(out, told);
    put_text(out, " ");
    put_target(out, strip_authority(out, target));
    put_text(out, " HTTP/1.1\r\n");
    return 0;
}

/* Whether a list lists this option. */
static bool lists(struct span list, const char *option)
{
    for (size_t i = 0; i < list.length;) {
        struct span item = {list.text + i, 0};

        while (i < list.length && strchr(" \t,", list.text[i]) == NULL) {
            i++;
            item.length++;
        }
        if (span_is(item, option)) {
            return true;
        }
        i++;
    }
    return false;
}

static int put_header(struct rewriter *out, struct span line, struct error *err)
{
    struct span name, value = line;

    if (line.text[0] == ' ' || line.text[0] == '\t') {
        return error_set(err, ERR_INVALID,
                         "a header line is folded, or white space comes before the first one");
    }
    if (!cut(&value, ':', &name)) {
        return error_set(err, ERR_INVALID, "a header line is malformed");
    }
    if (name.length > 0 && strchr(" \t", name.text[name.length - 1]) != NULL) {
        return error_set(err, ERR_INVALID, "white space between a header's name and its colon");
    }
    if (!is_token(name)) {
        return error_set(err, ERR_INVALID, "a header's name is malformed");
    }
    if (++out->headers >= HTTPD_HEADERS_MAX) {
        return error_set(err, ERR_HEADERS_TOO_LARGE, "more than %d headers", HTTPD_HEADERS_MAX - 1);
    }
    if (span_is(name, "Host") && out->authority.length > 0) {
        value = out->authority;
    }
    while (value.length > 0 && strchr(" \t", value.text[0]) != NULL) {
        value.text++;
        value.length--;
    }
    while (value.length > 0 && strchr(" \t", value.text[value.length - 1]) != NULL) {
        value.length--;
    }
    if (span_is(name, "Connection")) {
        out->facts->close = out->facts->close || lists(value, "close");
        return 0;
    }
    put(out, name.text, name.length);
    put_text(out, ":");
    for (size_t i = 0; i < value.length; i++) {
        put(out, value.text[i] == '\t' ? " " : &value.text[i], 1);
    }
    put_text(out, "\r\n");
    return 0;
}

long head_for_civetweb(const char *head, size_t bytes, char *buf, size_t size,
                       struct head_facts *facts, struct error *err)
{
    struct rewriter out = {.at = buf, .end = buf + size, .facts = facts};
    struct span rest = {head, bytes}, line;
    int status;

    *facts = (struct head_facts){.method = ""};
    if (!cut(&rest, '\n', &line) || line.length < 2) {
        return error_set(err, ERR_INVALID, "the request line is missing");
    }
    line.length--; /* the CR */
    status = put_request_line(&out, line, err);
    while (status == 0 && cut(&rest, '\n', &line) && line.length > 1) {
        line.length--;
        status = put_header(&out, line, err);
    }
    if (status < 0) {
        return -1;
    }
    put_text(&out, "\r\n");
    if (out.full) {
        return error_set(err, ERR_HEADERS_TOO_LARGE, "the head is larger than %zu bytes", size);
    }
    return out.at - buf;
}
