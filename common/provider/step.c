/* step - see step.h. */
#include "common/provider/step.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/provider/text.h"

/* ---- verdicts -------------------------------------------------------------------------------- */

void step_fail(struct provider_step *ret, enum outcome outcome, int64_t retry_after_ms,
               const char *format, ...)
{
    va_list args;
    ret->verdict = PROVIDER_FAILED;
    ret->outcome = outcome;
    ret->retry_after_ms = retry_after_ms;
    va_start(args, format);
    vsnprintf(ret->error, sizeof(ret->error), format, args);
    va_end(args);
}

void step_fail_unsettled(struct provider_step *ret, const struct provider_call *call,
                         int64_t until_ms, const char *text)
{
    enum { POLL_MS = 2000 };
    int64_t rest_ms = until_ms - call->now_ms;
    int64_t delay_ms = rest_ms < POLL_MS ? rest_ms : POLL_MS;
    step_fail(ret, OUTCOME_SNOOZE, delay_ms > 0 ? delay_ms : 1, "%s", text);
}

void step_fail_garbage(struct provider_step *ret, enum outcome outcome,
                       const struct http_response *last, const char *name, const char *what)
{
    step_fail(ret, outcome, 0, "%s %s: HTTP %d with an unusable body", name, what, last->status);
    ret->http_status = last->status;
}

void step_fail_foreign(struct provider_step *ret, const struct http_response *last,
                       const char *name, const char *what)
{
    step_fail(ret, OUTCOME_TRANSIENT, last->retry_after_ms,
              "%s %s: HTTP %d, and not from the provider itself", name, what, last->status);
    ret->http_status = last->status;
}

void step_done(struct provider_call *call, struct provider_step *ret, enum provider_state state)
{
    call->result.state = state;
    ret->verdict = PROVIDER_DONE;
    ret->outcome = OUTCOME_OK;
}

void step_send(struct provider_call *call, int phase, const struct http_request *request,
               const char *name, struct provider_step *ret)
{
    call->phase = phase;
    ret->verdict = PROVIDER_SEND;
    if (request->url.overflow || request->headers.overflow || request->body.overflow) {
        step_fail(ret, OUTCOME_PERMANENT, 0, "%s: the request is too large", name);
    }
}

/* ---- answers --------------------------------------------------------------------------------- */

bool step_answered(const struct http_response *last, int status)
{
    return last->transport == HTTP_ANSWERED && last->status == status;
}

bool step_succeeded(const struct http_response *last)
{
    return last->transport == HTTP_ANSWERED && last->status >= 200 && last->status < 300;
}

bool step_is_own_refusal(const struct http_response *last, const char *field)
{
    struct error ignored = ERROR_INIT; /* a proxy's HTML is an answer, too */
    if (last->transport != HTTP_ANSWERED || last->body_bytes == 0) {
        return false;
    }
    cJSON *root = json_parse(last->body, last->body_bytes, &ignored);
    const cJSON *status = cJSON_GetObjectItemCaseSensitive(root, field);
    bool own = cJSON_IsNumber(status) && status->valuedouble == (double)last->status;
    cJSON_Delete(root);
    return own;
}

bool step_is_foreign(const struct http_response *last, const char *field)
{
    switch (last->status) {
    case 401:
    case 408:
    case 413:
    case 414:
    case 429:
    case 431:
        return false;
    default:
        return last->transport == HTTP_ANSWERED && last->status >= 300 && last->status < 500 &&
               !step_is_own_refusal(last, field);
    }
}

/* ---- what a create carries ------------------------------------------------------------------- */

const char *step_text(const char *text)
{
    return text ? text : "";
}

cJSON *step_tags(const struct provider_call *call)
{
    struct error ignored = ERROR_INIT; /* NULL says it */
    cJSON *tags = cJSON_CreateObject();
    if (call->metadata_json && call->metadata_json[0]) {
        cJSON *user = json_parse(call->metadata_json, strlen(call->metadata_json), &ignored);
        if (!user || !cJSON_IsObject(user)) {
            cJSON_Delete(user);
            cJSON_Delete(tags);
            return NULL;
        }
        for (const cJSON *item = user->child; item; item = item->next) {
            if (cJSON_IsString(item) && !provider_is_tag(item->string)) {
                cJSON_AddStringToObject(tags, item->string, item->valuestring);
            }
        }
        cJSON_Delete(user);
    }
    cJSON_AddStringToObject(tags, PROVIDER_TAG_DEPLOYMENT, step_text(call->deployment_id));
    cJSON_AddStringToObject(tags, PROVIDER_TAG_SANDBOX, step_text(call->sandbox_id));
    cJSON_AddStringToObject(tags, PROVIDER_TAG_JOB, step_text(call->job_id));
    return tags;
}

/* ---- lists ----------------------------------------------------------------------------------- */

int step_list(struct provider_call *call, const char *deployment_id, const char *sandbox_id,
              const char *id, enum provider_state state)
{
    if (!call->deployment_id || strcmp(deployment_id, call->deployment_id) != 0 ||
        !id_is_uuid_lower(sandbox_id)) {
        return 0;
    }
    if (!provider_is_id(id)) {
        return -1;
    }
    if (call->listed_count == call->listed_capacity) {
        call->listed_capacity = call->listed_capacity ? call->listed_capacity * 2 : 128;
        call->listed = xrealloc(call->listed, call->listed_capacity * sizeof(*call->listed));
    }
    struct provider_listed *item = &call->listed[call->listed_count++];
    memset(item, 0, sizeof(*item));
    str_copy(item->provider_sandbox_id, sizeof(item->provider_sandbox_id), id);
    str_copy(item->sandbox_id, sizeof(item->sandbox_id), sandbox_id);
    item->state = state;
    return 0;
}

/* ---- contents of files ------------------------------------------------------------------------
 */

struct getting {
    const struct file_get *get;
};

static int on_file_head(void *arg, const struct http_response *response)
{
    const struct file_get *get = ((struct getting *)arg)->get;
    const int64_t first = response->status == 206 ? get->offset : 0;

    return get->on_begin == NULL ? 0 : get->on_begin(get->arg, first, response->content_length);
}

static int on_file_data(void *arg, const void *data, size_t bytes)
{
    const struct file_get *get = ((struct getting *)arg)->get;

    return get->on_data(get->arg, data, bytes);
}

void step_file_get(struct http_client *client, struct http_request *request,
                   const struct file_get *get, int64_t idle_ms, struct http_response *ret,
                   bool *ret_stopped)
{
    struct getting getting = {.get = get};
    const struct http_stream stream = {.on_head = on_file_head,
                                       .on_data = on_file_data,
                                       .arg = &getting,
                                       .body_bytes = -1,
                                       .idle_ms = idle_ms};

    if (get->bytes >= 0) {
        strbuf_printf(&request->headers, "Range: bytes=%lld-%lld\n", (long long)get->offset,
                      (long long)(get->offset + get->bytes - 1));
    } else if (get->offset > 0) {
        strbuf_printf(&request->headers, "Range: bytes=%lld-\n", (long long)get->offset);
    }
    http_client_stream(client, request, &stream, ret);
    *ret_stopped = ret->stopped;
}
