/*
 * api_list - GET /sandboxes and /v2/sandboxes: filters, order, pages.
 *
 * A page ends with a cursor that names its last sandbox (start time and id), so that the next page
 * goes on behind it whatever was created or killed meanwhile.
 */
#include "deploy/sandbox-host/api/api_list.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/encode.h"
#include "deploy/sandbox-host/sandbox/sandbox_query.h"
#include "deploy/sandbox-host/sandbox/template.h"

enum { LIST_MAX = 100, QUERY_BYTES = 4096, CURSOR_BYTES = 64 };

struct cursor {
    int64_t started_ms;
    char id[SANDBOX_ID_BYTES];
};

struct filter {
    char metadata[QUERY_BYTES];         /* after the query's own decoding */
    char template[TEMPLATE_NAME_BYTES]; /* id or alias, or "" */
    bool running, paused, ascending, paged;
    int64_t limit, started_after_ms;
    struct cursor after; /* id "" = from the start */
};

/* E2B encodes this filter three times: the query is decoded already, the whole once more, then each
 * key and value. All pairs must be there. */
static bool metadata_matches(const struct filter *filter, const cJSON *metadata)
{
    char pairs[QUERY_BYTES], *save = NULL;

    str_copy(pairs, sizeof(pairs), filter->metadata);
    for (char *pair = strtok_r(pairs, "&", &save); pair != NULL;
         pair = strtok_r(NULL, "&", &save)) {
        char *value = strchr(pair, '=');
        const cJSON *item;

        if (value == NULL) {
            return false;
        }
        *value++ = '\0';
        if (percent_decode(pair, true) < 0 || percent_decode(value, true) < 0) {
            return false;
        }
        item = cJSON_GetObjectItemCaseSensitive(metadata, pair);
        if (!cJSON_IsString(item) || strcmp(item->valuestring, value) != 0) {
            return false;
        }
    }
    return true;
}

/* ---- the query ---- */

static int read_states(const char *text, struct filter *filter, struct error *err)
{
    filter->running = filter->paused = false;
    while (*text != '\0') {
        size_t length = strcspn(text, ",");

        if (length == 7 && strncmp(text, "running", length) == 0) {
            filter->running = true;
        } else if (length == 6 && strncmp(text, "paused", length) == 0) {
            filter->paused = true;
        } else {
            return error_set(err, ERR_INVALID, "state is neither running nor paused");
        }
        text += length + (text[length] == ',');
    }
    return 0;
}

static int read_cursor(const char *text, struct cursor *ret, struct error *err)
{
    char *colon;

    ret->started_ms = strtoll(text, &colon, 10);
    if (colon == text || *colon != ':' || str_copy(ret->id, sizeof(ret->id), colon + 1) < 0 ||
        ret->id[0] == '\0') {
        return error_set(err, ERR_INVALID, "nextToken is not valid");
    }
    return 0;
}

/* 1 = there, 0 = absent or empty. */
static int query_text(const struct call *call, const char *name, char *out, size_t size,
                      struct error *err)
{
    int found = http_query_param(call->http, name, out, size);

    if (found < 0) {
        return error_set(err, ERR_INVALID, "%s is not valid", name);
    }
    return found == 1 && out[0] != '\0';
}

static int read_v2(const struct call *call, struct filter *filter, struct error *err)
{
    char text[TEMPLATE_NAME_BYTES * 2];
    int found;

    filter->paged = filter->paused = true;
    if ((found = query_text(call, "state", text, sizeof(text), err)) < 0 ||
        (found == 1 && read_states(text, filter, err) < 0) ||
        (found = query_text(call, "order", text, sizeof(text), err)) < 0) {
        return -1;
    }
    filter->ascending = found == 1 && strcmp(text, "asc") == 0;
    if (found == 1 && !filter->ascending && strcmp(text, "desc") != 0) {
        return error_set(err, ERR_INVALID, "order is neither asc nor desc");
    }
    if ((found = query_text(call, "startedAfter", text, sizeof(text), err)) < 0) {
        return -1;
    }
    if (found == 1 && clock_parse_rfc3339(text, &filter->started_after_ms) < 0) {
        return error_set(err, ERR_INVALID, "startedAfter is not an RFC 3339 time");
    }
    if ((found = query_text(call, "template", text, sizeof(text), err)) < 0 ||
        (found == 1 && template_normalize(text, filter->template, err) < 0) ||
        (found = query_text(call, "nextToken", text, sizeof(text), err)) < 0 ||
        (found == 1 && read_cursor(text, &filter->after, err) < 0)) {
        return -1;
    }
    return api_query_number(call, "limit", LIST_MAX, 1, LIST_MAX, &filter->limit, err);
}

static int read_filter(const struct call *call, bool v2, struct filter *filter, struct error *err)
{
    *filter = (struct filter){.running = true, .limit = INT64_MAX};
    if (http_query_param(call->http, "metadata", filter->metadata, sizeof(filter->metadata)) < 0 ||
        percent_decode(filter->metadata, true) < 0) {
        return error_set(err, ERR_INVALID, "metadata filter is not valid");
    }
    return v2 ? read_v2(call, filter, err) : 0;
}

/* ---- the answer ---- */

static bool matches(const struct filter *filter, const struct sandbox_view *view)
{
    return (filter->template[0] == '\0' || strcmp(filter->template, view->template_id) == 0 ||
            strcmp(filter->template, view->alias) == 0) &&
           view->started_ms >= filter->started_after_ms && metadata_matches(filter, view->metadata);
}

/* Whether the view comes behind the cursor in the list's order. */
static bool is_behind(const struct filter *filter, const struct sandbox_view *view)
{
    const struct cursor *after = &filter->after;
    int order = view->started_ms != after->started_ms
                    ? (view->started_ms > after->started_ms ? 1 : -1)
                    : strcmp(view->id, after->id);

    return after->id[0] == '\0' || (filter->ascending ? order > 0 : order < 0);
}

static cJSON *make_page(const struct call *call, const struct filter *filter,
                        const struct sandbox_view *views, size_t count, struct cursor *ret_last,
                        bool *ret_more, int64_t *ret_running)
{
    cJSON *page = cJSON_CreateArray();
    int64_t taken = 0;

    *ret_more = false;
    *ret_running = 0;
    for (size_t n = 0; n < count; n++) {
        const struct sandbox_view *view = &views[filter->ascending ? count - 1 - n : n];

        if (view->internal || !matches(filter, view)) {
            continue;
        }
        *ret_running += view->state == SANDBOX_RUNNING;
        if ((view->state == SANDBOX_RUNNING ? !filter->running : !filter->paused) ||
            !is_behind(filter, view)) {
            continue;
        }
        if (taken == filter->limit) {
            *ret_more = true;
            continue;
        }
        cJSON_AddItemToArray(page, api_listed_tree(call, view));
        taken++;
        ret_last->started_ms = view->started_ms;
        str_copy(ret_last->id, sizeof(ret_last->id), view->id);
    }
    return page;
}

static void answer_list(struct call *call, bool v2)
{
    struct error err = ERROR_INIT;
    struct cursor last = {.id = ""};
    struct filter filter;
    struct sandbox_view *views;
    char headers[64 + CURSOR_BYTES + SANDBOX_ID_BYTES];
    int64_t running;
    size_t count;
    cJSON *page;
    bool more;
    int used;

    if (read_filter(call, v2, &filter, &err) < 0) {
        api_send_failure(call->http, &err);
        return;
    }
    sandbox_list(&views, &count);
    page = make_page(call, &filter, views, count, &last, &more, &running);
    for (size_t n = 0; n < count; n++) {
        sandbox_view_done(&views[n]);
    }
    free(views);
    used = snprintf(headers, sizeof(headers), "X-Total-Running: %" PRId64 "\r\n", running);
    if (more) {
        snprintf(headers + used, sizeof(headers) - (size_t)used, "X-Next-Token: %" PRId64 ":%s\r\n",
                 last.started_ms, last.id);
    }
    api_send_tree(call->http, 200, v2 ? headers : "", page);
}

void api_list(struct call *call)
{
    answer_list(call, false);
}

void api_list_v2(struct call *call)
{
    answer_list(call, true);
}
