/*
 * httpd_peer - whose request it is, when proxies stand between.
 *
 * Each proxy appends the address it saw to X-Forwarded-For (or Forwarded, RFC 7239). Only what a
 * trusted proxy appended is true, so the list is read from its end: the first address that is no
 * trusted proxy is the client. A client may put anything before that. X-Forwarded-For counts when
 * both are there, because proxies that write only it pass a client's Forwarded on.
 * Threads: one exchange a thread. Failure: what is no address ends the walk at the last good one.
 */
#include "common/httpd/httpd_peer.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "common/base/alloc.h"
#include "common/httpd/httpd_internal.h"
#include "common/httpd/httpd_request.h"

/* The bare address of "1.2.3.4", "1.2.3.4:5", "[::1]:5", "::1". false: none of these. */
static bool take_address(const char *text, size_t length, char ret[INET6_ADDRSTRLEN])
{
    const char *end;
    struct in6_addr six;
    struct in_addr four;

    if (length > 0 && *text == '[') {
        text++;
        end = memchr(text, ']', length - 1);
        length = end != NULL ? (size_t)(end - text) : 0;
    } else if ((end = memchr(text, ':', length)) != NULL &&
               memchr(end + 1, ':', length - (size_t)(end + 1 - text)) == NULL) {
        length = (size_t)(end - text);
    }
    if (length == 0 || length >= INET6_ADDRSTRLEN) {
        return false;
    }
    memcpy(ret, text, length);
    ret[length] = '\0';
    return inet_pton(AF_INET, ret, &four) == 1 || inet_pton(AF_INET6, ret, &six) == 1;
}

/* Of one element of Forwarded, what for= says: "for=1.2.3.4;proto=http", for="[::1]:5". */
static bool take_for(const char *element, size_t length, const char **ret, size_t *ret_length)
{
    for (const char *at = element, *end = element + length; at < end;) {
        const char *stop = memchr(at, ';', (size_t)(end - at));
        size_t bytes = stop != NULL ? (size_t)(stop - at) : (size_t)(end - at);

        while (bytes > 0 && (*at == ' ' || *at == '\t')) {
            at++;
            bytes--;
        }
        if (bytes > 4 && strncasecmp(at, "for=", 4) == 0) {
            at += 4;
            bytes -= 4;
            while (bytes > 0 && strchr(" \t\"", at[bytes - 1]) != NULL) {
                bytes--;
            }
            if (bytes > 0 && *at == '"') {
                at++;
                bytes--;
            }
            *ret = at;
            *ret_length = bytes;
            return true;
        }
        at = stop != NULL ? stop + 1 : end;
    }
    return false;
}

static bool is_trusted(const struct httpd *httpd, const char *address)
{
    struct cidr one;

    if (!cidr_parse(address, strlen(address), &one)) {
        return false;
    }
    for (size_t i = 0; i < httpd->trusted.count; i++) {
        if (cidr_contains(httpd->trusted.list[i], one)) {
            return true;
        }
    }
    return false;
}

/* Walks one header's list from its end. true: the client was found, or the list cannot be read. */
static bool walk(struct http_exchange *exchange, const char *list, bool forwarded)
{
    size_t left = strlen(list);

    while (left > 0) {
        char address[INET6_ADDRSTRLEN];
        const char *comma = memrchr(list, ',', left), *entry = comma != NULL ? comma + 1 : list;
        size_t length = left - (size_t)(entry - list);

        left = comma != NULL ? (size_t)(comma - list) : 0;
        while (length > 0 && (*entry == ' ' || *entry == '\t')) {
            entry++;
            length--;
        }
        while (length > 0 && (entry[length - 1] == ' ' || entry[length - 1] == '\t')) {
            length--;
        }
        if ((forwarded && !take_for(entry, length, &entry, &length)) ||
            !take_address(entry, length, address)) {
            return true;
        }
        str_copy(exchange->client, sizeof(exchange->client), address);
        if (!is_trusted(exchange->httpd, address)) {
            return true;
        }
    }
    return false;
}

const char *http_peer(struct http_exchange *exchange)
{
    const struct mg_request_info *info = exchange->info;
    const char *name = "X-Forwarded-For";
    bool found;

    if (exchange->client[0] != '\0') {
        return exchange->client;
    }
    str_copy(exchange->client, sizeof(exchange->client), exchange->conn->peer);
    found = !is_trusted(exchange->httpd, exchange->client);
    if (!found && http_header(exchange, name) == NULL) {
        name = "Forwarded";
    }
    /* a header that comes twice is one list (RFC 9110 5.3) */
    for (int i = info->num_headers - 1; i >= 0 && !found; i--) {
        if (strcasecmp(info->http_headers[i].name, name) == 0) {
            found = walk(exchange, info->http_headers[i].value, name[0] == 'F');
        }
    }
    return exchange->client;
}
