/* store_api_keys - see store_api_keys.h. */
#include "common/store/store_api_keys.h"

#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/store/store_internal.h"

/* The columns API_KEY_COLUMNS of queries.def; gives the one behind them. */
static int row_api_key(const PGresult *result, int row, struct store_api_key *ret)
{
    *ret = (struct store_api_key){.created_at_ms = row_int(result, row, 6),
                                  .expires_at_ms = row_int(result, row, 7),
                                  .last_used_at_ms = row_int(result, row, 8)};
    row_text(result, row, 0, ret->id, sizeof(ret->id));
    row_text(result, row, 1, ret->owner, sizeof(ret->owner));
    row_text(result, row, 2, ret->username, sizeof(ret->username));
    row_text(result, row, 3, ret->name, sizeof(ret->name));
    row_text(result, row, 4, ret->prefix, sizeof(ret->prefix));
    row_text(result, row, 5, ret->scopes, sizeof(ret->scopes));
    return 9;
}

static void read_key(const PGresult *result, int row, void *ret)
{
    (void)row_api_key(result, row, ret);
}

static const struct row_type key_rows = {sizeof(struct store_api_key), read_key};

static void param_key(struct params *p, const struct store_api_key *key)
{
    param_text(p, key->id);
    param_text(p, key->owner);
    param_text(p, key->username);
    param_text(p, key->name);
    param_text(p, key->prefix);
    param_text(p, key->hash);
    param_text(p, key->scopes);
    param_int(p, key->expires_at_ms);
}

static int no_such_key(struct error *err)
{
    return error_set(err, ERR_NOT_FOUND, "no such key");
}

/* Runs a statement that returns a row if it found its key. */
static int change_key(struct store *store, enum query query, const struct params *p,
                      struct error *err)
{
    bool found;

    if (select_row(store, query, p, NULL, NULL, &found, err) < 0) {
        return -1;
    }
    return found ? 0 : no_such_key(err);
}

int store_api_key_add(struct store *store, const struct store_api_key *key, int max,
                      struct error *err)
{
    struct params p = {.count = 0};

    param_key(&p, key);
    param_int(&p, max);
    if (change_key(store, Q_API_KEY_ADD, &p, err) < 0) {
        if (err->code == ERR_NOT_FOUND) {
            error_set(err, ERR_QUOTA, "max_keys: the limit is %d, and as many are used", max);
            err->limit = err->used = max;
        }
        return -1;
    }
    return 0;
}

int store_api_keys_list(struct store *store, const char *owner, const char *after_id, int limit,
                        struct store_api_key **ret, size_t *ret_count, struct error *err)
{
    struct params p = {.count = 0};

    param_text(&p, owner);
    param_text(&p, after_id);
    param_int(&p, limit);
    return select_rows(store, Q_API_KEYS_LIST, &p, &key_rows, ret, ret_count, err);
}

int store_api_key_get(struct store *store, const char *id, const char *owner,
                      struct store_api_key *ret, struct error *err)
{
    struct params p = {.count = 0};
    bool found;

    param_text(&p, id);
    param_text(&p, owner);
    if (select_row(store, Q_API_KEY_GET, &p, &key_rows, ret, &found, err) < 0) {
        return -1;
    }
    return found ? 0 : no_such_key(err);
}

int store_api_key_revoke(struct store *store, const char *id, const char *owner, struct error *err)
{
    struct params p = {.count = 0};

    param_text(&p, id);
    param_text(&p, owner);
    return change_key(store, Q_API_KEY_REVOKE, &p, err);
}

int store_api_key_rotate(struct store *store, const char *id,
                         const struct store_api_key *replacement, int64_t overlap_ms,
                         struct error *err)
{
    struct params p = {.count = 0};

    param_key(&p, replacement);
    param_text(&p, id);
    param_int(&p, overlap_ms);
    return change_key(store, Q_API_KEY_ROTATE, &p, err);
}

static void read_holder(const PGresult *result, int row, void *arg)
{
    struct store_api_key_holder *ret = arg;
    int column = row_api_key(result, row, &ret->key);

    ret->is_user = row_int(result, row, column) != 0;
    ret->admin = row_int(result, row, column + 1) != 0;
    ret->disabled = row_int(result, row, column + 2) != 0;
    ret->token_generation = row_int(result, row, column + 3);
}

static const struct row_type holder_rows = {sizeof(struct store_api_key_holder), read_holder};

int store_api_key_find(struct store *store, const char *hash, struct store_api_key_holder *ret,
                       struct error *err)
{
    struct params p = {.count = 0};
    bool found;

    param_text(&p, hash);
    if (select_row(store, Q_API_KEY_FIND, &p, &holder_rows, ret, &found, err) < 0) {
        return -1;
    }
    return found ? 0 : no_such_key(err);
}

int store_api_keys_used(struct store *store, const char *const *ids, size_t count,
                        struct error *err)
{
    struct params p = {.count = 0};
    char *array = param_id_array(ids, count);
    int status;

    param_text(&p, array);
    status = store_execute(store, Q_API_KEYS_USED, &p, err);
    free(array);
    return status;
}
