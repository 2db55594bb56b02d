/*
 * handlers_auth - login and logout.
 *
 * Owns: the three ways in which credentials come. Does not own: checking them (auth.h). Threads:
 * the request's own. Failure: an error body. Our copies of a password are wiped, whatever came of
 * it; no error, no log line quotes one.
 */
#include <sodium.h>
#include <string.h>
#include <strings.h>

#include "common/base/alloc.h"
#include "common/base/encode.h"
#include "gateway/http/bounds.h"
#include "gateway/http/handlers.h"
#include "gateway/http/views.h"

enum { USERNAME_BYTES = USERNAME_MAX_BYTES + 1, PASSWORD_BYTES = PASSWORD_TEXT_MAX_BYTES + 1 };

struct credentials {
    char username[USERNAME_BYTES];
    char password[PASSWORD_BYTES];
};

static cJSON *token_json(const struct auth_token *token)
{
    cJSON *tree = cJSON_CreateObject(), *user = cJSON_CreateObject();

    cJSON_AddStringToObject(tree, "access_token", token->access_token);
    cJSON_AddStringToObject(tree, "token_type", "bearer");
    json_add_int64(tree, "expires_in", token->expires_in_s);
    cJSON_AddStringToObject(user, "id", token->user_id);
    cJSON_AddStringToObject(user, "username", token->username);
    cJSON_AddStringToObject(user, "role", token->role);
    cJSON_AddItemToObject(tree, "user", user);
    return tree;
}

/* Checks the credentials and answers. `enveloped`: in the JSON login's form. */
static void log_in(struct request *request, struct credentials *given, bool enveloped)
{
    struct error err = ERROR_INIT;
    struct auth_token token;
    int retry_after_s = 0;
    int status = auth_login(request->gateway->auth, given->username, given->password,
                            http_peer(request->http), &token, &retry_after_s, &err);
    cJSON *tree;

    if (strlen(given->username) < LABEL_BYTES) {
        request_set_audit_target(request, given->username);
    }
    sodium_memzero(given, sizeof(*given));
    if (status < 0) {
        respond_error(request, &err, retry_after_s);
        return;
    }
    tree = token_json(&token);
    if (enveloped) {
        tree = request_envelope(200, tree);
    }
    respond_json(request, 200, tree, "Cache-Control: no-store\r\n");
    sodium_memzero(&token, sizeof(token));
}

/* Reads HTTP Basic credentials. 1 = found, 0 = not Basic, -1 = malformed. */
static int from_basic(const struct request *request, struct credentials *ret)
{
    const char *header = http_header(request->http, "Authorization");
    struct error ignored = ERROR_INIT;
    struct strbuf plain;
    char *colon;
    int status = -1;

    if (header == NULL || strncasecmp(header, "Basic ", 6) != 0) {
        return 0;
    }
    strbuf_init(&plain, USERNAME_BYTES + PASSWORD_BYTES);
    if (decode_base64(&plain, header + 6, strlen(header + 6), &ignored) == 0 &&
        strlen(plain.data) == plain.length && utf8_is_valid(plain.data, plain.length) &&
        (colon = strchr(plain.data, ':')) != NULL) {
        *colon = '\0';
        if (strlen(plain.data) < sizeof(ret->username) &&
            strlen(colon + 1) < sizeof(ret->password)) {
            str_copy(ret->username, sizeof(ret->username), plain.data);
            str_copy(ret->password, sizeof(ret->password), colon + 1);
            status = 1;
        }
    }
    if (plain.capacity > 0) {
        sodium_memzero(plain.data, plain.length);
    }
    strbuf_done(&plain);
    return status;
}

static int from_form(struct request *request, struct credentials *ret, struct error *err)
{
    struct strbuf form;
    int user, password;

    strbuf_init(&form, OPEN_BODY_MAX_BYTES);
    if (http_read_body(request->http, &form, err) < 0) {
        strbuf_done(&form);
        return -1;
    }
    user = http_form_param(form.data, "username", ret->username, sizeof(ret->username));
    password = http_form_param(form.data, "password", ret->password, sizeof(ret->password));
    if (form.capacity > 0) {
        sodium_memzero(form.data, form.length);
    }
    strbuf_done(&form);
    return user == 1 && password == 1 ? 1 : (user < 0 || password < 0 ? -2 : 0);
}

static int find_credentials(struct request *request, struct credentials *ret, struct error *err)
{
    int user = http_query_param(request->http, "username", ret->username, sizeof(ret->username));
    int password =
        http_query_param(request->http, "password", ret->password, sizeof(ret->password));
    int found = user == 1 && password == 1;

    if (user < 0 || password < 0) {
        return error_set(err, ERR_INVALID, "username or password is malformed or too long");
    }
    if (!found) {
        found = from_basic(request, ret);
    }
    if (found == 0 && http_body_length(request->http) != 0) {
        found = from_form(request, ret, err);
        if (found == -1) {
            return -1;
        }
    }
    if (found < 0) {
        return error_set(err, ERR_INVALID, "username or password is malformed or too long");
    }
    if (found == 0) {
        return error_set(err, ERR_INVALID, "%s is required: in the query, a form or HTTP Basic",
                         ret->username[0] == '\0' ? "username" : "password");
    }
    return 0;
}

void handle_login_swagger(struct request *request)
{
    struct error err = ERROR_INIT;
    struct credentials given = {.username = ""};

    if (find_credentials(request, &given, &err) < 0) {
        sodium_memzero(&given, sizeof(given));
        respond_error(request, &err, 0);
    } else {
        log_in(request, &given, false);
    }
}

void handle_login(struct request *request)
{
    struct error err = ERROR_INIT;
    struct credentials given;
    const char *username, *password;

    if (json_get_string_req(request->body, "username", 1, USERNAME_BYTES - 1, &username, &err) <
            0 ||
        json_get_string_req(request->body, "password", 1, PASSWORD_BYTES - 1, &password, &err) <
            0) {
        respond_error(request, &err, 0);
        return;
    }
    str_copy(given.username, sizeof(given.username), username);
    str_copy(given.password, sizeof(given.password), password);
    log_in(request, &given, true);
}

void handle_logout(struct request *request)
{
    struct error err = ERROR_INIT;

    if (auth_logout(request->gateway->auth, &request->principal, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    respond_data(request, 200, view_done("Logged out"));
}
