/*
 * httpd_request - the guards every request passes, and reading its head.
 *
 * Owns: refusing what CivetWeb 1.15 accepts though two parsers may read it differently (RFC 9112
 * sections 2.2, 5.1, 5.2, 6.1, 6.3), access to method, path, query, headers, form parameters.
 * CivetWeb parses the head in place, replacing separators by NUL, so the shape of what it skipped
 * can still be seen between its pointers (of the head's last CR LF it overwrites the LF): that is
 * how bare LF, white space before a colon, folded lines and dropped headers are found. Threads: one
 * exchange a thread. Failure: error text names the header and never quotes a value.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "common/base/alloc.h"
#include "common/base/encode.h"
#include "common/httpd/httpd_internal.h"

/* ---- guards --------------------------------------------------------------------------------- */

/* Cuts trailing blanks of a value (they are not part of it, RFC 9110 5.5). The text lies in
 * CivetWeb's own writable buffer. */
static void trim_value(const char *value)
{
    char *end = (char *)value + strlen(value);

    while (end > value && (end[-1] == ' ' || end[-1] == '\t')) {
        *--end = '\0';
    }
}

static int check_head_shape(const struct mg_request_info *info, struct error *err)
{
    if (info->num_headers >= MG_MAX_HEADERS) {
        return error_set(err, ERR_HEADERS_TOO_LARGE, "more than %d headers", MG_MAX_HEADERS - 1);
    }
    for (int i = 0; i < info->num_headers; i++) {
        const char *name = info->http_headers[i].name;
        const char *value = info->http_headers[i].value;
        const char *after_colon = name + strlen(name) + 1;
        const char *after_line = value + strlen(value) + 2;

        if (*after_colon == '\0' && after_colon != value) {
            return error_set(err, ERR_INVALID, "white space between a header's name and its colon");
        }
        if (after_line[-1] != '\0') {
            return error_set(err, ERR_INVALID, "a header line does not end with CR LF");
        }
        if (i + 1 < info->num_headers ? after_line != info->http_headers[i + 1].name
                                      : after_line[0] != '\r' || after_line[1] != '\0') {
            return error_set(err, ERR_INVALID, "a header line is malformed or folded");
        }
    }
    for (int i = 0; i < info->num_headers; i++) {
        trim_value(info->http_headers[i].value);
    }
    return 0;
}

/* CivetWeb puts NULs over any run of white space in and behind the request line: only single
 * blanks, and nothing between that line and the first header, leave its pieces where they are. */
static int check_request_line(const struct mg_request_info *info, struct error *err)
{
    if (info->request_uri == NULL || info->http_version == NULL) {
        return error_set(err, ERR_INVALID, "the request line is incomplete");
    }
    const char *target_end = info->query_string != NULL
                                 ? info->query_string + strlen(info->query_string)
                                 : info->request_uri + strlen(info->request_uri);

    if (info->request_uri != info->request_method + strlen(info->request_method) + 1 ||
        info->http_version != target_end + 1 + strlen("HTTP/")) {
        return error_set(err, ERR_INVALID,
                         "the request line holds more white space than two blanks");
    }
    if (info->num_headers > 0 &&
        info->http_headers[0].name != info->http_version + strlen(info->http_version) + 2) {
        return error_set(err, ERR_INVALID, "white space before the first header");
    }
    return 0;
}

static int check_single(const struct mg_request_info *info, struct error *err)
{
    static const char *const single[] = {"Content-Length", "Transfer-Encoding", "Host",
                                         "Authorization",  "Content-Type",      "X-Request-ID",
                                         "Expect"};

    for (size_t s = 0; s < sizeof(single) / sizeof(single[0]); s++) {
        int seen = 0;

        for (int i = 0; i < info->num_headers; i++) {
            seen += strcasecmp(info->http_headers[i].name, single[s]) == 0;
        }
        if (seen > 1) {
            return error_set(err, ERR_HEADER_INVALID, "%s is given more than once", single[s]);
        }
    }
    return 0;
}

/* Methods whose requests CivetWeb takes to be without a body when they say nothing about one. */
static bool method_is_bodyless(const char *method)
{
    return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0 ||
           strcmp(method, "DELETE") == 0 || strcmp(method, "OPTIONS") == 0;
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
        if (exchange->http_1_0 || strcasecmp(coding, "chunked") != 0) {
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
        /* a POST without either header has no body (RFC 9112 6.3); CivetWeb would read on until
         * the socket closes, so it must not be asked, and it ends such a connection by itself */
        if (!method_is_bodyless(exchange->info->request_method)) {
            exchange->close = true;
        }
    }
    exchange->body_done = exchange->body_length == 0;
    if (expect != NULL) {
        if (strcasecmp(expect, "100-continue") != 0) {
            return error_set(err, ERR_HEADER_INVALID, "Expect: only 100-continue is known");
        }
        exchange->expects_continue = !exchange->http_1_0;
    }
    return 0;
}

static int check_path(const char *path, struct error *err)
{
    if (path == NULL || path[0] != '/') {
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

int httpd_check_request(struct http_exchange *exchange, struct error *err)
{
    const struct mg_request_info *info = exchange->info;
    const char *connection;

    exchange->http_1_0 = info->http_version == NULL || strcmp(info->http_version, "1.1") != 0;
    exchange->close = exchange->http_1_0 || atomic_load(&exchange->httpd->draining);
    if (check_request_line(info, err) != 0 || check_head_shape(info, err) != 0 ||
        check_single(info, err) != 0 || check_path(info->request_uri, err) != 0 ||
        check_framing(exchange, err) != 0) {
        return -1;
    }
    if (!exchange->http_1_0) {
        const char *host = http_header(exchange, "Host");

        if (host == NULL) {
            return error_set(err, ERR_HEADER_MISSING, "Host is missing");
        }
        if (strpbrk(host, " \t,/@") != NULL) {
            return error_set(err, ERR_HEADER_INVALID, "Host is not a host name");
        }
    }
    /* CivetWeb keeps a connection only for no Connection header or exactly this value */
    connection = http_header(exchange, "Connection");
    if (connection != NULL && strcasecmp(connection, "keep-alive") != 0) {
        exchange->close = true;
    }
    return 0;
}

/* ---- access --------------------------------------------------------------------------------- */

const char *http_method(const struct http_exchange *exchange)
{
    return exchange->info->request_method;
}

const char *http_path(const struct http_exchange *exchange)
{
    return exchange->info->request_uri;
}

const char *http_query(const struct http_exchange *exchange)
{
    return exchange->info->query_string != NULL ? exchange->info->query_string : "";
}

const char *http_header(const struct http_exchange *exchange, const char *name)
{
    const struct mg_request_info *info = exchange->info;

    for (int i = 0; i < info->num_headers; i++) {
        if (strcasecmp(info->http_headers[i].name, name) == 0) {
            return info->http_headers[i].value;
        }
    }
    return NULL;
}

bool http_header_at(const struct http_exchange *exchange, int index, const char **ret_name,
                    const char **ret_value)
{
    if (index < 0 || index >= exchange->info->num_headers) {
        return false;
    }
    *ret_name = exchange->info->http_headers[index].name;
    *ret_value = exchange->info->http_headers[index].value;
    return true;
}

const char *http_peer(const struct http_exchange *exchange)
{
    return exchange->info->remote_addr;
}

int64_t http_body_length(const struct http_exchange *exchange)
{
    return exchange->body_length;
}

/* Heap copy, decoded; NULL when malformed. */
static char *form_decode(const char *text, size_t length)
{
    char *copy = xstrndup(text, length);
    long decoded = percent_decode(copy, true);

    if (decoded < 0 || !utf8_is_valid(copy, (size_t)decoded)) {
        free(copy);
        return NULL;
    }
    return copy;
}

static bool form_name_is(const char *text, size_t length, const char *name)
{
    char *decoded = form_decode(text, length);
    bool same = decoded != NULL && strcmp(decoded, name) == 0;

    free(decoded);
    return same;
}

int http_form_param(const char *form, const char *name, char *out, size_t size)
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
            value = form_decode(pair + name_length + 1, length - name_length - 1);
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

int http_query_param(const struct http_exchange *exchange, const char *name, char *out, size_t size)
{
    return http_form_param(http_query(exchange), name, out, size);
}
