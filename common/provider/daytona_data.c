/*
 * daytona_data - files, directories and ports of a sandbox on Daytona.
 *
 * Owns: requests to the sandbox's toolbox, its multipart upload, what its answers mean.
 * Does not own: commands (daytona_exec.c), whether a sandbox that is not there is stopped or gone.
 * Threads: a client belongs to its caller. Failure: error codes as provider.h lists them; texts
 * carry no key. The toolbox's error bodies are often empty, so the status decides first.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/id.h"
#include "common/provider/daytona.h"
#include "common/provider/step.h"

enum {
    ANSWER_MAX_BYTES = 1024 * 1024,
    ERROR_BODY_MAX_BYTES = 16 * 1024,
    IDLE_MS = 30 * 1000,
    PORT_TIMEOUT_MS = 5000,
    PORT_URL_MAX_BYTES = 4096,
    PORT_ANSWER_MAX_BYTES = 65536,
};

int daytona_toolbox_request(const struct daytona *daytona, const struct provider_target *target,
                            const char *method, const char *path, struct http_request *ret,
                            struct error *err)
{
    if (!provider_is_id(target->provider_sandbox_id)) {
        return error_set(err, ERR_INVALID, "the sandbox's provider data is malformed");
    }
    if (!target->domain || !target->domain[0]) {
        return error_set(err, ERR_PROVIDER, "the sandbox's toolbox address is not known");
    }
    str_copy(ret->method, sizeof(ret->method), method);
    strbuf_printf(&ret->url, "%s/%s%s", target->domain, target->provider_sandbox_id, path);
    strbuf_printf(&ret->headers, "Authorization: Bearer %s\nAccept: application/json, */*\n",
                  daytona->config.api_key);
    ret->timeout_ms = daytona->config.request_timeout_ms;
    ret->max_response_bytes = ANSWER_MAX_BYTES;
    return 0;
}

/* A proxy's page. The toolbox itself answers JSON or, to its file routes, an empty body. */
static bool is_html(const struct http_response *response)
{
    return strstr(response->content_type, "html") != NULL ||
           (response->body_bytes > 0 && response->body[0] == '<');
}

int daytona_toolbox_check(const struct daytona *daytona, const struct http_response *response,
                          const char *what, struct error *err)
{
    char text[180];
    int status = response->status;
    if (response->transport == HTTP_ANSWERED && status >= 200 && status < 300) {
        return 0;
    }
    daytona_error_text(daytona, response, text, sizeof(text));
    if (response->transport != HTTP_ANSWERED) {
        return error_set(err, ERR_PROVIDER_DOWN, "%s: %s", what, text);
    }
    if ((status < 500 || status == 502) && is_html(response)) {
        return error_set(err, ERR_PROVIDER_DOWN, "%s: HTTP %d, and not from the provider itself",
                         what, status);
    }
    enum error_code code = ERR_PROVIDER;
    /* stopped: 400 about an address; archived: 404 about a container; deleted: 401, as a bad key;
     * stopping, or out of memory: a bare 502 */
    if (status == 401 || status == 502 ||
        (status == 400 && (strstr(text, "IP address") || strstr(text, "Is the Sandbox started"))) ||
        (status == 404 && strstr(text, "container not found"))) {
        code = ERR_SANDBOX_NOT_FOUND;
    } else if (status == 413) {
        code = ERR_TOO_LARGE;
    } else if (status == 408 || status == 429 || status == 503 || status == 504) {
        code = ERR_PROVIDER_DOWN;
    }
    error_set(err, code, "%s: HTTP %d%s%s", what, status, text[0] ? ": " : "", text);
    err->retry_after_s = (int)((response->retry_after_ms + 999) / 1000);
    return -1;
}

/* ---- files ----------------------------------------------------------------------------------- */

static int file_request(const struct daytona *daytona, const struct provider_target *target,
                        const char *method, const char *route, const char *path,
                        struct http_request *request, struct error *err)
{
    if (daytona_toolbox_request(daytona, target, method, route, request, err) != 0) {
        return -1;
    }
    strbuf_puts(&request->url, "?path=");
    strbuf_put_urlencoded(&request->url, path, true);
    return 0;
}

/* The toolbox's file routes answer 400 for a directory and 404 for nothing there. */
static int file_check(const struct daytona *daytona, const struct http_response *response,
                      const char *what, const char *path, struct error *err)
{
    if (daytona_toolbox_check(daytona, response, what, err) == 0) {
        return 0;
    }
    if (response->transport != HTTP_ANSWERED || err->code == ERR_SANDBOX_NOT_FOUND ||
        err->code == ERR_PROVIDER_DOWN) {
        return -1;
    }
    if (response->status == 404) {
        return error_set(err, ERR_FILE_NOT_FOUND, "%.180s does not exist", path);
    }
    if (response->status == 400 &&
        (response->body_bytes == 0 || strstr(err->message, "directory"))) {
        return error_set(err, ERR_IS_DIRECTORY, "%.180s is a directory", path);
    }
    return -1;
}

int daytona_file_read(struct provider *provider, struct http_client *client,
                      const struct provider_target *target, const char *path, file_write_fn write,
                      void *arg, struct error *err)
{
    const struct daytona *daytona = (struct daytona *)provider;
    struct http_stream stream = {
        .on_data = write, .arg = arg, .body_bytes = -1, .idle_ms = IDLE_MS};
    struct http_request request;
    struct http_response response;
    int rc = -1;
    http_request_init(&request);
    if (file_request(daytona, target, "GET", "/files/download", path, &request, err) != 0) {
        goto out;
    }
    request.timeout_ms = 0; /* any size: bounded by silence instead */
    request.max_response_bytes = ERROR_BODY_MAX_BYTES;
    http_client_stream(client, &request, &stream, &response);
    if (response.stopped) {
        rc = error_set(err, ERR_TOO_LARGE, "reading stopped: the receiver takes no more");
    } else {
        rc = file_check(daytona, &response, "read", path, err);
    }
out:
    http_request_done(&request);
    return rc;
}

/* One file as multipart/form-data: head, content, tail. */
struct upload {
    file_read_fn read;
    void *arg;
    int64_t left; /* of the length announced; negative = none was */
    int64_t sent; /* content bytes */
    bool failed;
    struct strbuf head, tail;
    size_t head_at, tail_at;
    bool content_over;
    struct strbuf answer;
};

static size_t put_part(const struct strbuf *part, size_t *at, char *buf, size_t bytes)
{
    size_t n = part->length - *at < bytes ? part->length - *at : bytes;
    memcpy(buf, part->data + *at, n);
    *at += n;
    return n;
}

static long on_upload(void *arg, void *buf, size_t bytes)
{
    struct upload *upload = arg;
    if (upload->head_at < upload->head.length) {
        return (long)put_part(&upload->head, &upload->head_at, buf, bytes);
    }
    if (!upload->content_over) {
        if (upload->left > 0 && (int64_t)bytes > upload->left) {
            bytes = (size_t)upload->left;
        }
        long got = upload->left == 0 ? 0 : upload->read(upload->arg, buf, bytes);
        if (got < 0 || (got == 0 && upload->left > 0)) {
            upload->failed = true;
            return -1;
        }
        if (got > 0) {
            upload->sent += got;
            upload->left -= upload->left > 0 ? got : 0;
            return got;
        }
        upload->content_over = true;
    }
    return (long)put_part(&upload->tail, &upload->tail_at, buf, bytes);
}

static int on_upload_answer(void *arg, const void *data, size_t bytes)
{
    struct upload *upload = arg;
    return strbuf_append(&upload->answer, data, bytes);
}

/* {"files":[{"path","bytes"}]}: an empty or foreign body is not the toolbox's yes. */
static int check_uploaded(const struct upload *upload, struct error *err)
{
    struct error ignored = ERROR_INIT;
    cJSON *answer = json_parse(upload->answer.data, upload->answer.length, &ignored);
    const cJSON *file = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(answer, "files"), 0);
    const cJSON *bytes = cJSON_GetObjectItemCaseSensitive(file, "bytes");
    int rc = 0;
    if (!cJSON_IsObject(file)) {
        rc = error_set(err, ERR_PROVIDER, "write: unusable answer");
    } else if (cJSON_IsNumber(bytes) && bytes->valuedouble != (double)upload->sent) {
        rc = error_set(err, ERR_PROVIDER, "write: only a part of the content was kept");
    }
    cJSON_Delete(answer);
    return rc;
}

int daytona_file_write(struct provider *provider, struct http_client *client,
                       const struct provider_target *target, const char *path, file_read_fn read,
                       void *arg, int64_t bytes, struct error *err)
{
    const struct daytona *daytona = (struct daytona *)provider;
    struct upload upload = {.read = read, .arg = arg, .left = bytes};
    struct http_stream stream = {.on_data = on_upload_answer,
                                 .read_body = on_upload,
                                 .arg = &upload,
                                 .body_bytes = -1,
                                 .idle_ms = IDLE_MS};
    struct http_request request;
    struct http_response response;
    char boundary[UUID_BYTES];
    int rc = -1;
    size_t length = strlen(path);
    if (length == 0 || strchr(" \t\r\n", path[0]) || strchr(" \t\r\n", path[length - 1])) {
        /* the server trims the path it is given in a part of the form */
        return error_set(err, ERR_INVALID, "a path cannot begin or end with white space here");
    }
    http_request_init(&request);
    strbuf_init(&upload.head, 64 * 1024);
    strbuf_init(&upload.tail, 1024);
    strbuf_init(&upload.answer, ERROR_BODY_MAX_BYTES);
    if (daytona_toolbox_request(daytona, target, "POST", "/files/bulk-upload", &request, err) !=
        0) {
        goto out;
    }
    id_uuid(boundary);
    strbuf_printf(&request.headers, "Content-Type: multipart/form-data; boundary=%s\n", boundary);
    strbuf_printf(&upload.head,
                  "--%s\r\nContent-Disposition: form-data; name=\"files[0].path\"\r\n\r\n%s\r\n"
                  "--%s\r\nContent-Disposition: form-data; name=\"files[0].file\"; "
                  "filename=\"file\"\r\nContent-Type: application/octet-stream\r\n\r\n",
                  boundary, path, boundary);
    strbuf_printf(&upload.tail, "\r\n--%s--\r\n", boundary);
    if (upload.head.overflow) {
        error_set(err, ERR_INVALID, "the path is too long");
        goto out;
    }
    if (bytes >= 0) {
        stream.body_bytes = (int64_t)upload.head.length + bytes + (int64_t)upload.tail.length;
    }
    request.timeout_ms = 0;
    request.max_response_bytes = ERROR_BODY_MAX_BYTES;
    request.once = true; /* a streamed body cannot be produced twice */
    http_client_stream(client, &request, &stream, &response);
    if (upload.failed) {
        error_set(err, ERR_INVALID, "writing stopped: the content ended early");
    } else if (file_check(daytona, &response, "write", path, err) == 0) {
        rc = check_uploaded(&upload, err);
    }
out:
    strbuf_done(&upload.head);
    strbuf_done(&upload.tail);
    strbuf_done(&upload.answer);
    http_request_done(&request);
    return rc;
}

int daytona_stat_file(struct provider *provider, struct http_client *client,
                      const struct provider_target *target, const char *path, int64_t *ret_bytes,
                      struct error *err)
{
    const struct daytona *daytona = (struct daytona *)provider;
    struct error ignored = ERROR_INIT; /* what cannot be read is answered as unusable */
    struct http_request request;
    struct http_response response;
    cJSON *info = NULL;
    int rc = -1;
    *ret_bytes = 0;
    http_request_init(&request);
    if (file_request(daytona, target, "GET", "/files/info", path, &request, err) != 0) {
        goto out;
    }
    http_client_perform(client, &request, &response);
    if (file_check(daytona, &response, "stat", path, err) != 0) {
        goto out;
    }
    info = json_parse(response.body, response.body_bytes, &ignored);
    const cJSON *size = cJSON_GetObjectItemCaseSensitive(info, "size");
    if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(info, "isDir"))) {
        error_set(err, ERR_IS_DIRECTORY, "%.180s is a directory", path);
    } else if (!cJSON_IsNumber(size) || size->valuedouble < 0 || size->valuedouble > 9e15) {
        error_set(err, ERR_PROVIDER, "stat: unusable answer");
    } else {
        *ret_bytes = (int64_t)size->valuedouble;
        rc = 0;
    }
out:
    cJSON_Delete(info);
    http_request_done(&request);
    return rc;
}

int daytona_make_dir(struct provider *provider, struct http_client *client,
                     const struct provider_target *target, const char *path, struct error *err)
{
    const struct daytona *daytona = (struct daytona *)provider;
    struct http_request request;
    struct http_response response;
    int64_t size;
    /* the toolbox is content with a directory that is there already */
    if (daytona_stat_file(provider, client, target, path, &size, err) == 0 ||
        err->code == ERR_IS_DIRECTORY) {
        return error_set(err, ERR_EXISTS, "%.180s exists", path);
    }
    if (err->code != ERR_FILE_NOT_FOUND) {
        return -1;
    }
    int rc = -1;
    http_request_init(&request);
    if (file_request(daytona, target, "POST", "/files/folder", path, &request, err) == 0) {
        strbuf_puts(&request.url, "&mode=0755");
        http_client_perform(client, &request, &response);
        rc = daytona_toolbox_check(daytona, &response, "create directory", err);
    }
    http_request_done(&request);
    return rc;
}

/* Of Go's letters before rwxrwxrwx: link, device, pipe, socket, character device, irregular. */
static bool is_special(const char *mode)
{
    size_t length = strlen(mode);
    return length > 9 && strcspn(mode, "LDpSc?") < length - 9;
}

/* -1: unusable. */
static int read_entry(const cJSON *item, struct dir_entry *ret)
{
    const cJSON *size = cJSON_GetObjectItemCaseSensitive(item, "size");
    ret->name = json_text(item, "name");
    if (!cJSON_IsNumber(size) || size->valuedouble < 0 || size->valuedouble > 9e15) {
        return -1;
    }
    ret->bytes = (int64_t)size->valuedouble;
    ret->type = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(item, "isDir")) ? ENTRY_DIRECTORY
                : is_special(json_text(item, "mode"))                         ? ENTRY_OTHER
                                                                              : ENTRY_FILE;
    return 0;
}

int daytona_list_dir(struct provider *provider, struct http_client *client,
                     const struct provider_target *target, const char *path, dir_entry_fn on_entry,
                     void *arg, struct error *err)
{
    const struct daytona *daytona = (struct daytona *)provider;
    struct error ignored = ERROR_INIT; /* what cannot be read is answered as unusable */
    struct http_request request;
    struct http_response response;
    int rc = -1;
    http_request_init(&request);
    if (file_request(daytona, target, "GET", "/files", path, &request, err) != 0) {
        goto out;
    }
    request.max_response_bytes = PROVIDER_LIST_MAX_BYTES;
    http_client_perform(client, &request, &response);
    if (response.too_large) {
        error_set(err, ERR_TOO_LARGE, "list: the answer is larger than %d bytes",
                  PROVIDER_LIST_MAX_BYTES);
    } else if (file_check(daytona, &response, "list", path, err) == 0) {
        cJSON *answer = json_parse(response.body, response.body_bytes, &ignored);
        rc = step_tell_entries(answer, read_entry, on_entry, arg, err);
        cJSON_Delete(answer);
    } else if (err->code == ERR_IS_DIRECTORY) { /* here the same 400 means the opposite */
        error_set(err, ERR_INVALID, "%.180s is not a directory", path);
    }
out:
    http_request_done(&request);
    return rc;
}

int daytona_remove_path(struct provider *provider, struct http_client *client,
                        const struct provider_target *target, const char *path, bool recursive,
                        struct error *err)
{
    const struct daytona *daytona = (struct daytona *)provider;
    struct http_request request;
    struct http_response response;
    int rc = -1;
    http_request_init(&request);
    if (file_request(daytona, target, "DELETE", "/files", path, &request, err) == 0) {
        if (recursive) {
            strbuf_puts(&request.url, "&recursive=true");
        }
        request.once = true; /* sent again, it would find nothing there */
        http_client_perform(client, &request, &response);
        rc = file_check(daytona, &response, "remove", path, err);
        if (rc != 0 && err->code == ERR_IS_DIRECTORY) {
            rc = recursive ? error_set(err, ERR_PROVIDER, "remove: HTTP %d", response.status)
                           : error_set(err, ERR_IS_DIRECTORY,
                                       "%.180s is a directory: recursive is needed", path);
        }
    }
    http_request_done(&request);
    return rc;
}

/* ---- ports ----------------------------------------------------------------------------------- */

/* A preview URL is opened in a browser, which sends no header: the token goes with the URL. */
static int put_preview_url(const cJSON *answer, struct strbuf *ret, struct error *err)
{
    const cJSON *url = cJSON_GetObjectItemCaseSensitive(answer, "url");
    const cJSON *token = cJSON_GetObjectItemCaseSensitive(answer, "token");
    /* the caller may put it into a page: nothing that a URL must escape (RFC 3986, section 2) */
    if (!cJSON_IsString(url) || !provider_is_header_value(url->valuestring) ||
        strpbrk(url->valuestring, "\"<>\\^`{|}") != NULL ||
        (strncmp(url->valuestring, "http://", 7) != 0 &&
         strncmp(url->valuestring, "https://", 8) != 0)) {
        return error_set(err, ERR_PROVIDER, "preview-url: unusable answer");
    }
    strbuf_puts(ret, url->valuestring);
    if (cJSON_IsString(token) && token->valuestring[0]) {
        strbuf_puts(ret, strchr(url->valuestring, '?') ? "&" : "?");
        strbuf_puts(ret, "DAYTONA_SANDBOX_AUTH_KEY=");
        strbuf_put_urlencoded(ret, token->valuestring, false);
    }
    return ret->overflow ? error_set(err, ERR_INTERNAL, "the port's URL is too long") : 0;
}

int daytona_port_url(struct provider *provider, struct http_client *client,
                     const struct provider_target *target, int port, struct strbuf *ret,
                     struct error *err)
{
    const struct daytona *daytona = (struct daytona *)provider;
    struct http_request request;
    struct http_response response;
    int rc = -1;
    if (!provider_is_id(target->provider_sandbox_id)) {
        return error_set(err, ERR_INVALID, "the sandbox's provider data is malformed");
    }
    http_request_init(&request);
    daytona_api_request(daytona, "GET", &request);
    strbuf_printf(&request.url, "/sandbox/%s/ports/%d/preview-url", target->provider_sandbox_id,
                  port);
    if (request.timeout_ms > PORT_TIMEOUT_MS) {
        request.timeout_ms = PORT_TIMEOUT_MS;
    }
    http_client_perform(client, &request, &response);
    if (daytona_is_not_found(&response)) {
        error_set(err, ERR_SANDBOX_NOT_FOUND, "preview-url: the sandbox was not found");
    } else if (daytona_is_foreign(&response)) {
        error_set(err, ERR_PROVIDER_DOWN, "preview-url: HTTP %d, and not from the provider itself",
                  response.status);
    } else if (response.transport == HTTP_ANSWERED && response.status == 401) {
        error_set(err, ERR_PROVIDER, "preview-url: daytona refuses the key");
    } else if (daytona_toolbox_check(daytona, &response, "preview-url", err) == 0) {
        struct error ignored = ERROR_INIT;
        cJSON *answer = json_parse(response.body, response.body_bytes, &ignored);
        rc = put_preview_url(answer, ret, err);
        cJSON_Delete(answer);
    }
    http_request_done(&request);
    return rc;
}

int daytona_port_request(struct provider *provider, struct http_client *client,
                         const struct provider_target *target, int port, const char *path,
                         struct http_request *ret, struct error *err)
{
    const struct daytona *daytona = (struct daytona *)provider;
    struct strbuf url;
    strbuf_init(&url, PORT_URL_MAX_BYTES);
    int rc = daytona_port_url(provider, client, target, port, &url, err);
    if (rc == 0) {
        size_t base = strcspn(url.data, "?");
        str_copy(ret->method, sizeof(ret->method), "GET");
        strbuf_append(&ret->url, url.data, base > 0 && url.data[base - 1] == '/' ? base - 1 : base);
        strbuf_puts(&ret->url, path);
        strbuf_puts(&ret->url, url.data + base);
        strbuf_puts(&ret->headers, "X-Daytona-Skip-Preview-Warning: true\n");
        ret->timeout_ms = daytona->config.request_timeout_ms;
        ret->max_response_bytes = PORT_ANSWER_MAX_BYTES;
    }
    strbuf_done(&url);
    return rc;
}
