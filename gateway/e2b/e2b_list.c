/*
 * e2b_list - E2B's API: lists of sandboxes, with filters and pages, and of templates.
 *
 * A list has the caller's own sandboxes only, an admin's too: E2B's command line kills everything
 * that a list names. It goes by the time of creation, which unlike E2B's time of start does not
 * move between two pages.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/store/store_e2b.h"
#include "gateway/e2b/e2b_view.h"
#include "gateway/http/handlers.h"

enum { PAGE_MAX = 100, V1_MAX = 1000, QUERY_BYTES = 4096, CURSOR_BYTES = 96, JSON_GROWTH = 8 };

#define CURSOR_MAX_US INT64_C(253402300799999999) /* the year 9999: what a row's time can be */

/* The filter's texts; the store's filter borrows them. */
struct list_query {
    struct store_e2b_filter filter;
    char metadata[QUERY_BYTES], cursor[CURSOR_BYTES];
    struct strbuf metadata_json, templates_json;
};

/* E2B encodes this filter three times: the query is decoded already, the whole once more, then each
 * key and value. */
static int read_metadata(struct request *request, struct list_query *query, struct error *err)
{
    cJSON *wanted;
    char *save = NULL;
    bool given, broken = false;

    if (request_query(request, "metadata", query->metadata, sizeof(query->metadata), &given, err) <
        0) {
        return -1;
    }
    if (!given) {
        return 0;
    }
    if (percent_decode(query->metadata, true) < 0) {
        return error_set(err, ERR_INVALID, "metadata is malformed");
    }
    wanted = cJSON_CreateObject();
    for (char *pair = strtok_r(query->metadata, "&", &save); pair != NULL && !broken;
         pair = strtok_r(NULL, "&", &save)) {
        char *value = strchr(pair, '=');

        broken = value == NULL;
        if (!broken) {
            *value++ = '\0';
            broken = percent_decode(pair, true) < 0 || percent_decode(value, true) < 0 ||
                     !utf8_is_valid(pair, strlen(pair)) || !utf8_is_valid(value, strlen(value));
        }
        if (!broken) {
            cJSON_DeleteItemFromObjectCaseSensitive(wanted, pair);
            cJSON_AddStringToObject(wanted, pair, value);
        }
    }
    json_print(wanted, &query->metadata_json);
    cJSON_Delete(wanted);
    query->filter.metadata_json = query->metadata_json.data;
    return broken ? error_set(err, ERR_INVALID, "metadata is malformed") : 0;
}

static int read_states(const char *text, struct store_e2b_filter *filter, struct error *err)
{
    filter->running = filter->paused = false;
    while (*text != '\0') {
        size_t length = strcspn(text, ",");

        if (length == strlen("running") && strncmp(text, "running", length) == 0) {
            filter->running = true;
        } else if (length == strlen("paused") && strncmp(text, "paused", length) == 0) {
            filter->paused = true;
        } else {
            return error_set(err, ERR_INVALID, "state must be running or paused");
        }
        text += length + (text[length] == ',');
    }
    return 0;
}

static int read_cursor(struct list_query *query, struct error *err)
{
    char *end;

    query->filter.after_created_us = strtoll(query->cursor, &end, 10);
    if (*end != '_' || query->filter.after_created_us <= 0 ||
        query->filter.after_created_us > CURSOR_MAX_US || !id_is_uuid_lower(end + 1)) {
        return error_set(err, ERR_INVALID, "nextToken is not one that was given out");
    }
    query->filter.after_id = end + 1;
    return 0;
}

static void set_template(const struct request *request, const char *name, struct list_query *query)
{
    cJSON *ids = cJSON_CreateArray();

    cJSON_AddItemToArray(ids, cJSON_CreateString(name));
    placement_add_ids(request->gateway->placement, strcmp(name, "base") == 0 ? "" : name, ids);
    json_print(ids, &query->templates_json);
    cJSON_Delete(ids);
    query->filter.templates_json = query->templates_json.data;
}

static int read_limit(const char *text, int *ret, struct error *err)
{
    char *end;
    long limit = strtol(text, &end, 10);

    if (*end != '\0' || limit < 1 || limit > PAGE_MAX) {
        return error_set(err, ERR_INVALID, "limit must be between 1 and %d", PAGE_MAX);
    }
    *ret = (int)limit;
    return 0;
}

static int read_v2(struct request *request, struct list_query *query, struct error *err)
{
    struct store_e2b_filter *filter = &query->filter;
    char text[TEMPLATE_BYTES];
    bool given;

    filter->limit = PAGE_MAX;
    filter->paused = true;
    if (request_query(request, "state", text, sizeof(text), &given, err) < 0 ||
        (given && read_states(text, filter, err) < 0) ||
        request_query(request, "order", text, sizeof(text), &given, err) < 0) {
        return -1;
    }
    filter->oldest_first = given && strcmp(text, "asc") == 0;
    if (given && !filter->oldest_first && strcmp(text, "desc") != 0) {
        return error_set(err, ERR_INVALID, "order must be asc or desc");
    }
    if (request_query(request, "startedAfter", text, sizeof(text), &given, err) < 0) {
        return -1;
    }
    if (given && clock_parse_rfc3339(text, &filter->started_since_ms) < 0) {
        return error_set(err, ERR_INVALID, "startedAfter must be an RFC 3339 time");
    }
    if (request_query(request, "template", text, sizeof(text), &given, err) < 0) {
        return -1;
    }
    if (given) {
        set_template(request, text, query);
    }
    if (request_query(request, "limit", text, sizeof(text), &given, err) < 0 ||
        (given && read_limit(text, &filter->limit, err) < 0) ||
        request_query(request, "nextToken", query->cursor, sizeof(query->cursor), &given, err) <
            0) {
        return -1;
    }
    return given ? read_cursor(query, err) : 0;
}

static void respond_list(struct request *request, const struct store_e2b_filter *filter, bool v2)
{
    struct error err = ERROR_INIT;
    char headers[64 + CURSOR_BYTES];
    struct sandbox *rows;
    int64_t next_us, running = 0;
    size_t count;
    cJSON *page;
    int used;

    if ((v2 && store_e2b_count_running(request->gateway->store, filter, &running, &err) < 0) ||
        store_e2b_list(request->gateway->store, filter, &rows, &count, &next_us, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    used = snprintf(headers, sizeof(headers), "X-Total-Running: %" PRId64 "\r\n", running);
    page = cJSON_CreateArray();
    for (size_t i = 0; i < count; i++) {
        cJSON_AddItemToArray(page, e2b_view_listed(request, &rows[i], NULL));
        if (i + 1 == count && next_us > 0) {
            snprintf(headers + used, sizeof(headers) - (size_t)used,
                     "X-Next-Token: %" PRId64 "_%s\r\n", next_us, rows[i].id);
        }
        sandbox_done(&rows[i]);
    }
    free(rows);
    respond_json(request, 200, page, v2 ? headers : NULL);
}

static void list(struct request *request, bool v2)
{
    struct list_query *query = xcalloc(1, sizeof(*query));
    struct error err = ERROR_INIT;

    query->filter = (struct store_e2b_filter){
        .owner = request->principal.subject, .running = true, .limit = V1_MAX};
    strbuf_init(&query->metadata_json, QUERY_BYTES * JSON_GROWTH);
    strbuf_init(&query->templates_json, QUERY_BYTES * JSON_GROWTH);
    if (read_metadata(request, query, &err) < 0 || (v2 && read_v2(request, query, &err) < 0)) {
        respond_error(request, &err, 0);
    } else {
        respond_list(request, &query->filter, v2);
    }
    strbuf_done(&query->templates_json);
    strbuf_done(&query->metadata_json);
    free(query);
}

void handle_e2b_list(struct request *request)
{
    list(request, false);
}

void handle_e2b_list_v2(struct request *request)
{
    list(request, true);
}

/* ---- templates ---------------------------------------------------------------------------------
 */

/* What the gateway does not know of a template is 0 or empty. */
static cJSON *template_tree(const char *name)
{
    static const char *const numbers[] = {"cpuCount",   "memoryMB",   "diskSizeMB",
                                          "spawnCount", "buildCount", NULL};
    static const char *const lists[] = {"aliases", "names", NULL};
    cJSON *tree = cJSON_CreateObject();

    cJSON_AddStringToObject(tree, "templateID", name);
    cJSON_AddStringToObject(tree, "buildID", "00000000-0000-0000-0000-000000000000");
    for (int i = 0; numbers[i] != NULL; i++) {
        cJSON_AddNumberToObject(tree, numbers[i], 0);
    }
    for (int i = 0; lists[i] != NULL; i++) {
        cJSON_AddItemToArray(cJSON_AddArrayToObject(tree, lists[i]), cJSON_CreateString(name));
    }
    cJSON_AddTrueToObject(tree, "public");
    cJSON_AddStringToObject(tree, "createdAt", "1970-01-01T00:00:00.000Z");
    cJSON_AddStringToObject(tree, "updatedAt", "1970-01-01T00:00:00.000Z");
    cJSON_AddNullToObject(tree, "createdBy");
    cJSON_AddNullToObject(tree, "lastSpawnedAt");
    cJSON_AddStringToObject(tree, "envdVersion", E2B_OLDEST_ENVD);
    cJSON_AddStringToObject(tree, "buildStatus", "ready");
    return tree;
}

/* Every name of SANDBOX_TEMPLATES, and `base`, which every create may name. */
void handle_e2b_templates(struct request *request)
{
    const struct placement *placement = request->gateway->placement;
    cJSON *list_of_all = cJSON_CreateArray();
    bool has_base = false;

    for (size_t i = 0; placement_name(placement, i) != NULL; i++) {
        has_base = has_base || strcmp(placement_name(placement, i), "base") == 0;
        cJSON_AddItemToArray(list_of_all, template_tree(placement_name(placement, i)));
    }
    if (!has_base) {
        cJSON_AddItemToArray(list_of_all, template_tree("base"));
    }
    respond_json(request, 200, list_of_all, NULL);
}

void handle_e2b_template_alias(struct request *request)
{
    const struct placement *placement = request->gateway->placement;
    const char *path = http_path(request->http);
    char name[TEMPLATE_BYTES] = "";
    struct error err = ERROR_INIT;
    bool found;
    cJSON *tree;

    if (str_copy(name, sizeof(name), strrchr(path, '/') + 1) < 0 ||
        percent_decode(name, false) < 0) {
        name[0] = '\0';
    }
    found = strcmp(name, "base") == 0;
    for (size_t i = 0; placement_name(placement, i) != NULL; i++) {
        found = found || strcmp(placement_name(placement, i), name) == 0;
    }
    if (!found) {
        error_set(&err, ERR_NOT_FOUND, "no template has this alias");
        respond_error(request, &err, 0);
        return;
    }
    tree = cJSON_CreateObject();
    cJSON_AddStringToObject(tree, "templateID", name);
    cJSON_AddTrueToObject(tree, "public");
    respond_json(request, 200, tree, NULL);
}
