/* store_e2b - see store_e2b.h. */
#include "common/store/store_e2b.h"

#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/store/store_internal.h"

/* The five parameters of E2B_MATCHES. */
static void param_filter(struct params *p, const struct store_e2b_filter *filter,
                         const char *statuses)
{
    param_text(p, filter->owner);
    param_text(p, statuses);
    param_text(p, filter->metadata_json);
    param_text(p, filter->templates_json);
    param_int(p, filter->started_since_ms);
}

static const char *statuses_of(const struct store_e2b_filter *filter)
{
    if (filter->running && filter->paused) {
        return "{running,pausing,paused,resuming}";
    }
    return filter->running ? "{running}" : filter->paused ? "{pausing,paused,resuming}" : "{}";
}

int store_e2b_list(struct store *store, const struct store_e2b_filter *filter, struct sandbox **ret,
                   size_t *ret_count, int64_t *ret_next_us, struct error *err)
{
    struct params p = {.count = 0};

    param_filter(&p, filter, statuses_of(filter));
    param_int(&p, filter->after_created_us);
    param_text(&p, filter->after_id);
    param_int(&p, filter->limit + 1); /* one more tells whether there is more */
    return select_page(store, filter->oldest_first ? Q_E2B_LIST_OLDEST : Q_E2B_LIST_NEWEST, &p,
                       filter->limit, &sandbox_rows, ret, ret_count, ret_next_us, err);
}

int store_e2b_count_running(struct store *store, const struct store_e2b_filter *filter,
                            int64_t *ret, struct error *err)
{
    struct params p = {.count = 0};
    PGresult *result;

    param_filter(&p, filter, "{running}");
    if (store_query(store, Q_E2B_COUNT, &p, &result, err) < 0) {
        return -1;
    }
    *ret = row_int(result, 0, 0);
    PQclear(result);
    return 0;
}

int store_newest_ids(struct store *store, int max, char (*ret)[UUID_BYTES], size_t *ret_count,
                     struct error *err)
{
    struct params p = {.count = 0};
    PGresult *result;

    param_int(&p, max);
    if (store_query(store, Q_NEWEST_IDS, &p, &result, err) < 0) {
        return -1;
    }
    *ret_count = (size_t)PQntuples(result);
    for (size_t i = 0; i < *ret_count; i++) {
        row_text(result, (int)i, 0, ret[i], UUID_BYTES);
    }
    PQclear(result);
    return 0;
}

int store_sandbox_token_key(struct store *store, char ret[STORE_TOKEN_KEY_BYTES], struct error *err)
{
    struct params none = {.count = 0};
    PGresult *result;

    if (store_query(store, Q_TOKEN_KEY, &none, &result, err) < 0) {
        return -1;
    }
    if (PQntuples(result) != 1) {
        PQclear(result);
        return error_set(err, ERR_CONFIG, "database: no deployment row; run the migrations");
    }
    row_text(result, 0, 0, ret, STORE_TOKEN_KEY_BYTES);
    PQclear(result);
    return 0;
}
