/* store_audit - see store_audit.h. */
#include "common/store/store_audit.h"

#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/json.h"
#include "common/store/store_internal.h"

enum { BATCH_MAX_BYTES = 16 << 20 };

static cJSON *record_json(const struct store_audit *record)
{
    cJSON *tree = cJSON_CreateObject();

    json_add_int64(tree, "at_ms", record->at_ms);
    cJSON_AddStringToObject(tree, "actor", record->actor);
    cJSON_AddStringToObject(tree, "actor_name", record->actor_name);
    cJSON_AddStringToObject(tree, "key_id", record->key_id);
    cJSON_AddStringToObject(tree, "address", record->address);
    cJSON_AddStringToObject(tree, "action", record->action);
    cJSON_AddStringToObject(tree, "target", record->target);
    cJSON_AddNumberToObject(tree, "status", record->status);
    cJSON_AddStringToObject(tree, "error", record->error);
    cJSON_AddStringToObject(tree, "request_id", record->request_id);
    cJSON_AddStringToObject(tree, "detail", record->detail);
    return tree;
}

int store_audit_add(struct store *store, const struct store_audit *const *records, size_t count,
                    struct error *err)
{
    struct params p = {.count = 0};
    cJSON *list = cJSON_CreateArray();
    struct strbuf text;
    int status;

    for (size_t i = 0; i < count; i++) {
        cJSON_AddItemToArray(list, record_json(records[i]));
    }
    strbuf_init(&text, BATCH_MAX_BYTES);
    json_print(list, &text);
    cJSON_Delete(list);
    param_text(&p, text.data);
    status = store_execute(store, Q_AUDIT_ADD, &p, err);
    strbuf_done(&text);
    return status;
}

static void read_audit(const PGresult *result, int row, void *arg)
{
    struct store_audit *ret = arg;

    *ret = (struct store_audit){.id = row_int(result, row, 0),
                                .at_ms = row_int(result, row, 1),
                                .status = (int)row_int(result, row, 8)};
    row_text(result, row, 2, ret->actor, sizeof(ret->actor));
    row_text(result, row, 3, ret->actor_name, sizeof(ret->actor_name));
    row_text(result, row, 4, ret->key_id, sizeof(ret->key_id));
    row_text(result, row, 5, ret->address, sizeof(ret->address));
    row_text(result, row, 6, ret->action, sizeof(ret->action));
    row_text(result, row, 7, ret->target, sizeof(ret->target));
    row_text(result, row, 9, ret->error, sizeof(ret->error));
    row_text(result, row, 10, ret->request_id, sizeof(ret->request_id));
    row_text(result, row, 11, ret->detail, sizeof(ret->detail));
}

static const struct row_type audit_rows = {sizeof(struct store_audit), read_audit};

int store_audit_list(struct store *store, const struct store_audit_filter *filter,
                     struct store_audit **ret, size_t *ret_count, struct error *err)
{
    struct params p = {.count = 0};

    param_text(&p, filter->actor);
    param_text(&p, filter->target);
    param_text(&p, filter->action);
    param_int(&p, filter->before_id > 0 ? filter->before_id : INT64_MAX);
    param_int(&p, filter->limit);
    return select_rows(store, Q_AUDIT_LIST, &p, &audit_rows, ret, ret_count, err);
}

int store_audit_prune(struct store *store, int64_t older_than_days, int limit, struct error *err)
{
    struct params p = {.count = 0};

    param_int(&p, older_than_days);
    param_int(&p, limit);
    return store_execute(store, Q_AUDIT_PRUNE, &p, err);
}
