/*
 * daytona_data - contents of files, short scripts and ports of a sandbox on Daytona.
 *
 * Owns: requests to the sandbox's toolbox, what its answers mean.
 * Does not own: commands (daytona_exec.c), whether a sandbox that is not there is stopped or gone.
 * Threads: a client belongs to its caller. Failure: error codes as provider.h lists them; texts
 * carry no key. The toolbox's error bodies are often empty, so the status decides first.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/provider/daytona.h"
#include "common/provider/form_upload.h"
#include "common/provider/path_script.h"
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
    /* A stopped sandbox: 400 about an address. Archived: 404 about a container. Deleted: 401, as
     * for a bad key. Stopping, or out of memory: a bare 502. */
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

/* ---- contents of files ----------------------------------------------------------------------- */

int daytona_file_get(struct provider *provider, struct http_client *client,
                     const struct provider_target *target, const struct file_get *get,
                     struct error *err)
{
    const struct daytona *daytona = (struct daytona *)provider;
    struct http_request request;
    struct http_response response;
    bool stopped = false;
    int rc = -1;
    http_request_init(&request);
    if (daytona_toolbox_request(daytona, target, "GET", "/files/download?path=", &request, err) ==
        0) {
        strbuf_put_urlencoded(&request.url, get->path, true);
        request.timeout_ms = 0; /* a file of any size: bounded by idle time instead */
        request.max_response_bytes = ERROR_BODY_MAX_BYTES;
        step_file_get(client, &request, get, IDLE_MS, &response, &stopped);
        rc = stopped ? error_set(err, ERR_TOO_LARGE, "reading stopped: the receiver takes no more")
                     : daytona_toolbox_check(daytona, &response, "read", err);
        if (rc != 0 && response.transport == HTTP_ANSWERED && response.status == 404 &&
            err->code != ERR_SANDBOX_NOT_FOUND && err->code != ERR_PROVIDER_DOWN) {
            err->code = ERR_FILE_NOT_FOUND; /* the file was removed meanwhile */
        }
    }
    http_request_done(&request);
    return rc;
}

/* Expects {"files":[{"path","bytes"}]}. An empty or foreign body did not come from the toolbox. */
static int check_uploaded(const struct form_upload *upload, struct error *err)
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

int daytona_file_put(struct provider *provider, struct http_client *client,
                     const struct provider_target *target, const char *path, file_read_fn read,
                     void *arg, int64_t bytes, struct error *err)
{
    const struct daytona *daytona = (struct daytona *)provider;
    struct form_upload upload;
    struct http_request request;
    struct http_response response;
    int rc = -1;
    http_request_init(&request);
    form_upload_init(&upload, read, arg, bytes);
    if (daytona_toolbox_request(daytona, target, "POST", "/files/bulk-upload", &request, err) !=
            0 ||
        form_upload_multipart(&upload, &request, "files[0].path", path, "files[0].file", err) !=
            0) {
        goto out;
    }
    request.timeout_ms = 0;
    request.max_response_bytes = ERROR_BODY_MAX_BYTES;
    request.once = true; /* a streamed body cannot be repeated */
    form_upload_send(&upload, client, &request, IDLE_MS, &response);
    if (upload.failed) {
        error_set(err, ERR_INVALID, "writing stopped: the content ended early");
    } else if (daytona_toolbox_check(daytona, &response, "write", err) == 0) {
        rc = check_uploaded(&upload, err);
    } else if (response.transport == HTTP_ANSWERED && response.status == 400 &&
               path_script_cause(err->message) == ERR_NO_SPACE) {
        err->code = ERR_NO_SPACE;
    }
out:
    form_upload_done(&upload);
    http_request_done(&request);
    return rc;
}

/* ---- scripts --------------------------------------------------------------------------------- */

static void put_quoted(struct strbuf *out, const char *text)
{
    strbuf_putc(out, '\'');
    for (const char *c = text; *c; c++) {
        if (*c == '\'') {
            strbuf_puts(out, "'\\''");
        } else {
            strbuf_putc(out, *c);
        }
    }
    strbuf_putc(out, '\'');
}

/* {"exitCode","result"}; the exit code may be absent when it is 0. */
static int take_output(const cJSON *answer, struct strbuf *ret, struct error *err)
{
    const cJSON *code = cJSON_GetObjectItemCaseSensitive(answer, "exitCode");
    const cJSON *result = cJSON_GetObjectItemCaseSensitive(answer, "result");
    if (!cJSON_IsString(result) || (cJSON_IsNumber(code) && code->valuedouble != 0)) {
        char said[120];
        const char *words = cJSON_IsString(result) ? result->valuestring : "";
        provider_clean_text(said, sizeof(said), words, strlen(words), NULL, 0);
        return error_set(err, ERR_PROVIDER, "script: unusable answer%s%s", said[0] ? ": " : "",
                         said);
    }
    return strbuf_puts(ret, result->valuestring) == 0
               ? 0
               : error_set(err, ERR_TOO_LARGE, "the answer is larger than %zu bytes",
                           ret->max_bytes);
}

int daytona_run_script(struct provider *provider, struct http_client *client,
                       const struct provider_target *target, const char *const *argv,
                       int64_t timeout_ms, struct strbuf *ret, struct error *err)
{
    const struct daytona *daytona = (struct daytona *)provider;
    struct http_request request;
    struct http_response response;
    struct strbuf command;
    struct error parse = ERROR_INIT;
    int rc = -1;
    http_request_init(&request);
    strbuf_init(&command, request.body.max_bytes / 2);
    if (daytona_toolbox_request(daytona, target, "POST", "/process/execute", &request, err) != 0) {
        goto out;
    }
    /* the daemon feeds it to a shell's stdin, which may be any shell */
    strbuf_puts(&command, "exec /bin/sh -c ");
    put_quoted(&command, argv[0]);
    strbuf_puts(&command, " sh");
    for (size_t i = 1; argv[i] != NULL; i++) {
        strbuf_putc(&command, ' ');
        put_quoted(&command, argv[i]);
    }
    strbuf_puts(&command, " </dev/null\n");
    cJSON *body = cJSON_CreateObject();
    cJSON_AddStringToObject(body, "command", command.data);
    json_add_int64(body, "timeout", timeout_ms / 1000 + 1);
    json_print(body, &request.body);
    cJSON_Delete(body);
    if (command.overflow || request.body.overflow) {
        error_set(err, ERR_TOO_LARGE, "the script is too long");
        goto out;
    }
    strbuf_puts(&request.headers, "Content-Type: application/json\n");
    request.has_body = true;
    request.once = true;
    request.timeout_ms = timeout_ms + daytona->config.request_timeout_ms;
    request.max_response_bytes = 2 * ret->max_bytes + ERROR_BODY_MAX_BYTES;
    http_client_perform(client, &request, &response);
    if (response.too_large) {
        error_set(err, ERR_TOO_LARGE, "the answer is larger than %zu bytes", ret->max_bytes);
    } else if (daytona_toolbox_check(daytona, &response, "script", err) == 0) {
        cJSON *answer = json_parse(response.body, response.body_bytes, &parse);
        rc = take_output(answer, ret, err);
        cJSON_Delete(answer);
    }
out:
    strbuf_done(&command);
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
