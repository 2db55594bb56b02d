/* store_usage - see store_usage.h. */
#include "common/store/store_usage.h"

#include "common/base/alloc.h"
#include "common/store/store_internal.h"

int store_usage(struct store *store, const struct store_usage_ask *ask, struct store_usage **ret,
                size_t *ret_count, struct error *err)
{
    struct params p = {.count = 0};
    PGresult *result;

    param_text(&p, ask->owner);
    param_text(&p, ask->from);
    param_text(&p, ask->to);
    param_int(&p, ask->groups);
    param_text(&p, ask->prices_json);
    param_int(&p, ask->limit);
    if (store_query(store, ask->owner != NULL ? Q_USAGE_OF_OWNER : Q_USAGE_OF_ALL, &p, &result,
                    err) < 0) {
        return -1;
    }
    *ret_count = (size_t)PQntuples(result);
    *ret = xcalloc(*ret_count, sizeof(**ret));
    for (size_t i = 0; i < *ret_count; i++) {
        struct store_usage *row = &(*ret)[i];

        row_text(result, (int)i, 0, row->day, sizeof(row->day));
        row_text(result, (int)i, 1, row->provider, sizeof(row->provider));
        row_text(result, (int)i, 2, row->template_id, sizeof(row->template_id));
        row_text(result, (int)i, 3, row->label, sizeof(row->label));
        row_text(result, (int)i, 4, row->owner, sizeof(row->owner));
        row->running_ms = row_int(result, (int)i, 5);
        row->paused_ms = row_int(result, (int)i, 6);
        row_text(result, (int)i, 7, row->cost, sizeof(row->cost));
    }
    PQclear(result);
    return 0;
}
