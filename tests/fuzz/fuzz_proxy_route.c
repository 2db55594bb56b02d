/*
 * Fuzz target: where the proxy sends a request. Lines of the input are the host name, the
 * two routing headers, the query and the target's path; the first is a mask too. Whatever comes in:
 * a target has a well-formed id and port, a signed URL matches only the token that made its
 * signature, and a mask that is taken makes one word of a line.
 */
#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/proxy/route.h"
#include "common/proxy/signature.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_target(const struct route_target *target)
{
    const size_t length = strlen(target->id);

    if (target->port < 1 || target->port > 65535 || length == 0 || length >= ROUTE_ID_BYTES ||
        strlen(target->suffix) >= ROUTE_SUFFIX_BYTES || strpbrk(target->suffix, ".:") != NULL) {
        abort();
    }
    for (size_t i = 0; i < length; i++) {
        if (!islower((unsigned char)target->id[i]) && !isdigit((unsigned char)target->id[i])) {
            abort();
        }
    }
}

static void check_signed(const char *path, const char *query)
{
    static const char *const methods[] = {"GET", "POST", "HEAD", "PUT"};
    struct route_signed url;
    char made[SIGNATURE_BYTES];

    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (!route_signed_parse(methods[i], path, query, &url)) {
            continue;
        }
        if (i == 3 || url.signature[0] == '\0') {
            abort();
        }
        signature_make(url.path, i == 1 ? "write" : "read", url.username, "token", url.expiration,
                       made);
        if (route_signed_matches(&url, "token") != (strcmp(made, url.signature) == 0)) {
            abort();
        }
        memcpy(url.signature, made, sizeof(made));
        if (!route_signed_matches(&url, "token") || route_signed_matches(&url, "another")) {
            abort();
        }
    }
}

static void check_mask(const char *mask)
{
    char host[ROUTE_MASK_BYTES];

    if (!route_mask_valid(mask)) {
        return;
    }
    route_mask_host(mask, 65535, host);
    if (host[0] == '\0' || strlen(host) > strlen(mask) || strpbrk(host, " \t\r\n/${}") != NULL) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct route_target target;
    char *lines[5] = {NULL}, *text = malloc(size + 1), *at = text;

    if (text == NULL) {
        abort();
    }
    memcpy(text, data, size);
    text[size] = '\0';
    for (int i = 0; i < 5 && at != NULL; i++) {
        lines[i] = strsep(&at, "\n");
        /* an empty line is a header that is not there */
        lines[i] = i < 3 && lines[i][0] == '\0' ? NULL : lines[i];
    }
    if (route_request(lines[0], lines[1], lines[2], &target) == ROUTE_SANDBOX) {
        check_target(&target);
    }
    if (lines[0] != NULL) {
        check_mask(lines[0]);
    }
    if (lines[3] != NULL) {
        check_signed(lines[4] != NULL ? lines[4] : "/files", lines[3]);
    }
    free(text);
    return 0;
}
