/*
 * httpd_request - the guards every request passes, and reading its head.
 *
 * Owns: refusing heads whose fields leave a request's length, path or host in doubt (RFC 9112
 * sections 3.2, 6.1, 6.3), access to method, path, query, headers, form parameters, and the
 * client's address behind trusted proxies. Threads: one exchange a thread. Failure: error text
 * names the header and never quotes a value.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/alloc.h"
#include "common/base/encode.h"
#include "common/httpd/httpd_internal.h"

/* ---- guards --------------------------------------------------------------------------------- */

static int check_single(const struct http_head *head, struct error *err)
{
    static const char *const single[] = {"Content-Length", "Transfer-Encoding", "Host",
                                         "Authorization",  "Content-Type",      "X-Request-ID",
                                         "Expect"};

    for (size_t s = 0; s < sizeof(single) / sizeof(single[0]); s++) {
        int seen = 0;

        for (int i = 0; i < head->count; i++) {
            seen += strcasecmp(head->headers[i].name, single[s]) == 0;
        }
        if (seen > 1) {
            return error_set(err, ERR_HEADER_INVALID, "%s is given more than once", single[s]);
        }
    }
    return 0;
}

static int check_framing(struct http_exchange *exchange, struct error *err)
{
    const char *length = http_header(exchange, "Content-Length");
    const char *coding = http_header(exchange, "Transfer-Encoding");
    const char *expect = http_header(exchange, "Expect");

    if (length != NULL && coding != NULL) {
        return error_set(err, ERR_HEADER_INVALID,
                         "Content-Length and Transfer-Encoding exclude each other");
    }
    if (coding != NULL) {
        if (exchange->head.http_1_0 || strcasecmp(coding, "chunked") != 0) {
            return error_set(err, ERR_HEADER_INVALID, "Transfer-Encoding: only chunked is known");
        }
        exchange->body_length = -1;
    } else if (length != NULL) {
        size_t digits = strspn(length, "0123456789");

        if (digits == 0 || digits > 18 || length[digits] != '\0') {
            return error_set(err, ERR_HEADER_INVALID, "Content-Length is not a number");
        }
        exchange->body_length = strtoll(length, NULL, 10);
    } else {
        exchange->body_length = 0;
    }
    exchange->body_done = exchange->body_length == 0;
    if (expect != NULL) {
        if (strcasecmp(expect, "100-continue") != 0) {
            return error_set(err, ERR_HEADER_INVALID, "Expect: only 100-continue is known");
        }
        exchange->expects_continue = !exchange->head.http_1_0;
    }
    return 0;
}

static int check_path(const char *path, struct error *err)
{
    if (path[0] != '/') {
        return error_set(err, ERR_INVALID, "the request target is not a path");
    }
    for (const char *p = path; *p != '\0'; p++) {
        unsigned char c = (unsigned char)*p;

        if (c <= ' ' || c >= 0x7f) {
            return error_set(err, ERR_INVALID, "the path holds a character that must be escaped");
        }
        if (c != '%') {
            continue;
        }
        if (strspn(p + 1, "0123456789abcdefABCDEF") < 2) {
            return error_set(err, ERR_INVALID, "the path holds a malformed escape");
        }
        if (p[1] == '0' && p[2] == '0') {
            return error_set(err, ERR_INVALID, "the path holds an escaped NUL");
        }
    }
    return 0;
}

/* Whether Connection, which may come more than once, lists this option. */
static bool connection_lists(const struct http_head *head, const char *option)
{
    const size_t wanted = strlen(option);

    for (int i = 0; i < head->count; i++) {
        const char *at = head->headers[i].value;

        if (strcasecmp(head->headers[i].name, "Connection") != 0) {
            continue;
        }
        while (*(at += strspn(at, " \t,")) != '\0') {
            const size_t length = strcspn(at, " \t,");

            if (length == wanted && strncasecmp(at, option, length) == 0) {
                return true;
            }
            at += length;
        }
    }
    return false;
}

int httpd_check_request(struct http_exchange *exchange, struct error *err)
{
    const struct http_head *head = &exchange->head;

    exchange->close = head->http_1_0 || atomic_load(&exchange->httpd->draining) ||
                      connection_lists(head, "close");
    if (check_single(head, err) != 0 || check_path(head->path, err) != 0 ||
        check_framing(exchange, err) != 0) {
        return -1;
    }
    if (!head->http_1_0) {
        const char *host = http_header(exchange, "Host");

        if (host == NULL) {
            return error_set(err, ERR_HEADER_MISSING, "Host is missing");
        }
        if (strpbrk(host, " \t,/@") != NULL) {
            return error_set(err, ERR_HEADER_INVALID, "Host is not a host name");
        }
    }
    return 0;
}

/* ---- access --------------------------------------------------------------------------------- */

const char *http_method(const struct http_exchange *exchange)
{
    return exchange->head.method;
}

const char *http_path(const struct http_exchange *exchange)
{
    return exchange->head.path;
}

const char *http_query(const struct http_exchange *exchange)
{
    return exchange->head.query;
}

const char *http_header(const struct http_exchange *exchange, const char *name)
{
    const struct http_head *head = &exchange->head;

    for (int i = 0; i < head->count; i++) {
        if (strcasecmp(head->headers[i].name, name) == 0) {
            return head->headers[i].value;
        }
    }
    return NULL;
}

bool http_header_at(const struct http_exchange *exchange, int index, const char **ret_name,
                    const char **ret_value)
{
    if (index < 0 || index >= exchange->head.count) {
        return false;
    }
    *ret_name = exchange->head.headers[index].name;
    *ret_value = exchange->head.headers[index].value;
    return true;
}

int64_t http_body_length(const struct http_exchange *exchange)
{
    return exchange->body_length;
}

/* Heap copy, decoded; NULL when malformed. */
static char *form_decode(const char *text, size_t length, bool any_bytes)
{
    char *copy = xstrndup(text, length);
    long decoded = percent_decode(copy, true);

    if (decoded < 0 || (!any_bytes && !utf8_is_valid(copy, (size_t)decoded))) {
        free(copy);
        return NULL;
    }
    return copy;
}

static bool form_name_is(const char *text, size_t length, const char *name)
{
    char *decoded = form_decode(text, length, false);
    bool same = decoded != NULL && strcmp(decoded, name) == 0;

    free(decoded);
    return same;
}

static int form_param(const char *form, const char *name, bool any_bytes, char *out, size_t size)
{
    const char *next;

    for (const char *pair = form; *pair != '\0'; pair = next) {
        size_t length = strcspn(pair, "&");
        size_t name_length = strcspn(pair, "=&");
        char *value;
        int cut;

        next = pair + length + (pair[length] == '&');
        if (!form_name_is(pair, name_length, name)) {
            continue;
        }
        if (name_length == length) {
            value = xstrdup("");
        } else {
            value = form_decode(pair + name_length + 1, length - name_length - 1, any_bytes);
        }
        if (value == NULL) {
            return -1;
        }
        cut = str_copy(out, size, value);
        free(value);
        return cut == 0 ? 1 : -1;
    }
    return 0;
}

int http_form_param(const char *form, const char *name, char *out, size_t size)
{
    return form_param(form, name, false, out, size);
}

int http_form_bytes(const char *form, const char *name, char *out, size_t size)
{
    return form_param(form, name, true, out, size);
}

int http_query_bytes(const struct http_exchange *exchange, const char *name, char *out, size_t size)
{
    return http_form_bytes(http_query(exchange), name, out, size);
}

int http_query_param(const struct http_exchange *exchange, const char *name, char *out, size_t size)
{
    return http_form_param(http_query(exchange), name, out, size);
}
