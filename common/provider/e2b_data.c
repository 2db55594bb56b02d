/*
 * e2b_data - files and directories through envd, and what its answers mean.
 *
 * Owns: requests to envd (routing headers, token, user), unary RPCs, /files, error mapping.
 * Does not own: commands (e2b_exec.c), whether a sandbox that is not there is paused or gone.
 * Threads: a client belongs to its caller. Failure: error codes as provider.h lists them; texts
 * carry neither key nor token.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/provider/e2b.h"
#include "common/provider/step.h"

enum {
    ANSWER_MAX_BYTES = PROVIDER_LIST_MAX_BYTES, /* no other is nearly as long */
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
    case CONNECT_ALREADY_EXISTS: /* from a proxy: the sandbox is changing its state */
        return error->from_rpc ? ERR_EXISTS : ERR_PROVIDER_DOWN;
    case CONNECT_INVALID_ARGUMENT:
    case CONNECT_FAILED_PRECONDITION:
    case CONNECT_OUT_OF_RANGE:
        return ERR_INVALID;
    case CONNECT_RESOURCE_EXHAUSTED: /* from a proxy: too many connections */
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
    /* 413 means the same from whoever sends it; a Connect server sends 415 without a body */
    if (response->status >= 300 && response->status < 500 && response->status != 413 &&
        response->status != 415 && !error.own) {
        error_set(err, ERR_PROVIDER_DOWN, "%s: HTTP %d, and not from the provider itself", what,
                  response->status);
        err->retry_after_s = (int)((response->retry_after_ms + 999) / 1000);
        return -1;
    }
    if (response->status == 502 && !error.from_rpc) {
        /* E2B's edge: the same words for gone and for paused */
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

/* Calls a filesystem method that takes only a path. */
static int path_call(const struct e2b *e2b, struct http_client *client,
                     const struct provider_target *target, const char *rpc, const char *path,
                     cJSON **ret, struct error *err)
{
    cJSON *body = cJSON_CreateObject();
    cJSON_AddStringToObject(body, "path", path);
    int rc = e2b_unary(e2b, client, target, rpc, body, 0, ret, err);
    cJSON_Delete(body);
    return rc;
}

int e2b_make_dir(struct provider *provider, struct http_client *client,
                 const struct provider_target *target, const char *path, struct error *err)
{
    cJSON *answer = NULL;
    int rc = path_call((struct e2b *)provider, client, target, "/filesystem.Filesystem/MakeDir",
                       path, &answer, err);
    cJSON_Delete(answer);
    return rc;
}

/* int64 in proto3 JSON is a string and absent when 0. -1: neither that nor a number. */
static int read_int64(const cJSON *item, int64_t *ret)
{
    char *end = NULL;
    *ret = 0;
    if (!item || cJSON_IsNull(item)) {
        return 0;
    }
    if (cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble < 9e15) {
        *ret = (int64_t)item->valuedouble;
        return 0;
    }
    if (!cJSON_IsString(item) || !item->valuestring[0]) {
        return -1;
    }
    errno = 0;
    long long value = strtoll(item->valuestring, &end, 10);
    if (*end || value < 0 || errno != 0) {
        return -1;
    }
    *ret = value;
    return 0;
}

/* The size of a link is its own, its type that of what it leads to. -1: unusable. */
static int read_entry(const cJSON *item, struct dir_entry *ret)
{
    const char *type = json_text(item, "type");
    if (!cJSON_IsObject(item) ||
        read_int64(cJSON_GetObjectItemCaseSensitive(item, "size"), &ret->bytes) != 0) {
        return -1;
    }
    ret->name = json_text(item, "name");
    ret->type = strcmp(type, "FILE_TYPE_FILE") == 0        ? ENTRY_FILE
                : strcmp(type, "FILE_TYPE_DIRECTORY") == 0 ? ENTRY_DIRECTORY
                                                           : ENTRY_OTHER;
    return 0;
}

/* What is at `path`; *ret_link: it is a link. */
static int stat_path(const struct e2b *e2b, struct http_client *client,
                     const struct provider_target *target, const char *path, struct dir_entry *ret,
                     bool *ret_link, struct error *err)
{
    cJSON *answer = NULL;
    int rc = path_call(e2b, client, target, "/filesystem.Filesystem/Stat", path, &answer, err);
    if (rc != 0) {
        return rc;
    }
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(answer, "entry");
    if (read_entry(item, ret) != 0) {
        rc = error_set(err, ERR_PROVIDER, "Stat: unusable answer");
    }
    *ret_link = json_text(item, "symlinkTarget")[0] != '\0';
    ret->name = NULL; /* goes with the answer */
    cJSON_Delete(answer);
    return rc;
}

int e2b_stat_file(struct provider *provider, struct http_client *client,
                  const struct provider_target *target, const char *path, int64_t *ret_bytes,
                  struct error *err)
{
    struct dir_entry entry;
    bool is_link;
    if (stat_path((struct e2b *)provider, client, target, path, &entry, &is_link, err) != 0) {
        return -1;
    }
    *ret_bytes = entry.bytes;
    return entry.type == ENTRY_DIRECTORY
               ? error_set(err, ERR_IS_DIRECTORY, "%.180s is a directory", path)
               : 0;
}

int e2b_list_dir(struct provider *provider, struct http_client *client,
                 const struct provider_target *target, const char *path, dir_entry_fn on_entry,
                 void *arg, struct error *err)
{
    cJSON *body = cJSON_CreateObject(), *answer = NULL;
    cJSON_AddStringToObject(body, "path", path);
    cJSON_AddNumberToObject(body, "depth", 1);
    int rc = e2b_unary((struct e2b *)provider, client, target, "/filesystem.Filesystem/ListDir",
                       body, 0, &answer, err);
    const cJSON *items = cJSON_GetObjectItemCaseSensitive(answer, "entries");
    if (rc == 0 && (items || !cJSON_IsObject(answer))) { /* left out when there are none */
        rc = step_tell_entries(items, read_entry, on_entry, arg, err);
    }
    cJSON_Delete(answer);
    cJSON_Delete(body);
    return rc;
}

int e2b_remove_path(struct provider *provider, struct http_client *client,
                    const struct provider_target *target, const char *path, bool recursive,
                    struct error *err)
{
    const struct e2b *e2b = (struct e2b *)provider;
    struct dir_entry entry;
    cJSON *answer = NULL;
    bool is_link;
    /* envd takes whole directories unasked and is content with nothing there */
    if (stat_path(e2b, client, target, path, &entry, &is_link, err) != 0) {
        return -1;
    }
    if (entry.type == ENTRY_DIRECTORY && !is_link && !recursive) {
        return error_set(err, ERR_IS_DIRECTORY, "%.180s is a directory: recursive is needed", path);
    }
    int rc = path_call(e2b, client, target, "/filesystem.Filesystem/Remove", path, &answer, err);
    cJSON_Delete(answer);
    return rc;
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
    request->timeout_ms = 0; /* any size: bounded by silence instead */
    request->max_response_bytes = ERROR_BODY_MAX_BYTES;
    return 0;
}

/* envd answers 400 for a directory and for an unknown ~user. */
static int files_check(const struct e2b *e2b, const struct provider_target *target,
                       const struct http_response *response, const char *what, const char *path,
                       struct error *err)
{
    if (e2b_envd_check(e2b, target, response, what, err) == 0) {
        return 0;
    }
    if (response->transport != HTTP_ANSWERED || err->code == ERR_PROVIDER_DOWN) {
        return -1;
    }
    if (response->status == 400 && (path[0] != '~' || strstr(err->message, "directory"))) {
        return error_set(err, ERR_IS_DIRECTORY, "%.180s is a directory", path);
    }
    if (response->status == 404) {
        return error_set(err, ERR_FILE_NOT_FOUND, "%.180s does not exist", path);
    }
    if (response->status == 507) {
        return error_set(err, ERR_PROVIDER, "%s: the sandbox's disk is full", what);
    }
    return -1;
}

int e2b_file_read(struct provider *provider, struct http_client *client,
                  const struct provider_target *target, const char *path, file_write_fn write,
                  void *arg, struct error *err)
{
    const struct e2b *e2b = (struct e2b *)provider;
    struct http_stream stream = {
        .on_data = write, .arg = arg, .body_bytes = -1, .idle_ms = IDLE_MS};
    struct http_request request;
    struct http_response response;
    int rc = -1;
    http_request_init(&request);
    if (files_request(e2b, target, "GET", path, &request, err) != 0) {
        goto out;
    }
    http_client_stream(client, &request, &stream, &response);
    if (response.stopped) {
        rc = error_set(err, ERR_TOO_LARGE, "reading stopped: the receiver takes no more");
    } else {
        rc = files_check(e2b, target, &response, "read", path, err);
    }
out:
    http_request_done(&request);
    return rc;
}

struct upload {
    file_read_fn read;
    void *arg;
    int64_t left; /* of the length announced; negative = none was */
    bool failed;
    struct strbuf answer;
};

static long on_upload(void *arg, void *buf, size_t bytes)
{
    struct upload *upload = arg;
    long got = upload->read(upload->arg, buf, bytes);
    if (got < 0 || (got == 0 && upload->left > 0)) {
        upload->failed = true;
    } else if (upload->left > 0) {
        upload->left -= got;
    }
    return got;
}

static int on_upload_answer(void *arg, const void *data, size_t bytes)
{
    struct upload *upload = arg;
    return strbuf_append(&upload->answer, data, bytes);
}

int e2b_file_write(struct provider *provider, struct http_client *client,
                   const struct provider_target *target, const char *path, file_read_fn read,
                   void *arg, int64_t bytes, struct error *err)
{
    const struct e2b *e2b = (struct e2b *)provider;
    struct upload upload = {.read = read, .arg = arg, .left = bytes};
    struct http_stream stream = {.on_data = on_upload_answer,
                                 .read_body = on_upload,
                                 .arg = &upload,
                                 .body_bytes = bytes,
                                 .idle_ms = IDLE_MS};
    struct http_request request;
    struct http_response response;
    int rc = -1;
    http_request_init(&request);
    strbuf_init(&upload.answer, ERROR_BODY_MAX_BYTES);
    if (files_request(e2b, target, "POST", path, &request, err) != 0) {
        goto out;
    }
    strbuf_puts(&request.headers, "Content-Type: application/octet-stream\n");
    request.once = true; /* a streamed body cannot be produced twice */
    http_client_stream(client, &request, &stream, &response);
    if (upload.failed) {
        error_set(err, ERR_INVALID, "writing stopped: the content ended early");
        goto out;
    }
    if (files_check(e2b, target, &response, "write", path, err) != 0) {
        goto out;
    }
    /* [{"path","name","type"}], sent as text/plain; an empty or foreign body is not envd's yes */
    cJSON *answer = json_parse(upload.answer.data, upload.answer.length, err);
    if (cJSON_IsArray(answer)) {
        rc = 0;
    } else {
        error_set(err, ERR_PROVIDER, "write: unusable answer");
    }
    cJSON_Delete(answer);
out:
    strbuf_done(&upload.answer);
    http_request_done(&request);
    return rc;
}
