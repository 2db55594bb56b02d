/*
 * handlers_keys - creates, lists, revokes and rotates API keys, for their owner or for an admin.
 *
 * A key is contained only in the answer that creates it; our copy is wiped.
 */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "gateway/auth/api_key.h"
#include "gateway/http/bounds.h"
#include "gateway/http/handlers.h"
#include "gateway/http/views.h"

static cJSON *key_json(const struct store_api_key *row)
{
    cJSON *tree = cJSON_CreateObject(), *scopes;
    unsigned held = scopes_parse(row->scopes);

    cJSON_AddStringToObject(tree, "id", row->id);
    cJSON_AddStringToObject(tree, "name", row->name);
    cJSON_AddStringToObject(tree, "prefix", row->prefix);
    scopes = cJSON_AddArrayToObject(tree, "scopes");
    for (int i = 0; i < SCOPE_COUNT; i++) {
        if ((held & 1U << i) != 0) {
            cJSON_AddItemToArray(scopes, cJSON_CreateString(scope_name(i)));
        }
    }
    json_add_time(tree, "created_at", row->created_at_ms);
    json_add_time(tree, "expires_at", row->expires_at_ms);
    json_add_time(tree, "last_used_at", row->last_used_at_ms);
    return tree;
}

/* Answers with the row and, only here, the key itself. */
static void respond_made(struct request *request, const struct store_api_key *row,
                         char key[API_KEY_BYTES])
{
    cJSON *data = key_json(row);

    cJSON_AddTrueToObject(data, "success");
    cJSON_AddStringToObject(data, "key", key);
    respond_json(request, 200, request_envelope(200, data), "Cache-Control: no-store\r\n");
    sodium_memzero(key, API_KEY_BYTES);
}

static int read_scopes(const struct request *request, unsigned *ret, struct error *err)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(request->body, "scopes"), *item;

    *ret = 0;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) == 0) {
        return error_set(err, ERR_INVALID, "scopes must be a list of at least one scope");
    }
    cJSON_ArrayForEach(item, list)
    {
        if (!cJSON_IsString(item) || scope_parse(item->valuestring, ret) != 0) {
            return error_set(err, ERR_INVALID,
                             "scopes must be of sandboxes:read, sandboxes:write, exec, admin");
        }
    }
    /* an admin by another issuer's claim may stop being one without this server learning it */
    if ((*ret & SCOPE_ADMIN) != 0 && !(request->principal.admin && request->principal.own)) {
        return error_set(err, ERR_FORBIDDEN,
                         "the scope admin is for the admins among this server's own users");
    }
    return 0;
}

void handle_key_create(struct request *request)
{
    struct error err = ERROR_INIT;
    struct store_api_key row = {.expires_at_ms = 0};
    char key[API_KEY_BYTES];
    const char *name;
    int64_t expires_in_s;
    unsigned scopes;

    if (json_get_string_req(request->body, "name", 1, LABEL_BYTES - 1, &name, &err) < 0 ||
        read_scopes(request, &scopes, &err) < 0 ||
        json_get_int(request->body, "expires_in_seconds", KEY_EXPIRY_MIN_S, KEY_EXPIRY_MAX_S, 0,
                     &expires_in_s, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    str_copy(row.owner, sizeof(row.owner), request->principal.subject);
    str_copy(row.username, sizeof(row.username), request->principal.username);
    str_copy(row.name, sizeof(row.name), name);
    scopes_format(scopes, row.scopes);
    row.created_at_ms = clock_wall_ms();
    row.expires_at_ms = expires_in_s > 0 ? row.created_at_ms + expires_in_s * 1000 : 0;
    api_key_make(&row, key);
    if (store_api_key_add(request->gateway->store, &row, (int)request->gateway->config->max_keys,
                          &err) < 0) {
        sodium_memzero(key, sizeof(key));
        respond_error(request, &err, 0);
        return;
    }
    request_set_audit_target(request, row.id);
    respond_made(request, &row, key);
}

/* The owner of the keys; an admin may name any user. */
static const char *owner_of(const struct request *request)
{
    return request->principal.admin ? NULL : request->principal.subject;
}

void handle_key_list(struct request *request)
{
    struct error err = ERROR_INIT;
    char owner[OWNER_BYTES], cursor[UUID_BYTES];
    struct store_api_key *rows;
    bool has_owner, has_cursor;
    size_t count;
    int limit;
    cJSON *data, *items;

    if (request_query(request, "owner", owner, sizeof(owner), &has_owner, &err) == 0 && has_owner &&
        !request->principal.admin && strcmp(owner, request->principal.subject) != 0) {
        error_set(&err, ERR_FORBIDDEN, "another owner's keys are for admins");
    }
    if (err.code == ERR_OK &&
        request_query(request, "cursor", cursor, sizeof(cursor), &has_cursor, &err) == 0 &&
        has_cursor && !id_is_uuid_lower(cursor)) {
        error_set(&err, ERR_INVALID, "cursor is not one that was given out");
    }
    if (err.code != ERR_OK || request_page_limit(request, &limit, &err) < 0 ||
        store_api_keys_list(request->gateway->store, has_owner ? owner : request->principal.subject,
                            has_cursor ? cursor : NULL, limit + 1, &rows, &count, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    data = cJSON_CreateObject();
    cJSON_AddTrueToObject(data, "success");
    items = cJSON_AddArrayToObject(data, "items");
    for (size_t i = 0; i < count && i < (size_t)limit; i++) {
        cJSON_AddItemToArray(items, key_json(&rows[i]));
    }
    json_add_string_or_null(data, "next_cursor", count > (size_t)limit ? rows[limit - 1].id : "");
    free(rows);
    respond_data(request, 200, data);
}

void handle_key_revoke(struct request *request)
{
    struct error err = ERROR_INIT;

    if (store_api_key_revoke(request->gateway->store, request->path_id, owner_of(request), &err) <
        0) {
        respond_error(request, &err, 0);
        return;
    }
    respond_data(request, 200, view_done("Key revoked"));
}

void handle_key_rotate(struct request *request)
{
    struct store *store = request->gateway->store;
    struct error err = ERROR_INIT;
    struct store_api_key row;
    char key[API_KEY_BYTES];
    int64_t overlap_s;

    if (json_get_int_req(request->body, "overlap_seconds", 0, KEY_OVERLAP_MAX_S, &overlap_s, &err) <
            0 ||
        store_api_key_get(store, request->path_id, owner_of(request), &row, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    /* the new key gets the old key's whole lifetime */
    if (row.expires_at_ms > 0) {
        row.expires_at_ms += clock_wall_ms() - row.created_at_ms;
    }
    row.created_at_ms = clock_wall_ms();
    row.last_used_at_ms = 0;
    api_key_make(&row, key);
    if (store_api_key_rotate(store, request->path_id, &row, overlap_s * 1000, &err) < 0) {
        sodium_memzero(key, sizeof(key));
        respond_error(request, &err, 0);
        return;
    }
    respond_made(request, &row, key);
}
