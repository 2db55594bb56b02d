/*
 * httpd_request - the guards every request passes, and reading its head.
 *
 * Owns: refusing heads whose fields leave a request's length, path or host in doubt (RFC 9112
 * sections 3.2, 6.1, 6.3), access to method, path, query, headers, form parameters, and the
 * client's address behind trusted proxies. Threads: one exchange a thread. Failure: error text
 * names the header and never quotes a value.
 */
#include "common/httpd/httpd_request.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/alloc.h"
#include "common/base/encode.h"
#include "common/httpd/httpd_internal.h"

/* ---- guards --------------------------------------------------------------------------------- */

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
        if (exchange->facts->http_1_0 || strcasecmp(coding, "chunked") != 0) {
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
        exchange->expects_continue = !exchange->facts->http_1_0;
    }
    return 0;
}

int httpd_check_request(struct http_exchange *exchange, struct error *err)
{
    const struct head_facts *facts = exchange->facts;

    exchange->close = facts->http_1_0 || atomic_load(&exchange->httpd->draining) || facts->close;
    if (facts->target_fault != NULL) {
        return error_set(err, ERR_INVALID, "%s", facts->target_fault);
    }
    if (check_single(exchange->info, err) != 0 || check_framing(exchange, err) != 0) {
        return -1;
    }
    if (!facts->http_1_0) {
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
    return exchange->facts->method;
}

const char *http_path(const struct http_exchange *exchange)
{
    return exchange->path;
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
