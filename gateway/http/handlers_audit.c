/*
 * handlers_audit - the audit log, for admins.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/store/store_audit.h"
#include "gateway/http/handlers.h"

static cJSON *record_json(const struct store_audit *record)
{
    cJSON *tree = cJSON_CreateObject();

    json_add_time(tree, "at", record->at_ms);
    json_add_string_or_null(tree, "actor", record->actor);
    json_add_string_or_null(tree, "actor_name", record->actor_name);
    json_add_string_or_null(tree, "key_id", record->key_id);
    json_add_string_or_null(tree, "address", record->address);
    cJSON_AddStringToObject(tree, "action", record->action);
    json_add_string_or_null(tree, "target", record->target);
    cJSON_AddNumberToObject(tree, "status", record->status);
    json_add_string_or_null(tree, "error", record->error);
    json_add_string_or_null(tree, "request_id", record->request_id);
    json_add_string_or_null(tree, "detail", record->detail);
    return tree;
}

void handle_audit(struct request *request)
{
    char actor[OWNER_BYTES], target[LABEL_BYTES], action[AUDIT_ACTION_BYTES], cursor[24], *end;
    bool has_actor, has_target, has_action, has_cursor;
    struct store_audit_filter filter = {.limit = 0};
    struct error err = ERROR_INIT;
    struct store_audit *rows;
    size_t count;
    int limit;
    cJSON *data, *items;

    if (request_query(request, "actor", actor, sizeof(actor), &has_actor, &err) < 0 ||
        request_query(request, "target", target, sizeof(target), &has_target, &err) < 0 ||
        request_query(request, "action", action, sizeof(action), &has_action, &err) < 0 ||
        request_query(request, "cursor", cursor, sizeof(cursor), &has_cursor, &err) < 0 ||
        request_page_limit(request, &limit, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    filter.actor = has_actor ? actor : NULL;
    filter.target = has_target ? target : NULL;
    filter.action = has_action ? action : NULL;
    filter.limit = limit + 1;
    if (has_cursor) {
        filter.before_id = strtoll(cursor, &end, 10);
        if (*end != '\0' || filter.before_id < 1) {
            error_set(&err, ERR_INVALID, "cursor is not one that was given out");
            respond_error(request, &err, 0);
            return;
        }
    }
    if (store_audit_list(request->gateway->store, &filter, &rows, &count, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    data = cJSON_CreateObject();
    cJSON_AddTrueToObject(data, "success");
    items = cJSON_AddArrayToObject(data, "items");
    cursor[0] = '\0';
    for (size_t i = 0; i < count && i < (size_t)limit; i++) {
        cJSON_AddItemToArray(items, record_json(&rows[i]));
    }
    if (count > (size_t)limit) {
        snprintf(cursor, sizeof(cursor), "%lld", (long long)rows[limit - 1].id);
    }
    json_add_string_or_null(data, "next_cursor", cursor);
    free(rows);
    respond_data(request, 200, data);
}
