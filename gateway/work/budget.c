/* budget - see budget.h. */
#include "gateway/work/budget.h"

#include "common/base/json.h"

enum {
    NAME_COST = 8, /* memory per byte of a name: once in the JSON tree, and escaped in the answer */
    NAME_MAX_BYTES = 255
};

int budget_take(struct budget *budget, struct budget_share *share, int64_t bytes, struct error *err)
{
    if (share->user_bytes != NULL &&
        atomic_fetch_add(share->user_bytes, bytes) + bytes > share->user_max_bytes) {
        int64_t used = atomic_fetch_sub(share->user_bytes, bytes) - bytes;

        error_set(err, ERR_QUOTA, "buffer_bytes: one user's requests may take %lld at once",
                  (long long)share->user_max_bytes);
        err->limit = share->user_max_bytes;
        err->used = used;
        err->retry_after_s = 1;
        return -1;
    }
    if (atomic_fetch_add(&budget->used_bytes, bytes) + bytes > budget->max_bytes) {
        atomic_fetch_sub(&budget->used_bytes, bytes);
        if (share->user_bytes != NULL) {
            atomic_fetch_sub(share->user_bytes, bytes);
        }
        return error_set(err, ERR_OVERLOADED,
                         "the requests being served take all the memory there is for them");
    }
    share->bytes += bytes;
    return 0;
}

void budget_give(struct budget *budget, struct budget_share *share, int64_t bytes)
{
    atomic_fetch_sub(&budget->used_bytes, bytes);
    if (share->user_bytes != NULL) {
        atomic_fetch_sub(share->user_bytes, bytes);
    }
    share->bytes -= bytes;
}

int64_t budget_json_bytes(int64_t length)
{
    /* the shortest value of an array is a digit and a comma */
    int64_t values = length / 2 < JSON_MAX_VALUES ? length / 2 : JSON_MAX_VALUES;

    return 2 * length + values * JSON_VALUE_BYTES;
}

int64_t budget_entry_bytes(int64_t name_length)
{
    enum { VALUES = 4, TEXT_BYTES = 128 };

    return VALUES * JSON_VALUE_BYTES + TEXT_BYTES + NAME_COST * name_length;
}

int64_t budget_listing_bytes(int64_t entries, int64_t length)
{
    int64_t names = entries * NAME_MAX_BYTES < length ? entries * NAME_MAX_BYTES : length;

    return budget_json_bytes(length) + entries * budget_entry_bytes(0) + NAME_COST * names;
}
