/* route - see route.h. */
#include "common/proxy/route.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/base/strbuf.h"
#include "common/httpd/httpd.h"
#include "common/proxy/signature.h"

static bool valid_id(const char *id, size_t length)
{
    if (length == 0 || length >= ROUTE_ID_BYTES) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        if (!islower((unsigned char)id[i]) && !isdigit((unsigned char)id[i])) {
            return false;
        }
    }
    return true;
}

bool route_parse_port(const char *text, size_t length, int *ret)
{
    int port = 0;

    if (length == 0 || length > 5) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        if (!isdigit((unsigned char)text[i])) {
            return false;
        }
        port = port * 10 + (text[i] - '0');
    }
    *ret = port;
    return port >= 1 && port <= 65535;
}

/* ---- masks ---- */

#define MASK_PORT "${PORT}"
/* no port has as many digits: what a mask makes is no longer than the mask */
enum { MASK_PORT_BYTES = sizeof(MASK_PORT) - 1 };

bool route_mask_valid(const char *mask)
{
    if (*mask == '\0' || strlen(mask) >= ROUTE_MASK_BYTES) {
        return false;
    }
    while (*mask != '\0') {
        if (strncmp(mask, MASK_PORT, MASK_PORT_BYTES) == 0) {
            mask += MASK_PORT_BYTES;
        } else if (isalnum((unsigned char)*mask) || strchr("-._:[]", *mask) != NULL) {
            mask++;
        } else {
            return false; /* what would end the line, and whatever else is in no host's name */
        }
    }
    return true;
}

void route_mask_host(const char *mask, int port, char ret[ROUTE_MASK_BYTES])
{
    char digits[16];
    size_t at = 0;

    assert(strlen(mask) < ROUTE_MASK_BYTES && port <= 65535);
    snprintf(digits, sizeof(digits), "%d", port);
    while (*mask != '\0') {
        if (strncmp(mask, MASK_PORT, MASK_PORT_BYTES) == 0) {
            memcpy(ret + at, digits, strlen(digits));
            at += strlen(digits);
            mask += MASK_PORT_BYTES;
        } else {
            ret[at++] = *mask++;
        }
    }
    ret[at] = '\0';
}

/* ---- targets ---- */

/* "{port}-{id}.…", or with a suffix (older SDKs of E2B append a client id) "{port}-{id}-{suffix}.…"
 */
static bool parse_label(const char *host, struct route_target *ret)
{
    const size_t digits = strspn(host, "0123456789");

    if (digits == 0 || host[digits] != '-') {
        return false;
    }
    const char *id = host + digits + 1;
    const size_t length = strcspn(id, ".-:");
    const size_t label = length + strcspn(id + length, ".:");
    const size_t suffix = label > length ? label - length - 1 : 0;
    if (id[label] != '.' || !valid_id(id, length) || suffix >= ROUTE_SUFFIX_BYTES ||
        !route_parse_port(host, digits, &ret->port)) {
        return false;
    }
    memcpy(ret->suffix, id + label - suffix, suffix);
    ret->suffix[suffix] = '\0';
    memcpy(ret->id, id, length);
    ret->id[length] = '\0';
    return true;
}

/* E2B honours the routing headers on these names; a name without a dot is a container's. */
static bool takes_headers(const char *host)
{
    const size_t name = strcspn(host, ":");
    struct in_addr address;
    char text[64];

    if (name >= sizeof(text)) {
        return false;
    }
    memcpy(text, host, name);
    text[name] = '\0';
    return strncasecmp(text, "sandbox.", 8) == 0 || strchr(text, '.') == NULL ||
           inet_pton(AF_INET, text, &address) == 1;
}

enum route_kind route_request(const char *host, const char *id_header, const char *port_header,
                              struct route_target *ret)
{
    if (host != NULL && parse_label(host, ret)) {
        return ROUTE_SANDBOX;
    }
    if ((id_header == NULL && port_header == NULL) || host == NULL || !takes_headers(host)) {
        return ROUTE_API;
    }
    if (id_header == NULL || port_header == NULL) {
        return ROUTE_BAD;
    }
    const size_t id_bytes = strcspn(id_header, "-");
    if (!valid_id(id_header, id_bytes) ||
        !route_parse_port(port_header, strlen(port_header), &ret->port)) {
        return ROUTE_BAD;
    }
    memcpy(ret->id, id_header, id_bytes);
    ret->id[id_bytes] = '\0';
    ret->suffix[0] = '\0';
    return ROUTE_SANDBOX;
}

/* A parameter that may be absent (""); false when it is malformed or too long. */
static bool query_text(const char *query, const char *name, char *out, size_t size)
{
    const int found = http_form_param(query, name, out, size);

    if (found == 0) {
        out[0] = '\0';
    }
    return found >= 0;
}

bool route_signed_parse(const char *method, const char *path, const char *query,
                        struct route_signed *ret)
{
    ret->upload = strcmp(method, "POST") == 0;
    if (strcmp(path, "/files") != 0 ||
        (!ret->upload && strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)) {
        return false;
    }
    return query_text(query, "path", ret->path, sizeof(ret->path)) &&
           query_text(query, "username", ret->username, sizeof(ret->username)) &&
           query_text(query, "signature_expiration", ret->expiration, sizeof(ret->expiration)) &&
           query_text(query, "signature", ret->signature, sizeof(ret->signature)) &&
           ret->signature[0] != '\0';
}

bool route_signed_matches(const struct route_signed *url, const char *token)
{
    char expected[SIGNATURE_BYTES];

    signature_make(url->path, url->upload ? "write" : "read", url->username, token, url->expiration,
                   expected);
    return strlen(url->signature) == strlen(expected) &&
           sodium_memcmp(url->signature, expected, strlen(expected)) == 0;
}
