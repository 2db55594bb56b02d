/*
 * Fuzz target: the query of a signed file URL in the agent. The input's first byte chooses read or
 * write and whether a header brings a token; the next line is that token, the rest the query.
 * Whatever comes in: access is given for the token, or for a signature of exactly this path, user
 * and operation that has not expired; and for nothing else.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/proxy/signature.h"
#include "deploy/sandbox-host/agent/access.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__wrap_http_header(const struct http_exchange *exchange, const char *name);
int __wrap_http_query_param(const struct http_exchange *exchange, const char *name, char *out,
                            size_t size);

int __wrap_http_query_bytes(const struct http_exchange *exchange, const char *name, char *out,
                            size_t size);

static const char *given_token, *given_query;

const char *__wrap_http_header(const struct http_exchange *exchange, const char *name)
{
    (void)exchange;
    return strcmp(name, "X-Access-Token") == 0 ? given_token : NULL;
}

int __wrap_http_query_param(const struct http_exchange *exchange, const char *name, char *out,
                            size_t size)
{
    (void)exchange;
    return http_form_param(given_query, name, out, size);
}

int __wrap_http_query_bytes(const struct http_exchange *exchange, const char *name, char *out,
                            size_t size)
{
    (void)exchange;
    return http_form_bytes(given_query, name, out, size);
}

static const char *param(const char *name, char *out, size_t size)
{
    if (http_form_param(given_query, name, out, size) != 1) {
        out[0] = '\0';
    }
    return out;
}

/* Access was given: was it due? */
static void check_due(const char *operation, const char *token)
{
    static char path[PATH_MAX];
    char username[64], signature[128], expiration[24], made[SIGNATURE_BYTES];

    if (given_token != NULL && given_token[0] != '\0') {
        if (strcmp(given_token, token) != 0) {
            abort();
        }
        return;
    }
    if (http_form_bytes(given_query, "path", path, sizeof(path)) != 1) {
        path[0] = '\0';
    }
    param("username", username, sizeof(username));
    param("signature", signature, sizeof(signature));
    param("signature_expiration", expiration, sizeof(expiration));
    signature_make(path, operation, username, token, expiration, made);
    if (strcmp(made, signature) != 0 ||
        (expiration[0] != '\0' && strtoll(expiration, NULL, 10) < clock_wall_ms() / 1000)) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct access_request request;
    char token[] = "token", user[] = "user", home[] = "/home/user";
    struct agent_config config = {.access_token = token, .user = user, .home = home};
    struct error err = ERROR_INIT;
    int status = 0;

    if (size < 1 || memchr(data, '\0', size) != NULL) {
        return 0;
    }
    char *text = strndup((const char *)data + 1, size - 1), *line = text;
    if (text == NULL) {
        abort();
    }
    given_token = (data[0] & 2) != 0 ? strsep(&line, "\n") : NULL;
    given_query = line != NULL ? line : "";
    const char *operation = (data[0] & 1) != 0 ? "write" : "read";
    if (access_request_init(&request, NULL, &config, operation, &status, &err) == 0) {
        check_due(operation, token);
    } else if (status != 400 && status != 401) {
        abort();
    }
    free(text);
    return 0;
}
