/* store_select - a statement whose rows become an array, a page or one struct, see
 * store_internal.h. */
#include <string.h>

#include "common/base/alloc.h"
#include "common/store/store_internal.h"

/* Reads the first `count` rows; `ret` is a `struct x **`. */
static void take_rows(const PGresult *result, size_t count, const struct row_type *type, void *ret)
{
    char *rows = xcalloc(count + 1, type->bytes);

    for (size_t i = 0; i < count; i++) {
        type->read(result, (int)i, rows + i * type->bytes);
    }
    memcpy(ret, &rows, sizeof(rows));
}

int select_rows(struct store *store, enum query query, const struct params *p,
                const struct row_type *type, void *ret, size_t *ret_count, struct error *err)
{
    PGresult *result;

    if (store_query(store, query, p, &result, err) < 0) {
        return -1;
    }
    *ret_count = (size_t)PQntuples(result);
    take_rows(result, *ret_count, type, ret);
    PQclear(result);
    return 0;
}

int select_page(struct store *store, enum query query, const struct params *p, int limit,
                const struct row_type *type, void *ret, size_t *ret_count, int64_t *ret_next_us,
                struct error *err)
{
    PGresult *result;
    size_t count;

    if (store_query(store, query, p, &result, err) < 0) {
        return -1;
    }
    count = (size_t)PQntuples(result);
    *ret_next_us = 0;
    if (count > (size_t)limit) {
        count = (size_t)limit;
        *ret_next_us = row_int(result, limit - 1, PQnfields(result) - 1);
    }
    take_rows(result, count, type, ret);
    *ret_count = count;
    PQclear(result);
    return 0;
}

int select_row(struct store *store, enum query query, const struct params *p,
               const struct row_type *type, void *ret, bool *ret_found, struct error *err)
{
    PGresult *result;

    if (store_query(store, query, p, &result, err) < 0) {
        return -1;
    }
    *ret_found = PQntuples(result) > 0;
    if (*ret_found && type != NULL) {
        type->read(result, 0, ret);
    }
    PQclear(result);
    return 0;
}
