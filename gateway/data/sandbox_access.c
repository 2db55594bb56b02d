/* sandbox_access - see sandbox_access.h. */
#include "gateway/data/sandbox_access.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/proxy/error_answers.h"
#include "common/proxy/head.h"
#include "common/proxy/signature.h"
#include "gateway/data/port_urls.h"

enum { HOST_BYTES = 256, TOKEN_HEADER_BYTES = 256, PATH_START_BYTES = 64 };

/* Paths of envd that only its own provider may call. */
static const char *const blocked_paths[] = {"/init",     "/freeze", "/unfreeze", "/collapse",
                                            "/fsfreeze", "/fsthaw", "/upgrade"};

static void refuse(struct strbuf *answer, const char *head, int status, const char *reason,
                   const char *message)
{
    error_answer_plain(answer, head, status, reason, message);
}

static bool refuse_error(struct strbuf *answer, const char *head, const struct error *err)
{
    if (err->code == ERR_DATABASE_DOWN || err->code == ERR_OVERLOADED) {
        refuse(answer, head, 503, "Service Unavailable", "try again");
    } else {
        refuse(answer, head, 500, "Internal Server Error", "an unexpected fault of the server");
    }
    return false;
}

/* ---- signed file URLs ---------------------------------------------------------------------------
 */

static void put_parameter(struct strbuf *out, const char *name, const char *value)
{
    if (value[0] != '\0') {
        strbuf_printf(out, "%c%s=", out->length == strlen("/files") ? '?' : '&', name);
        strbuf_put_urlencoded(out, value, false);
    }
}

/* The same URL, signed with the token that the sandbox's own agent knows. */
static void sign_anew(const struct route_signed *url, const char *token, struct strbuf *path)
{
    char signature[SIGNATURE_BYTES];

    strbuf_puts(path, "/files");
    put_parameter(path, "path", url->path);
    put_parameter(path, "username", url->username);
    if (token[0] != '\0') {
        signature_make(url->path, url->upload ? "write" : "read", url->username, token,
                       url->expiration, signature);
        put_parameter(path, "signature", signature);
        put_parameter(path, "signature_expiration", url->expiration);
    }
}

/* Reads a signed file URL from the head. */
static bool parse_signed(const char *head, struct route_signed *url)
{
    const char *method = head_method_is(head, "POST")   ? "POST"
                         : head_method_is(head, "GET")  ? "GET"
                         : head_method_is(head, "HEAD") ? "HEAD"
                                                        : "";
    char *path, *query;
    bool is_one;

    if (strstr(head, "signature=") == NULL) {
        return false;
    }
    path = xmalloc(HEAD_MAX_BYTES);
    query = xmalloc(HEAD_MAX_BYTES);
    is_one = head_target(head, path, HEAD_MAX_BYTES, query, HEAD_MAX_BYTES) &&
             route_signed_parse(method, path, query, url);
    free(path);
    free(query);
    return is_one;
}

/* Admits a file URL that was signed with this token; access->path is filled. False: `answer` is. */
static bool admit_signed(const char *head, const char *token, struct sandbox_access *access,
                         struct strbuf *answer)
{
    struct route_signed *url = xcalloc(1, sizeof(*url));
    const char *fault = NULL;

    if (!parse_signed(head, url) || !route_signed_matches(url, token)) {
        fault = "access token or signature missing or invalid";
    } else if (url->expiration[0] != '\0' &&
               strtoll(url->expiration, NULL, 10) < clock_wall_ms() / 1000) {
        fault = "signature is already expired";
    }
    if (fault != NULL) {
        refuse(answer, head, 401, "Unauthorized", fault);
    } else {
        sign_anew(url, access->sandbox.access_token, &access->path);
    }
    free(url);
    return fault == NULL;
}

/* ---- which sandbox -----------------------------------------------------------------------------
 */

struct signer {
    struct gateway *gateway;
    const struct route_signed *url;
};

static bool is_signer(void *arg, const char *sandbox_id)
{
    const struct signer *signer = arg;
    struct error ignored = ERROR_INIT; /* the key was read before */
    char token[SANDBOX_TOKEN_BYTES];

    return sandbox_token_make(signer->gateway->sandbox_tokens, sandbox_id, SANDBOX_TOKEN_ENVD,
                              token, &ignored) == 0 &&
           route_signed_matches(signer->url, token);
}

/* E2B's SDKs put E2B_SANDBOX_URL in front of a signed file URL and nothing that names the sandbox:
 * its signature does. False: `answer` is filled. */
static bool find_nameless(struct gateway *gateway, const char *head, struct sandbox_access *access,
                          struct strbuf *answer)
{
    struct route_signed *url = xcalloc(1, sizeof(*url));
    struct signer signer = {.gateway = gateway, .url = url};
    char token[SANDBOX_TOKEN_BYTES];
    struct error err = ERROR_INIT;
    bool found = false;

    if (!parse_signed(head, url)) {
        refuse(answer, head, 404, "Not Found", "no sandbox is named");
    } else if (sandbox_token_make(gateway->sandbox_tokens, "", SANDBOX_TOKEN_ENVD, token, &err) <
                   0 ||
               sandbox_cache_find(gateway->sandbox_cache, is_signer, &signer, access->sandbox_id,
                                  &err) < 0) {
        if (err.code == ERR_SANDBOX_NOT_FOUND) {
            refuse(answer, head, 401, "Unauthorized", "invalid signature");
        } else {
            refuse_error(answer, head, &err);
        }
    } else {
        found = true;
        id_uuid_plain(access->sandbox_id, access->route.id);
        access->route.port = ROUTE_ENVD_PORT;
        access->is_envd = true;
    }
    free(url);
    return found;
}

static bool read_route(struct gateway *gateway, const char *head, struct sandbox_access *access,
                       struct strbuf *answer)
{
    char host[HOST_BYTES], id[64], port[16];
    const bool has_host = head_value(head, "Host", host, sizeof(host));
    const bool has_id = head_value(head, "E2b-Sandbox-Id", id, sizeof(id));
    const bool has_port = head_value(head, "E2b-Sandbox-Port", port, sizeof(port));

    switch (route_request(has_host ? host : NULL, has_id ? id : NULL, has_port ? port : NULL,
                          &access->route)) {
    case ROUTE_SANDBOX:
        break;
    case ROUTE_BAD:
        refuse(answer, head, 400, "Bad Request", "invalid sandbox routing headers");
        return false;
    case ROUTE_API:
        return find_nameless(gateway, head, access, answer);
    }
    if (!id_uuid_from_plain(access->route.id, strlen(access->route.id), access->sandbox_id)) {
        error_answer_sandbox(answer, head, &access->route, ERROR_ANSWER_NOT_FOUND);
        return false;
    }
    access->is_envd = access->route.port == ROUTE_ENVD_PORT;
    return true;
}

/* ---- tokens ------------------------------------------------------------------------------------
 */

static bool admit_envd(struct gateway *gateway, const char *head, struct sandbox_access *access,
                       struct strbuf *answer)
{
    char token[TOKEN_HEADER_BYTES], right[SANDBOX_TOKEN_BYTES], path[PATH_START_BYTES];
    char query[HOST_BYTES];
    struct error err = ERROR_INIT;
    bool is_right = false;

    /* longer paths and queries than these are none of the paths below */
    if (!head_target(head, path, sizeof(path), query, sizeof(query))) {
        path[0] = '\0';
    }
    for (size_t i = 0; i < sizeof(blocked_paths) / sizeof(blocked_paths[0]); i++) {
        if (strcmp(path, blocked_paths[i]) == 0) {
            refuse(answer, head, 404, "Not Found", "this path is not served");
            return false;
        }
    }
    access->is_probe = strcmp(path, "/health") == 0;
    if (head_value(head, "X-Access-Token", token, sizeof(token)) &&
        sandbox_token_check(gateway->sandbox_tokens, access->sandbox_id, SANDBOX_TOKEN_ENVD, token,
                            &is_right, &err) < 0) {
        return refuse_error(answer, head, &err);
    }
    if (is_right || access->is_probe) {
        return true;
    }
    if (sandbox_token_make(gateway->sandbox_tokens, access->sandbox_id, SANDBOX_TOKEN_ENVD, right,
                           &err) < 0) {
        return refuse_error(answer, head, &err);
    }
    return admit_signed(head, right, access, answer);
}

/* Opened by the token of a private port's host name, or as a public port. False: `answer` is
 * filled. */
static bool admit_exposed(struct gateway *gateway, const char *head, struct sandbox_access *access,
                          bool has_token, struct strbuf *answer)
{
    const struct route_target *route = &access->route;
    struct error err = ERROR_INIT;
    struct store_port port;

    if (port_cache_find(gateway->port_cache, access->sandbox_id, route->port,
                        !port_urls_is_service(gateway, route->port), &port, &err) < 0) {
        if (err.code != ERR_NOT_FOUND) {
            return refuse_error(answer, head, &err);
        }
        if (!has_token) {
            refuse(answer, head, 404, "Not Found", "this port is not exposed");
            return false;
        }
    } else if (port.is_public
                   ? route->suffix[0] == '\0'
                   : strlen(route->suffix) == STORE_PORT_TOKEN_LENGTH &&
                         sodium_memcmp(route->suffix, port.token, STORE_PORT_TOKEN_LENGTH) == 0) {
        return true;
    } else if (route->suffix[0] != '\0') {
        refuse(answer, head, 404, "Not Found", "this port is not exposed");
        return false;
    }
    error_answer_sandbox(answer, head, route,
                         has_token ? ERROR_ANSWER_TOKEN_WRONG : ERROR_ANSWER_TOKEN_MISSING);
    return false;
}

static bool admit_port(struct gateway *gateway, const char *head, struct sandbox_access *access,
                       struct strbuf *answer)
{
    char token[TOKEN_HEADER_BYTES];
    struct error err = ERROR_INIT;
    bool has_token = head_value(head, ERROR_ANSWER_TOKEN_HEADER, token, sizeof(token));
    bool is_right = false;

    if (has_token && sandbox_token_check(gateway->sandbox_tokens, access->sandbox_id,
                                         SANDBOX_TOKEN_TRAFFIC, token, &is_right, &err) < 0) {
        return refuse_error(answer, head, &err);
    }
    return is_right || admit_exposed(gateway, head, access, has_token, answer);
}

bool sandbox_access_check(struct gateway *gateway, const char *head, struct sandbox_access *access,
                          struct strbuf *answer)
{
    struct error err = ERROR_INIT;

    if (!read_route(gateway, head, access, answer)) {
        return false;
    }
    if (sandbox_cache_get(gateway->sandbox_cache, access->sandbox_id, &access->sandbox, &err) < 0) {
        if (err.code != ERR_SANDBOX_NOT_FOUND) {
            return refuse_error(answer, head, &err);
        }
        error_answer_sandbox(answer, head, &access->route, ERROR_ANSWER_NOT_FOUND);
        return false;
    }
    if (!(access->is_envd ? admit_envd : admit_port)(gateway, head, access, answer)) {
        return false;
    }
    if (auth_owner_disabled(gateway->auth, access->sandbox.owner)) {
        error_answer_sandbox(answer, head, &access->route, ERROR_ANSWER_NOT_FOUND);
        return false;
    }
    return true;
}
