/*
 * daytona_list - all sandboxes of this deployment, page after page.
 *
 * Owns: the list's requests and the reading of its pages, in both shapes that servers give them.
 * Does not own: what the list means. Threads: none shared; the progress is in the call.
 * Failure: an outcome; a list that broke off is never one that is done.
 */
#include <string.h>

#include "common/provider/daytona.h"
#include "common/provider/step.h"

static void fail(struct provider_step *ret, enum outcome outcome, int status, const char *text)
{
    step_fail(ret, outcome, 0, "daytona list: %s", text);
    ret->http_status = status;
}

static void send_page(const struct daytona *daytona, struct provider_call *call,
                      struct http_request *request, struct provider_step *ret)
{
    struct strbuf labels;
    cJSON *wanted = cJSON_CreateObject();
    strbuf_init(&labels, 1024);
    cJSON_AddStringToObject(wanted, PROVIDER_TAG_DEPLOYMENT, step_text(call->deployment_id));
    json_print(wanted, &labels);
    cJSON_Delete(wanted);
    daytona_api_request(daytona, "GET", request);
    request->max_response_bytes = PROVIDER_PAGE_MAX_BYTES;
    strbuf_printf(&request->url, "/sandbox?limit=%d&labels=", PROVIDER_PAGE_ITEMS);
    strbuf_put_urlencoded(&request->url, labels.data, false);
    if (call->page.length > 0) {
        strbuf_puts(&request->url, "&cursor=");
        strbuf_put_urlencoded(&request->url, call->page.data, false);
    }
    ret->verdict = PROVIDER_SEND;
    if (labels.overflow || request->url.overflow) {
        fail(ret, OUTCOME_PERMANENT, 0, "the request is too large");
    }
    strbuf_done(&labels);
}

/* Maps states as the other operations do: a sandbox that exists and does not run is paused. */
static enum provider_state state_of(enum daytona_kind kind)
{
    switch (kind) {
    case DAYTONA_STARTED:
        return PROVIDER_STATE_RUNNING;
    case DAYTONA_STOPPED:
    case DAYTONA_FAILED:
        return PROVIDER_STATE_PAUSED;
    case DAYTONA_GONE:
        return PROVIDER_STATE_ABSENT;
    case DAYTONA_UNKNOWN:
    case DAYTONA_CHANGING:
        break;
    }
    return PROVIDER_STATE_UNKNOWN;
}

static int take_items(struct provider_call *call, const cJSON *items)
{
    call->listed_count = 0;
    if (!cJSON_IsArray(items)) {
        return -1;
    }
    for (const cJSON *item = items->child; item; item = item->next) {
        const cJSON *labels = cJSON_GetObjectItemCaseSensitive(item, "labels");
        enum provider_state state = state_of(daytona_kind_of(json_text(item, "state")));
        if (state == PROVIDER_STATE_ABSENT) {
            continue; /* being destroyed */
        }
        if (step_list(call, json_text(labels, PROVIDER_TAG_DEPLOYMENT),
                      json_text(labels, PROVIDER_TAG_SANDBOX), json_text(item, "id"), state) != 0) {
            return -1;
        }
    }
    return 0;
}

/* An object with a cursor, or, before 0.180, the bare array of all. -1: neither. */
static int take_page(struct provider_call *call, const cJSON *root, struct strbuf *ret_next)
{
    if (cJSON_IsArray(root)) {
        return take_items(call, root);
    }
    const cJSON *next = cJSON_GetObjectItemCaseSensitive(root, "nextCursor");
    if (next && !cJSON_IsNull(next) && !cJSON_IsString(next)) {
        return -1;
    }
    if (cJSON_IsString(next) && strbuf_puts(ret_next, next->valuestring) != 0) {
        return -1;
    }
    return take_items(call, cJSON_GetObjectItemCaseSensitive(root, "items"));
}

static void take_answer(const struct daytona *daytona, struct provider_call *call,
                        const struct http_response *last, struct http_request *request,
                        struct provider_step *ret)
{
    struct error ignored = ERROR_INIT; /* NULL is no page either */
    struct strbuf next;
    cJSON *root = json_parse(last->body, last->body_bytes, &ignored);
    strbuf_init(&next, sizeof(last->next_token));
    if (take_page(call, root, &next) != 0) {
        fail(ret, OUTCOME_TRANSIENT, last->status, "an unusable page");
    } else if (next.length == 0) {
        step_done(call, ret, PROVIDER_STATE_UNKNOWN);
    } else if (call->page.length > 0 && strcmp(next.data, call->page.data) == 0) {
        fail(ret, OUTCOME_TRANSIENT, last->status, "the same page again");
    } else {
        strbuf_reset(&call->page);
        strbuf_puts(&call->page, next.data);
        send_page(daytona, call, request, ret);
    }
    strbuf_done(&next);
    cJSON_Delete(root);
}

void daytona_list_step(const struct daytona *daytona, struct provider_call *call,
                       const struct http_response *last, struct http_request *request,
                       struct provider_step *ret)
{
    char text[180];
    if (!last) {
        strbuf_reset(&call->page);
        send_page(daytona, call, request, ret);
        return;
    }
    if (step_succeeded(last)) {
        take_answer(daytona, call, last, request, ret);
        return;
    }
    daytona_error_text(daytona, last, text, sizeof(text));
    if (last->transport != HTTP_ANSWERED) {
        fail(ret, OUTCOME_TRANSIENT, 0, text);
        return;
    }
    if (daytona_is_foreign(last)) {
        step_fail_foreign(ret, last, "daytona", "list");
        return;
    }
    int64_t retry_after_ms = last->retry_after_ms;
    fail(ret, daytona_classify(last->status, text, false, &retry_after_ms), last->status, text);
    ret->retry_after_ms = retry_after_ms;
}
