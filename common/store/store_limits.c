/* store_limits - see store_limits.h. */
#include "common/store/store_limits.h"

#include "common/base/alloc.h"
#include "common/store/store_internal.h"

int store_limits_get(struct store *store, const char *owner, int64_t ret[USER_LIMIT_COUNT],
                     struct error *err)
{
    struct params p = {.count = 0};
    PGresult *result;

    param_text(&p, owner);
    if (store_query(store, Q_LIMITS_GET, &p, &result, err) < 0) {
        return -1;
    }
    for (int i = 0; i < USER_LIMIT_COUNT; i++) {
        ret[i] = STORE_LIMIT_DEFAULT;
    }
    for (int row = 0; row < PQntuples(result); row++) {
        enum user_limit limit;

        /* a newer release may have limits that this one does not know */
        if (user_limit_parse(PQgetvalue(result, row, 0), &limit) == 0) {
            ret[limit] = row_int(result, row, 1);
        }
    }
    PQclear(result);
    return 0;
}

int store_limit_set(struct store *store, const char *owner, enum user_limit limit, int64_t value,
                    struct error *err)
{
    struct params p = {.count = 0};

    param_text(&p, owner);
    param_text(&p, user_limit_name(limit));
    if (value == STORE_LIMIT_DEFAULT) {
        return store_execute(store, Q_LIMIT_REMOVE, &p, err);
    }
    param_int(&p, value);
    return store_execute(store, Q_LIMIT_SET, &p, err);
}

static void read_owner_limit(const PGresult *result, int row, void *arg)
{
    struct store_owner_limit *ret = arg;

    row_text(result, row, 0, ret->owner, sizeof(ret->owner));
    ret->value = row_int(result, row, 1);
}

static const struct row_type owner_limit_rows = {sizeof(struct store_owner_limit),
                                                 read_owner_limit};

int store_limit_owners(struct store *store, enum user_limit limit, struct store_owner_limit **ret,
                       size_t *ret_count, struct error *err)
{
    struct params p = {.count = 0};

    param_text(&p, user_limit_name(limit));
    return select_rows(store, Q_LIMIT_OWNERS, &p, &owner_limit_rows, ret, ret_count, err);
}

int store_use_get(struct store *store, const char *owner, struct store_use *ret, struct error *err)
{
    struct params p = {.count = 0};
    PGresult *result;

    param_text(&p, owner);
    if (store_query(store, Q_USE_GET, &p, &result, err) < 0) {
        return -1;
    }
    ret->alive = row_int(result, 0, 0);
    ret->paused = row_int(result, 0, 1);
    ret->created_within_minute = row_int(result, 0, 2);
    PQclear(result);
    return 0;
}

static int change_line(struct store *store, enum query query, const char *owner, const char *waiter,
                       struct error *err)
{
    struct params p = {.count = 0};

    param_text(&p, owner);
    param_text(&p, waiter);
    return store_execute(store, query, &p, err);
}

int store_create_line_wait(struct store *store, const char *owner, const char *waiter,
                           struct error *err)
{
    return change_line(store, Q_CREATE_LINE_WAIT, owner, waiter, err);
}

int store_create_line_keep(struct store *store, const char *owner, const char *waiter,
                           struct error *err)
{
    return change_line(store, Q_CREATE_LINE_KEEP, owner, waiter, err);
}

int store_create_line_leave(struct store *store, const char *owner, const char *waiter,
                            struct error *err)
{
    return change_line(store, Q_CREATE_LINE_LEAVE, owner, waiter, err);
}
