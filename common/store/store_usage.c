/* store_usage - see store_usage.h. */
#include "common/store/store_usage.h"

#include "common/base/alloc.h"
#include "common/store/store_internal.h"

static void read_usage(const PGresult *result, int row, void *arg)
{
    struct store_usage *ret = arg;

    row_text(result, row, 0, ret->day, sizeof(ret->day));
    row_text(result, row, 1, ret->provider, sizeof(ret->provider));
    row_text(result, row, 2, ret->template_id, sizeof(ret->template_id));
    row_text(result, row, 3, ret->label, sizeof(ret->label));
    row_text(result, row, 4, ret->owner, sizeof(ret->owner));
    ret->running_ms = row_int(result, row, 5);
    ret->paused_ms = row_int(result, row, 6);
    row_text(result, row, 7, ret->cost, sizeof(ret->cost));
}

static const struct row_type usage_rows = {sizeof(struct store_usage), read_usage};

int store_usage(struct store *store, const struct store_usage_ask *ask, struct store_usage **ret,
                size_t *ret_count, struct error *err)
{
    struct params p = {.count = 0};

    param_text(&p, ask->owner);
    param_text(&p, ask->from);
    param_text(&p, ask->to);
    param_int(&p, ask->groups);
    param_text(&p, ask->prices_json);
    param_int(&p, ask->limit);
    return select_rows(store, ask->owner != NULL ? Q_USAGE_OF_OWNER : Q_USAGE_OF_ALL, &p,
                       &usage_rows, ret, ret_count, err);
}
