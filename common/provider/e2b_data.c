/*
 * e2b_data - requests to envd, contents of files, and what its answers mean.
 *
 * Owns: requests to envd (routing headers, token, user), unary RPCs, /files, error mapping.
 * Does not own: commands (e2b_exec.c), whether a sandbox that is not there is paused or gone.
 * Threads: a client belongs to its caller. Failure: error codes as provider.h lists them; texts
 * carry neither key nor token.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/provider/e2b.h"
#include "common/provider/form_upload.h"
#include "common/provider/step.h"

enum {
    ANSWER_MAX_BYTES = 1024 * 1024,
    ERROR_BODY_MAX_BYTES = 16 * 1024,
    IDLE_MS = 30 * 1000,
};

int e2b_envd_request(const struct e2b *e2b, const struct provider_target *target,
                     const char *method, const char *path, struct http_request *ret,
                     struct error *err)
{
    if (!provider_is_id(target->provider_sandbox_id) ||
        (target->domain && !e2b_is_domain(target->domain)) ||
        (target->access_token && !provider_is_header_value(target->access_token))) {
        return error_set(err, ERR_INVALID, "the sandbox's provider data is malformed");
    }
    str_copy(ret->method, sizeof(ret->method), method);
    e2b_put_envd_base(e2b, target, &ret->url);
    strbuf_puts(&ret->url, path);
    strbuf_printf(&ret->headers, "E2b-Sandbox-Id: %s\nE2b-Sandbox-Port: %d\n",
                  target->provider_sandbox_id, E2B_ENVD_PORT);
    if (target->access_token && target->access_token[0]) {
        strbuf_printf(&ret->headers, "X-Access-Token: %s\n", target->access_token);
    }
    ret->timeout_ms = e2b->config.request_timeout_ms;
    ret->max_response_bytes = ANSWER_MAX_BYTES;
    return 0;
}

/* ---- errors ---------------------------------------------------------------------------------- */

static enum error_code error_code_of(const struct connect_error *error)
{
    switch (error->code) {
    case CONNECT_NOT_FOUND:
        return ERR_FILE_NOT_FOUND;
    case CONNECT_ALREADY_EXISTS: /* from a proxy, it means that the sandbox is changing its state */
        return error->from_rpc ? ERR_EXISTS : ERR_PROVIDER_DOWN;
    case CONNECT_INVALID_ARGUMENT:
    case CONNECT_FAILED_PRECONDITION:
    case CONNECT_OUT_OF_RANGE:
        return ERR_INVALID;
    case CONNECT_RESOURCE_EXHAUSTED: /* from a proxy, it means too many connections */
        return error->from_rpc ? ERR_PROVIDER : ERR_PROVIDER_DOWN;
    case CONNECT_UNAVAILABLE:
    case CONNECT_DEADLINE_EXCEEDED:
    case CONNECT_CANCELED:
        return ERR_PROVIDER_DOWN;
    case CONNECT_NONE:
    case CONNECT_UNKNOWN:
    case CONNECT_PERMISSION_DENIED:
    case CONNECT_ABORTED:
    case CONNECT_UNIMPLEMENTED:
    case CONNECT_INTERNAL:
    case CONNECT_DATA_LOSS:
    case CONNECT_UNAUTHENTICATED:
    case CONNECT_CODE_COUNT:
        break;
    }
    return ERR_PROVIDER;
}

static void clean(const struct e2b *e2b, const struct provider_target *target, const char *text,
                  char *out, size_t size)
{
    const char *const secrets[] = {e2b->config.api_key, target->access_token,
                                   target->traffic_token};
    provider_clean_text(out, size, text, strlen(text), secrets,
                        sizeof(secrets) / sizeof(secrets[0]));
}

int e2b_rpc_error(const struct e2b *e2b, const struct provider_target *target,
                  const struct connect_error *error, const char *what, struct error *err)
{
    char text[180];
    clean(e2b, target, error->message, text, sizeof(text));
    return error_set(err, error_code_of(error), "%s: %s", what,
                     text[0] ? text : connect_code_name(error->code));
}

int e2b_envd_check(const struct e2b *e2b, const struct provider_target *target,
                   const struct http_response *response, const char *what, struct error *err)
{
    char text[180];
    struct connect_error error;
    if (response->transport != HTTP_ANSWERED) {
        clean(e2b, target, response->error, text, sizeof(text));
        return error_set(err, ERR_PROVIDER_DOWN, "%s: %s", what, text);
    }
    if (response->status >= 200 && response->status < 300) {
        return 0;
    }
    connect_error_decode(response->status, response->body, response->body_bytes, &error);
    /* a 413 has one meaning, whoever sends it; a Connect server sends 415 without a body */
    if (response->status >= 300 && response->status < 500 && response->status != 413 &&
        response->status != 415 && !error.own) {
        error_set(err, ERR_PROVIDER_DOWN, "%s: HTTP %d, and not from the provider itself", what,
                  response->status);
        err->retry_after_s = (int)((response->retry_after_ms + 999) / 1000);
        return -1;
    }
    if (response->status == 502 && !error.from_rpc) {
        /* E2B's proxy uses the same text for a deleted and for a paused sandbox */
        if (error.own && strstr(error.message, "not found")) {
            return error_set(err, ERR_SANDBOX_NOT_FOUND, "%s: the sandbox was not found", what);
        }
        return e2b_rpc_error(e2b, target, &error, what, err);
    }
    if (response->status == 413 && !error.from_rpc) {
        return error_set(err, ERR_TOO_LARGE, "%s: too large for the provider", what);
    }
    if (error_code_of(&error) == ERR_PROVIDER) {
        clean(e2b, target, error.message, text, sizeof(text));
        return error_set(err, ERR_PROVIDER, "%s: HTTP %d: %s", what, response->status,
                         text[0] ? text : connect_code_name(error.code));
    }
    e2b_rpc_error(e2b, target, &error, what, err);
    err->retry_after_s = (int)((response->retry_after_ms + 999) / 1000);
    return -1;
}

/* ---- unary RPCs ------------------------------------------------------------------------------ */

int e2b_unary(const struct e2b *e2b, struct http_client *client,
              const struct provider_target *target, const char *path, const cJSON *body,
              int64_t timeout_ms, cJSON **ret, struct error *err)
{
    struct http_request request;
    struct http_response response;
    int rc = -1;
    http_request_init(&request);
    *ret = NULL;
    if (e2b_envd_request(e2b, target, "POST", path, &request, err) != 0) {
        goto out;
    }
    strbuf_puts(&request.headers, "Content-Type: application/json\n"
                                  "Connect-Protocol-Version: 1\n" E2B_USER_HEADER);
    json_print(body, &request.body);
    request.has_body = true;
    if (timeout_ms > 0) {
        request.timeout_ms = timeout_ms;
    }
    http_client_perform(client, &request, &response);
    const char *method = strrchr(path, '/') + 1;
    if (response.too_large) {
        error_set(err, ERR_TOO_LARGE, "%s: the answer is larger than %d bytes", method,
                  ANSWER_MAX_BYTES);
        goto out;
    }
    if (e2b_envd_check(e2b, target, &response, method, err) != 0) {
        goto out;
    }
    *ret = json_parse(response.body, response.body_bytes, err);
    if (!*ret) {
        err->code = ERR_PROVIDER;
        error_prefix(err, "%s", method);
        goto out;
    }
    rc = 0;
out:
    http_request_done(&request);
    return rc;
}

/* ---- versions -------------------------------------------------------------------------------- */

bool e2b_envd_can(const struct provider_target *target, enum envd_feature feature)
{
    static const int since[][3] = {
#define X(feature, major, minor, patch) [feature] = {major, minor, patch},
#include "common/provider/e2b_versions.def"
#undef X
    };
    int version[3];

    if (!target->agent_version ||
        sscanf(target->agent_version, "%d.%d.%d", &version[0], &version[1], &version[2]) != 3) {
        return false;
    }
    for (int i = 0; i < 3; i++) {
        if (version[i] != since[feature][i]) {
            return version[i] > since[feature][i];
        }
    }
    return true;
}

/* ---- /files ---------------------------------------------------------------------------------- */

static int files_request(const struct e2b *e2b, const struct provider_target *target,
                         const char *method, const char *path, struct http_request *request,
                         struct error *err)
{
    if (e2b_envd_request(e2b, target, method, "/files?path=", request, err) != 0) {
        return -1;
    }
    strbuf_put_urlencoded(&request->url, path, true);
    strbuf_puts(&request->url, "&username=" E2B_USER);
    request->timeout_ms = 0; /* a file of any size: bounded by idle time instead */
    request->max_response_bytes = ERROR_BODY_MAX_BYTES;
    return 0;
}

int e2b_file_get(struct provider *provider, struct http_client *client,
                 const struct provider_target *target, const struct file_get *get,
                 struct error *err)
{
    const struct e2b *e2b = (struct e2b *)provider;
    struct http_request request;
    struct http_response response;
    bool stopped = false;
    int rc = -1;
    http_request_init(&request);
    if (files_request(e2b, target, "GET", get->path, &request, err) == 0) {
        step_file_get(client, &request, get, IDLE_MS, &response, &stopped);
        rc = stopped ? error_set(err, ERR_TOO_LARGE, "reading stopped: the receiver takes no more")
                     : e2b_envd_check(e2b, target, &response, "read", err);
        if (rc != 0 && response.transport == HTTP_ANSWERED && response.status == 404 &&
            err->code != ERR_SANDBOX_NOT_FOUND && err->code != ERR_PROVIDER_DOWN) {
            err->code = ERR_FILE_NOT_FOUND; /* the file was removed meanwhile */
        }
    }
    http_request_done(&request);
    return rc;
}

int e2b_file_put(struct provider *provider, struct http_client *client,
                 const struct provider_target *target, const char *path, file_read_fn read,
                 void *arg, int64_t bytes, struct error *err)
{
    const struct e2b *e2b = (struct e2b *)provider;
    struct form_upload upload;
    struct http_request request;
    struct http_response response;
    cJSON *answer = NULL;
    int rc = -1;
    http_request_init(&request);
    form_upload_init(&upload, read, arg, bytes);
    if (files_request(e2b, target, "POST", path, &request, err) != 0) {
        goto out;
    }
    if (e2b_envd_can(target, ENVD_OCTET_STREAM)) {
        strbuf_puts(&request.headers, "Content-Type: application/octet-stream\n");
    } else if (form_upload_multipart(&upload, &request, NULL, NULL, "file", err) != 0) {
        goto out;
    }
    request.once = true; /* a streamed body cannot be repeated */
    form_upload_send(&upload, client, &request, IDLE_MS, &response);
    if (upload.failed) {
        error_set(err, ERR_INVALID, "writing stopped: the content ended early");
        goto out;
    }
    if (e2b_envd_check(e2b, target, &response, "write", err) != 0) {
        if (response.transport == HTTP_ANSWERED && response.status == 507) {
            err->code = ERR_NO_SPACE;
        }
        goto out;
    }
    /* Expects [{"path","name","type"}], sent as text/plain. An empty or foreign body did not come
     * from envd. */
    answer = json_parse(upload.answer.data, upload.answer.length, err);
    rc = cJSON_IsArray(answer) ? 0 : error_set(err, ERR_PROVIDER, "write: unusable answer");
    cJSON_Delete(answer);
out:
    form_upload_done(&upload);
    http_request_done(&request);
    return rc;
}
