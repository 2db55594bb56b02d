/* store_users - users and revoked tokens, see store.h. */
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/store/store_internal.h"

static void read_user(const PGresult *result, int row, void *arg)
{
    struct store_user *ret = arg;

    *ret = (struct store_user){0};
    row_text(result, row, 0, ret->id, sizeof(ret->id));
    row_text(result, row, 1, ret->username, sizeof(ret->username));
    row_text(result, row, 2, ret->role, sizeof(ret->role));
    row_text(result, row, 3, ret->password_hash, sizeof(ret->password_hash));
    ret->disabled = row_int(result, row, 4) != 0;
    ret->created_at_ms = row_int(result, row, 5);
    ret->token_generation = row_int(result, row, 6);
}

static const struct row_type user_rows = {sizeof(struct store_user), read_user};

static int no_such_user(const char *username, struct error *err)
{
    return error_set(err, ERR_NOT_FOUND, "no user '%.64s'", username);
}

int store_user_add(struct store *store, const struct store_user *user, struct error *err)
{
    struct params p = {.count = 0};

    param_text(&p, user->id);
    param_text(&p, user->username);
    param_text(&p, user->role);
    param_text(&p, user->password_hash);
    if (store_execute(store, Q_USER_ADD, &p, err) < 0) {
        return err->code == ERR_EXISTS
                   ? error_set(err, ERR_EXISTS, "a user '%.64s' exists already", user->username)
                   : -1;
    }
    return 0;
}

int store_user_find(struct store *store, const char *username, struct store_user *ret,
                    struct error *err)
{
    struct params p = {.count = 0};
    bool found;

    param_text(&p, username);
    if (select_row(store, Q_USER_FIND, &p, &user_rows, ret, &found, err) < 0) {
        return -1;
    }
    return found ? 0 : no_such_user(username, err);
}

int store_user_find_login(struct store *store, const char *username, const char *address,
                          struct store_user *ret, bool *ret_known_address, struct error *err)
{
    struct params p = {.count = 0};
    PGresult *result;

    param_text(&p, username);
    param_text(&p, address);
    if (store_query(store, Q_USER_LOGIN, &p, &result, err) < 0) {
        return -1;
    }
    if (PQntuples(result) == 0) {
        PQclear(result);
        return no_such_user(username, err);
    }
    read_user(result, 0, ret);
    *ret_known_address = row_int(result, 0, PQnfields(result) - 1) != 0;
    PQclear(result);
    return 0;
}

int store_login_address(struct store *store, const char *user_id, const char *address,
                        struct error *err)
{
    struct params p = {.count = 0};

    param_text(&p, user_id);
    param_text(&p, address);
    return store_execute(store, Q_LOGIN_ADDRESS, &p, err);
}

/* Runs an update that returns a row for each user it met. */
static int change_user(struct store *store, enum query query, const struct params *p,
                       const char *username, struct error *err)
{
    bool found;

    if (select_row(store, query, p, NULL, NULL, &found, err) < 0) {
        return -1;
    }
    return found ? 0 : no_such_user(username, err);
}

int store_user_set_password(struct store *store, const char *username, const char *hash,
                            struct error *err)
{
    struct params p = {.count = 0};

    param_text(&p, username);
    param_text(&p, hash);
    return change_user(store, Q_USER_SET_PASSWORD, &p, username, err);
}

int store_user_set_disabled(struct store *store, const char *username, bool disabled,
                            struct error *err)
{
    struct params p = {.count = 0};

    param_text(&p, username);
    param_int(&p, disabled);
    return change_user(store, Q_USER_SET_DISABLED, &p, username, err);
}

int store_user_list(struct store *store, struct store_user **ret, size_t *ret_count,
                    struct error *err)
{
    struct params p = {.count = 0};

    return select_rows(store, Q_USER_LIST, &p, &user_rows, ret, ret_count, err);
}

int store_token_revoke(struct store *store, const char *jti, int64_t expires_at_ms,
                       struct error *err)
{
    struct params p = {.count = 0};

    param_text(&p, jti);
    param_int(&p, expires_at_ms);
    return store_execute(store, Q_TOKEN_REVOKE, &p, err);
}

int store_tokens_revoked(struct store *store, int64_t after,
                         void (*each)(void *arg, const char *jti, int64_t expires_at_ms), void *arg,
                         int64_t *ret_last, struct error *err)
{
    struct params p = {.count = 0};
    PGresult *result;

    param_int(&p, after);
    if (store_query(store, Q_TOKENS_REVOKED, &p, &result, err) < 0) {
        return -1;
    }
    *ret_last = after;
    for (int i = 0; i < PQntuples(result); i++) {
        each(arg, PQgetvalue(result, i, 1), row_int(result, i, 2));
        *ret_last = row_int(result, i, 0);
    }
    PQclear(result);
    return 0;
}

int store_users_changed(struct store *store, int64_t after,
                        void (*each)(void *arg, const struct store_user_change *change), void *arg,
                        int64_t *ret_last, struct error *err)
{
    struct params p = {.count = 0};
    PGresult *result;

    param_int(&p, after);
    if (store_query(store, Q_USERS_CHANGED, &p, &result, err) < 0) {
        return -1;
    }
    *ret_last = after;
    for (int i = 0; i < PQntuples(result); i++) {
        struct store_user_change change = {.generation = row_int(result, i, 2),
                                           .not_before_ms = row_int(result, i, 3),
                                           .disabled = row_int(result, i, 4) != 0};

        row_text(result, i, 1, change.id, sizeof(change.id));
        each(arg, &change);
        *ret_last = row_int(result, i, 0);
    }
    PQclear(result);
    return 0;
}
