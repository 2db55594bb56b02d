/* access - see access.h. */
#include "deploy/sandbox-host/agent/access.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/proxy/signature.h"

bool access_token_matches(const struct agent_config *config, const char *header)
{
    const size_t length = config->access_token != NULL ? strlen(config->access_token) : 0;

    return header != NULL && strlen(header) == length &&
           sodium_memcmp(header, config->access_token, length) == 0;
}

/* The header's token, or a signature over this very request. */
static int check_access(struct http_exchange *exchange, const struct agent_config *config,
                        const char *path, const char *operation, const char *username,
                        struct error *err)
{
    const char *token = http_header(exchange, "X-Access-Token");
    char given[128], expiration[24], expected[SIGNATURE_BYTES];

    if (config->access_token == NULL) {
        return 0;
    }
    if (token != NULL && token[0] != '\0') {
        return access_token_matches(config, token)
                   ? 0
                   : error_set(err, ERR_FORBIDDEN,
                               "access token present in header but does not match");
    }
    const int found = http_query_param(exchange, "signature", given, sizeof(given));
    if (found == 0) {
        return error_set(err, ERR_FORBIDDEN, "missing signature query parameter");
    }
    const int expires =
        http_query_param(exchange, "signature_expiration", expiration, sizeof(expiration));
    const bool numeric = expires != 1 || (expiration[0] != '\0' && strlen(expiration) <= 18 &&
                                          strspn(expiration, "0123456789") == strlen(expiration));
    if (found < 0 || expires < 0 || !numeric) {
        return error_set(err, ERR_FORBIDDEN, "invalid signature");
    }
    signature_make(path, operation, username, config->access_token, expires == 1 ? expiration : "",
                   expected);
    if (strlen(given) != strlen(expected) ||
        sodium_memcmp(given, expected, strlen(expected)) != 0) {
        return error_set(err, ERR_FORBIDDEN, "invalid signature");
    }
    if (expires == 1 && strtoll(expiration, NULL, 10) < clock_wall_ms() / 1000) {
        return error_set(err, ERR_FORBIDDEN, "signature is already expired");
    }
    return 0;
}

int access_request_init(struct access_request *request, struct http_exchange *exchange,
                        const struct agent_config *config, const char *operation, int *ret_status,
                        struct error *err)
{
    char username[64];

    *request = (struct access_request){.exchange = exchange, .config = config};
    const int named = http_query_param(exchange, "username", username, sizeof(username));
    const int given = http_query_bytes(exchange, "path", request->path, sizeof(request->path));
    *ret_status = 400;
    if (given < 0) {
        return error_set(err, ERR_INVALID, "path: malformed or longer than %d bytes", PATH_MAX - 1);
    }
    request->has_path = given == 1;
    if (given != 1) {
        request->path[0] = '\0';
    }
    *ret_status = 401;
    if (named < 0) {
        return error_set(err, ERR_INVALID, "error looking up user: malformed username");
    }
    if (named != 1) {
        username[0] = '\0';
    }
    if (check_access(exchange, config, request->path, operation, username, err) != 0) {
        return -1;
    }
    if (user_lookup(config, username, &request->user, err) != 0) {
        return error_set(err, ERR_NOT_FOUND, "error looking up user '%s': user: unknown user %s",
                         username, username);
    }
    return 0;
}
