/* request - see request.h. */
#include "gateway/request.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/base/alloc.h"

enum { RESPONSE_MAX_BYTES = 1 << 30, RETRY_AFTER_S = 2 };

static void send_json(struct request *request, int status, cJSON *tree, const char *more_headers)
{
    struct strbuf body, headers;

    strbuf_init(&body, RESPONSE_MAX_BYTES);
    strbuf_init(&headers, 1024);
    json_print(tree, &body);
    cJSON_Delete(tree);
    strbuf_printf(&headers, "X-Request-ID: %s\r\n%s", request->request_id,
                  more_headers != NULL ? more_headers : "");
    http_respond(request->http, status, "application/json; charset=utf-8", headers.data, body.data,
                 body.length);
    request->status = status;
    request->sent_bytes = body.length;
    strbuf_done(&headers);
    strbuf_done(&body);
}

void respond_json(struct request *request, int status, cJSON *tree, const char *headers)
{
    send_json(request, status, tree, headers);
}

void respond_data(struct request *request, int status, cJSON *data)
{
    cJSON *tree = cJSON_CreateObject();

    cJSON_AddNumberToObject(tree, "code", status);
    cJSON_AddStringToObject(tree, "msg", status == 202 ? "Accepted" : "OK");
    cJSON_AddItemToObject(tree, "data", data);
    send_json(request, status, tree, NULL);
}

/* A message of a bad field begins with the field's name: `metadata.a must be a string`. */
static void add_fields(cJSON *details, const struct error *err)
{
    char field[128];
    size_t length = strcspn(err->message, " ");
    cJSON *fields, *entry;

    if (err->message[length] == '\0' || length >= sizeof(field)) {
        return;
    }
    memcpy(field, err->message, length);
    field[length] = '\0';
    fields = cJSON_AddArrayToObject(details, "fields");
    entry = cJSON_CreateObject();
    cJSON_AddStringToObject(entry, "field", field);
    cJSON_AddStringToObject(entry, "problem", err->message + length + 1);
    cJSON_AddItemToArray(fields, entry);
}

void respond_error_details(struct request *request, const struct error *err, int retry_after_s,
                           cJSON *details, const char *headers)
{
    int status = error_code_http_status(err->code);
    cJSON *tree = cJSON_CreateObject();
    cJSON *error = cJSON_CreateObject();
    char more[256];
    int used;

    cJSON_AddStringToObject(error, "type", error_code_name(err->code));
    cJSON_AddStringToObject(error, "detail", err->message);
    if (err->code == ERR_INVALID) {
        add_fields(error, err);
    }
    if (details != NULL) {
        for (cJSON *item = details->child; item != NULL; item = details->child) {
            cJSON_AddItemToObject(error, item->string, cJSON_DetachItemViaPointer(details, item));
        }
        cJSON_Delete(details);
    }
    cJSON_AddNumberToObject(tree, "code", status);
    cJSON_AddStringToObject(tree, "msg", status == 401 ? "Token 无效" : err->message);
    cJSON_AddNullToObject(tree, "data");
    cJSON_AddItemToObject(tree, "error", error);
    cJSON_AddStringToObject(tree, "request_id", request->request_id);
    if (status == 503 && retry_after_s <= 0) {
        retry_after_s = RETRY_AFTER_S;
    }
    used = snprintf(more, sizeof(more), "%s%s", status == 401 ? "WWW-Authenticate: Bearer\r\n" : "",
                    headers != NULL ? headers : "");
    if (retry_after_s > 0 && used >= 0 && (size_t)used < sizeof(more)) {
        snprintf(more + used, sizeof(more) - (size_t)used, "Retry-After: %d\r\n", retry_after_s);
    }
    send_json(request, status, tree, more);
}

void respond_error(struct request *request, const struct error *err, int retry_after_s)
{
    respond_error_details(request, err, retry_after_s, NULL, NULL);
}

int request_sandbox_id(struct request *request, char ret[UUID_BYTES], struct error *err)
{
    const char *text;

    if (json_get_string_req(request->body, "sandbox_id", 1, 64, &text, err) < 0) {
        return -1;
    }
    if (!id_is_uuid(text)) {
        return error_set(err, ERR_INVALID, "sandbox_id must be a UUID");
    }
    str_copy(ret, UUID_BYTES, text);
    id_lower(ret);
    return 0;
}

bool request_wants_async(const struct request *request)
{
    const char *prefer = http_header(request->http, "Prefer");

    return prefer != NULL && strcasestr(prefer, "respond-async") != NULL;
}
