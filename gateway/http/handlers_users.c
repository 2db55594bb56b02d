/*
 * handlers_users - users and their limits, for admins: the same rules as `sandbox-gateway user`.
 *
 * Passwords that come in are wiped with the request's body; none goes out.
 */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/store/store_limits.h"
#include "gateway/auth/password.h"
#include "gateway/auth/user_name.h"
#include "gateway/http/handlers.h"

static cJSON *user_json(const struct store_user *user)
{
    cJSON *tree = cJSON_CreateObject();

    cJSON_AddStringToObject(tree, "id", user->id);
    cJSON_AddStringToObject(tree, "username", user->username);
    cJSON_AddStringToObject(tree, "role", user->role);
    cJSON_AddBoolToObject(tree, "disabled", user->disabled);
    json_add_time(tree, "created_at", user->created_at_ms);
    return tree;
}

static void respond_user(struct request *request, const char *username)
{
    struct error err = ERROR_INIT;
    struct store_user user;
    cJSON *data;

    if (store_user_find(request->gateway->store, username, &user, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    data = user_json(&user);
    cJSON_AddTrueToObject(data, "success");
    sodium_memzero(&user, sizeof(user));
    respond_data(request, 200, data);
}

void handle_user_list(struct request *request)
{
    char cursor[LABEL_BYTES] = "", next[LABEL_BYTES] = "";
    struct error err = ERROR_INIT;
    struct store_user *users;
    size_t count;
    int limit, shown = 0;
    bool has_cursor;
    cJSON *data, *items;

    if (request_query(request, "cursor", cursor, sizeof(cursor), &has_cursor, &err) < 0 ||
        request_page_limit(request, &limit, &err) < 0 ||
        store_user_list(request->gateway->store, &users, &count, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    data = cJSON_CreateObject();
    cJSON_AddTrueToObject(data, "success");
    items = cJSON_AddArrayToObject(data, "items");
    /* in the order of the list, which begins anew behind the name that ended the page before */
    for (size_t i = 0; i < count && next[0] == '\0'; i++) {
        if (has_cursor) {
            has_cursor = strcmp(users[i].username, cursor) != 0;
        } else if (shown++ < limit) {
            cJSON_AddItemToArray(items, user_json(&users[i]));
        } else {
            str_copy(next, sizeof(next), users[i - 1].username);
        }
    }
    json_add_string_or_null(data, "next_cursor", next);
    sodium_memzero(users, count * sizeof(*users));
    free(users);
    respond_data(request, 200, data);
}

static int read_password(const struct request *request, const char **ret, struct error *err)
{
    return json_get_string(request->body, "password", PASSWORD_MAX_BYTES, NULL, ret, err);
}

void handle_user_create(struct request *request)
{
    struct store_user user = {.disabled = false};
    struct error err = ERROR_INIT;
    const char *username, *password, *role;

    if (json_get_string_req(request->body, "username", 1, LABEL_BYTES - 1, &username, &err) < 0 ||
        json_get_string_req(request->body, "password", 1, PASSWORD_MAX_BYTES, &password, &err) <
            0 ||
        json_get_string(request->body, "role", ROLE_BYTES - 1, "user", &role, &err) < 0 ||
        user_name_check(username, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    request_set_audit_target(request, username);
    str_copy(user.username, sizeof(user.username), username);
    str_copy(user.role, sizeof(user.role), role);
    id_uuid(user.id);
    if (strcmp(role, "user") != 0 && strcmp(role, "admin") != 0) {
        error_set(&err, ERR_INVALID, "role must be user or admin");
    } else if (password_hash(password, user.password_hash, &err) == 0 &&
               store_user_add(request->gateway->store, &user, &err) == 0) {
        respond_user(request, user.username);
        return;
    }
    respond_error(request, &err, 0);
}

/* `username` of the body; the user exists. */
static int find_user(struct request *request, struct store_user *ret, struct error *err)
{
    const char *username;

    if (json_get_string_req(request->body, "username", 1, LABEL_BYTES - 1, &username, err) < 0) {
        return -1;
    }
    request_set_audit_target(request, username);
    return store_user_find(request->gateway->store, username, ret, err);
}

void handle_user_change(struct request *request)
{
    struct store *store = request->gateway->store;
    const cJSON *disabled = cJSON_GetObjectItemCaseSensitive(request->body, "disabled");
    char hash[PASSWORD_HASH_BYTES];
    struct error err = ERROR_INIT;
    struct store_user user;
    const char *password = NULL;
    bool off = false;

    if (json_get_bool(request->body, "disabled", false, &off, &err) < 0 ||
        read_password(request, &password, &err) < 0 || find_user(request, &user, &err) < 0 ||
        (password != NULL && (password_hash(password, hash, &err) < 0 ||
                              store_user_set_password(store, user.username, hash, &err) < 0)) ||
        (disabled != NULL && store_user_set_disabled(store, user.username, off, &err) < 0)) {
        respond_error(request, &err, 0);
        return;
    }
    sodium_memzero(user.password_hash, sizeof(user.password_hash));
    respond_user(request, user.username);
}

void handle_user_limits(struct request *request)
{
    struct store *store = request->gateway->store;
    const cJSON *limits = cJSON_GetObjectItemCaseSensitive(request->body, "limits"), *item;
    int64_t values[USER_LIMIT_COUNT];
    struct error err = ERROR_INIT;
    struct store_user user;
    enum user_limit limit;
    cJSON *data, *told;

    if (!cJSON_IsObject(limits)) {
        error_set(&err, ERR_INVALID, "limits must be an object of limits");
        respond_error(request, &err, 0);
        return;
    }
    cJSON_ArrayForEach(item, limits)
    {
        if (user_limit_parse(item->string, &limit) != 0 ||
            !(cJSON_IsNull(item) ||
              (cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble <= 1e9 &&
               item->valuedouble == (double)(int64_t)item->valuedouble))) {
            error_set(
                &err, ERR_INVALID,
                "limits must name limits, each a whole number from 0 (none) or null (default)");
            respond_error(request, &err, 0);
            return;
        }
    }
    if (find_user(request, &user, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    sodium_memzero(user.password_hash, sizeof(user.password_hash));
    cJSON_ArrayForEach(item, limits)
    {
        if (user_limit_parse(item->string, &limit) == 0 &&
            store_limit_set(store, user.id, limit,
                            cJSON_IsNull(item) ? STORE_LIMIT_DEFAULT : (int64_t)item->valuedouble,
                            &err) < 0) {
            respond_error(request, &err, 0);
            return;
        }
    }
    if (store_limits_get(store, user.id, values, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    data = cJSON_CreateObject();
    cJSON_AddTrueToObject(data, "success");
    told = cJSON_AddObjectToObject(data, "limits");
    for (int i = 0; i < USER_LIMIT_COUNT; i++) {
        if (values[i] == STORE_LIMIT_DEFAULT) {
            cJSON_AddNullToObject(told, user_limit_name((enum user_limit)i));
        } else {
            json_add_int64(told, user_limit_name((enum user_limit)i), values[i]);
        }
    }
    respond_data(request, 200, data);
}
