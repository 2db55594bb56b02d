/* request - see request.h. */
#include "gateway/http/request.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/alloc.h"
#include "common/base/log.h"
#include "gateway/http/openapi.h"
#include "gateway/http/request_state.h"
#include "gateway/http/router.h"

#define JSON_TYPE "application/json; charset=utf-8"

enum { RESPONSE_MAX_BYTES = 1 << 30, RETRY_AFTER_S = 2 };

static void send_text(struct request *request, int status, const char *content_type,
                      const struct strbuf *text, const char *more_headers)
{
    struct strbuf headers;

    strbuf_init(&headers, 1024);
    strbuf_printf(&headers, "X-Request-ID: %s\r\n%s%s", request->request_id,
                  request->state->idempotency.replayed ? "Idempotency-Replayed: true\r\n" : "",
                  more_headers != NULL ? more_headers : "");
    http_respond(request->http, status, status == 204 ? NULL : content_type, headers.data,
                 text->data, text->length);
    request->state->status = status;
    request->state->sent_bytes = text->length;
    strbuf_done(&headers);
}

static void send_json(struct request *request, int status, cJSON *tree, const char *more_headers)
{
    struct strbuf body;

    strbuf_init(&body, RESPONSE_MAX_BYTES);
    json_print(tree, &body);
    cJSON_Delete(tree);
    if (request->state->before_answer == NULL ||
        request->state->before_answer(request, status, &body)) {
        send_text(request, status, JSON_TYPE, &body, more_headers);
    }
    strbuf_done(&body);
}

void respond_stored(struct request *request, int status, const struct strbuf *body)
{
    char retry[40] = "";

    if (status == 503) {
        snprintf(retry, sizeof(retry), "Retry-After: %d\r\n", RETRY_AFTER_S);
    }
    send_text(request, status, JSON_TYPE, body, retry);
}

void respond_text(struct request *request, int status, const char *content_type,
                  const struct strbuf *text, const char *headers)
{
    send_text(request, status, content_type, text, headers);
}

void respond_json(struct request *request, int status, cJSON *tree, const char *headers)
{
    send_json(request, status, tree, headers);
}

void respond_empty(struct request *request, int status)
{
    struct strbuf nothing;

    strbuf_init(&nothing, 1);
    if (request->state->before_answer == NULL ||
        request->state->before_answer(request, status, &nothing)) {
        send_text(request, status, NULL, &nothing, NULL);
    }
    strbuf_done(&nothing);
}

cJSON *request_envelope(int status, cJSON *data)
{
    cJSON *tree = cJSON_CreateObject();

    cJSON_AddNumberToObject(tree, "code", status);
    cJSON_AddStringToObject(tree, "msg", status == 202 ? "Accepted" : "OK");
    cJSON_AddItemToObject(tree, "data", data);
    return tree;
}

void respond_data(struct request *request, int status, cJSON *data)
{
    send_json(request, status, request_envelope(status, data), NULL);
}

/* A message about a field starts with the field's name: `metadata.a must be a string`. It counts as
 * such only if the call has a field of this name. */
static void add_fields(const struct request *request, cJSON *details, const struct error *err)
{
    char field[128], top[128];
    size_t length = strcspn(err->message, " ");
    cJSON *fields, *entry;

    if (request->state->route == NULL || err->message[length] == '\0' || length >= sizeof(field)) {
        return;
    }
    memcpy(field, err->message, length);
    field[length] = '\0';
    str_copy(top, sizeof(top), field);
    top[strcspn(top, ".[")] = '\0';
    if (!openapi_takes(request->state->route->method, request->state->route->path, top)) {
        return;
    }
    fields = cJSON_AddArrayToObject(details, "fields");
    entry = cJSON_CreateObject();
    cJSON_AddStringToObject(entry, "field", field);
    cJSON_AddStringToObject(entry, "problem", err->message + length + 1);
    cJSON_AddItemToArray(fields, entry);
}

/* The log gets the whole text of a fault of ours; the caller only its kind. */
static const char *public_message(const struct error *err)
{
    switch ((int)err->code) {
    case ERR_INTERNAL:
    case ERR_CONFIG:
    case ERR_LIMIT:
        return "an unexpected fault of the server; its log has it under this request_id";
    case ERR_DATABASE_DOWN:
        return "the database is not available";
    case ERR_QUEUE_DOWN:
        return "the queue is not available";
    default:
        return err->message;
    }
}

cJSON *request_error_json(struct request *request, const struct error *err)
{
    cJSON *error = cJSON_CreateObject();

    /* deliberate refusals are in the access log already */
    if (error_code_http_status(err->code) >= 500 && err->code != ERR_DRAINING &&
        err->code != ERR_OVERLOADED) {
        log_error(LOG_WARN, "request.failed", err);
    }
    request->state->error_type = error_code_name(err->code);
    cJSON_AddStringToObject(error, "type", error_code_name(err->code));
    cJSON_AddStringToObject(error, "detail", public_message(err));
    if (err->code == ERR_QUOTA) {
        json_add_int64(error, "limit", err->limit);
        json_add_int64(error, "used", err->used);
    }
    return error;
}

int respond_stream_status(struct request *request, int status, const char *content_type,
                          const char *headers, int64_t length)
{
    struct strbuf all;
    int begun;

    strbuf_init(&all, 1024);
    strbuf_printf(&all, "X-Request-ID: %s\r\n%s", request->request_id, headers);
    begun = http_stream_begin(request->http, status, content_type, all.data, length);
    request->state->status = status;
    strbuf_done(&all);
    return begun;
}

int respond_stream(struct request *request, const char *content_type, const char *headers,
                   int64_t length)
{
    return respond_stream_status(request, 200, content_type, headers, length);
}

/* The contract's envelope. Takes `error`. */
static cJSON *envelope_of_error(const struct request *request, int status, const char *message,
                                cJSON *error)
{
    cJSON *tree = cJSON_CreateObject();

    cJSON_AddNumberToObject(tree, "code", status);
    cJSON_AddStringToObject(tree, "msg", status == 401 ? TOKEN_REFUSED_MESSAGE : message);
    cJSON_AddNullToObject(tree, "data");
    cJSON_AddItemToObject(tree, "error", error);
    cJSON_AddStringToObject(tree, "request_id", request->request_id);
    return tree;
}

/* E2B's form, which has a word for programs in error_code. Takes `error`. */
static cJSON *e2b_error(int status, const char *message, cJSON *error)
{
    cJSON *tree = cJSON_CreateObject();

    cJSON_AddNumberToObject(tree, "code", status);
    cJSON_AddStringToObject(tree, "message", status == 401 ? "Invalid API key" : message);
    cJSON_AddStringToObject(tree, "error_code", json_text(error, "type"));
    cJSON_Delete(error);
    return tree;
}

void respond_error_details(struct request *request, const struct error *err, int retry_after_s,
                           cJSON *details, const char *headers)
{
    int status = error_code_http_status(err->code);
    cJSON *tree;
    cJSON *error = request_error_json(request, err);
    const char *message = public_message(err);
    char more[512];
    int used;

    if (err->code == ERR_INVALID || err->code == ERR_TOO_LARGE) {
        add_fields(request, error, err);
    }
    if (details != NULL) {
        for (cJSON *item = details->child; item != NULL; item = details->child) {
            cJSON_AddItemToObject(error, item->string, cJSON_DetachItemViaPointer(details, item));
        }
        cJSON_Delete(details);
    }
    tree = request->state->e2b ? e2b_error(status, message, error)
                               : envelope_of_error(request, status, message, error);
    if (retry_after_s <= 0) {
        retry_after_s = err->retry_after_s;
    }
    if (status == 503 && retry_after_s <= 0) {
        retry_after_s = RETRY_AFTER_S;
    }
    used = snprintf(more, sizeof(more), "%s%s", status == 401 ? "WWW-Authenticate: Bearer\r\n" : "",
                    headers != NULL ? headers : "");
    if ((status == 503 || status == 429) && retry_after_s > 0 && used >= 0 &&
        (size_t)used < sizeof(more)) {
        snprintf(more + used, sizeof(more) - (size_t)used, "Retry-After: %d\r\n", retry_after_s);
    }
    send_json(request, status, tree, more);
}

void respond_error(struct request *request, const struct error *err, int retry_after_s)
{
    respond_error_details(request, err, retry_after_s, NULL, NULL);
}

int request_sandbox_id(const struct request *request, char ret[UUID_BYTES], struct error *err)
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

int request_query(const struct request *request, const char *name, char *out, size_t size,
                  bool *ret_given, struct error *err)
{
    int found = http_query_param(request->http, name, out, size);

    *ret_given = found == 1 && out[0] != '\0';
    return found < 0 ? error_set(err, ERR_INVALID, "%s is malformed or too long", name) : 0;
}

int request_page_limit(const struct request *request, int *ret, struct error *err)
{
    char text[32], *end;
    bool given;
    long limit;

    *ret = REQUEST_PAGE_DEFAULT;
    if (request_query(request, "limit", text, sizeof(text), &given, err) < 0) {
        return -1;
    }
    if (given) {
        limit = strtol(text, &end, 10);
        if (*end != '\0' || limit < 1 || limit > REQUEST_PAGE_MAX) {
            return error_set(err, ERR_INVALID, "limit must be between 1 and %d", REQUEST_PAGE_MAX);
        }
        *ret = (int)limit;
    }
    return 0;
}

int request_take_bytes(struct request *request, int64_t bytes, struct error *err)
{
    return budget_take(&request->gateway->buffers, &request->state->buffers, bytes, err);
}

void request_give_bytes(struct request *request, int64_t bytes)
{
    budget_give(&request->gateway->buffers, &request->state->buffers, bytes);
}

void request_set_audit_target(struct request *request, const char *target)
{
    str_copy(request->state->audit_target, sizeof(request->state->audit_target), target);
}

bool request_is_keyed(const struct request *request)
{
    return request->state->idempotency.key[0] != '\0';
}

void request_count_sent(struct request *request, size_t bytes)
{
    request->state->sent_bytes += bytes;
}

bool request_wants_async(const struct request *request)
{
    const char *prefer = http_header(request->http, "Prefer");

    return request->state->over_share ||
           (prefer != NULL && strcasestr(prefer, "respond-async") != NULL);
}

int64_t request_wait_s(const struct request *request, int64_t max)
{
    const char *prefer = http_header(request->http, "Prefer");
    const char *at = prefer != NULL ? strcasestr(prefer, "wait=") : NULL;
    int64_t seconds;

    if (at == NULL || (at != prefer && strchr(" ,;", at[-1]) == NULL) ||
        !isdigit((unsigned char)at[5])) {
        return 0;
    }
    seconds = strtoll(at + 5, NULL, 10);
    return seconds < max ? seconds : max;
}
