/* store_accept - what the gateway asks: accepting work, reading sandboxes and jobs, see store.h. */
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/store/store_internal.h"

static int sandbox_not_found(struct error *err)
{
    return error_set(err, ERR_SANDBOX_NOT_FOUND, "no such sandbox");
}

/* Adds the six parameters that every new job has. */
static void param_job(struct params *p, const struct store_accept *accept)
{
    param_text(p, accept->params_json != NULL ? accept->params_json : "{}");
    param_int(p, accept->max_attempts);
    param_int(p, accept->deadline_ms);
    param_text(p, accept->reply_to);
    param_text(p, accept->request_id);
    param_text(p, accept->traceparent);
}

static void param_quota(struct params *p, const struct store_accept *accept, enum job_op op,
                        const char *owner, const char *sandbox_id)
{
    param_text(p, job_op_name(op));
    param_text(p, owner);
    param_int(p, accept->admin);
    param_text(p, sandbox_id);
    param_int(p, accept->quota.max_sandboxes);
    param_int(p, accept->quota.max_paused);
    param_int(p, accept->quota.creates_per_minute);
    param_text(p, accept->waiter);
}

int store_accept_create(struct store *store, const struct sandbox *sandbox,
                        const struct store_accept *accept, const char *job_id,
                        struct wakeup *ret_wakeup, struct error *err)
{
    struct params quota = {.count = 0}, p = {.count = 0}, bind = {.count = 0}, leave = {.count = 0};
    struct statement statements[4] = {{.query = Q_QUOTA_CHECK, .params = &quota},
                                      {.query = Q_ACCEPT_CREATE, .params = &p}};
    size_t count = 2;
    struct wakeup wakeup = {.op = JOB_CREATE};
    PGresult *created;

    param_quota(&quota, accept, JOB_CREATE, sandbox->owner, "");
    param_text(&p, sandbox->id);
    param_text(&p, sandbox->owner);
    param_text(&p, sandbox->user_id);
    param_text(&p, sandbox->provider);
    param_text(&p, sandbox->template_id);
    param_text(&p, sandbox->timeout_mode == TIMEOUT_ABSOLUTE ? "absolute" : "idle");
    param_text(&p, on_timeout_name(sandbox->on_timeout));
    param_int(&p, sandbox->timeout_ms);
    param_text(&p, sandbox->metadata_json);
    param_text(&p, job_id);
    param_job(&p, accept);
    param_text(&p, accept->key_id);
    param_int(&p, sandbox->paused_ttl_ms);
    param_int(&p, sandbox->max_life_ms);
    param_text(&bind, sandbox->owner);
    param_text(&bind, accept->key);
    param_text(&bind, accept->claim);
    param_text(&bind, job_id);
    param_text(&bind, sandbox->id);
    param_text(&leave, sandbox->owner);
    param_text(&leave, accept->waiter);
    if (accept->key != NULL) {
        statements[count++] = (struct statement){.query = Q_KEY_BIND, .params = &bind};
    }
    if (accept->waiter != NULL) {
        statements[count++] = (struct statement){.query = Q_CREATE_LINE_LEAVE, .params = &leave};
    }
    if (store_query_batch(store, statements, count, err) < 0) {
        return -1;
    }
    created = statements[1].result;
    wakeup.enqueued_at_ms = row_int(created, 0, 0);
    for (size_t i = 0; i < count; i++) {
        PQclear(statements[i].result);
    }
    str_copy(wakeup.job_id, sizeof(wakeup.job_id), job_id);
    str_copy(wakeup.sandbox_id, sizeof(wakeup.sandbox_id), sandbox->id);
    str_copy(wakeup.reply_to, sizeof(wakeup.reply_to), accept->reply_to ? accept->reply_to : "");
    str_copy(wakeup.request_id, sizeof(wakeup.request_id),
             accept->request_id ? accept->request_id : "");
    str_copy(wakeup.traceparent, sizeof(wakeup.traceparent),
             accept->traceparent ? accept->traceparent : "");
    *ret_wakeup = wakeup;
    return 0;
}

/* The ops that move a sandbox between what is counted ask for the quota in the same transaction. */
static int accept_job(struct store *store, const struct store_accept *accept,
                      const struct params *p, PGresult **ret, struct error *err)
{
    struct params quota = {.count = 0};
    struct statement statements[] = {{.query = Q_QUOTA_CHECK, .params = &quota},
                                     {.query = Q_ACCEPT_JOB, .params = p}};

    if (accept->op != JOB_RESUME && accept->op != JOB_PAUSE) {
        return store_query(store, Q_ACCEPT_JOB, p, ret, err);
    }
    param_quota(&quota, accept, accept->op, accept->owner, accept->sandbox_id);
    if (store_query_batch(store, statements, 2, err) < 0) {
        return -1;
    }
    PQclear(statements[0].result);
    *ret = statements[1].result;
    return 0;
}

int store_accept_job(struct store *store, const struct store_accept *accept, const char *job_id,
                     struct wakeup *ret_wakeup, bool *ret_joined, struct error *err)
{
    struct params p = {.count = 0};
    struct wakeup wakeup = {.op = accept->op};
    PGresult *result;

    param_text(&p, accept->sandbox_id);
    param_text(&p, accept->owner);
    param_int(&p, accept->admin);
    param_text(&p, job_id);
    param_text(&p, job_op_name(accept->op));
    param_text(&p, accept->origin);
    param_job(&p, accept);
    param_int(&p, accept->join);
    param_text(&p, accept->key);
    param_text(&p, accept->claim);
    param_text(&p, accept->key_id);
    if (accept_job(store, accept, &p, &result, err) < 0) {
        return -1;
    }
    if (PQntuples(result) == 0) {
        PQclear(result);
        return sandbox_not_found(err);
    }
    row_text(result, 0, 0, wakeup.job_id, sizeof(wakeup.job_id));
    *ret_joined = row_int(result, 0, 1) != 0;
    row_text(result, 0, 2, wakeup.reply_to, sizeof(wakeup.reply_to));
    row_text(result, 0, 3, wakeup.request_id, sizeof(wakeup.request_id));
    row_text(result, 0, 4, wakeup.traceparent, sizeof(wakeup.traceparent));
    wakeup.enqueued_at_ms = row_int(result, 0, 5);
    str_copy(wakeup.sandbox_id, sizeof(wakeup.sandbox_id), accept->sandbox_id);
    PQclear(result);
    *ret_wakeup = wakeup;
    return 0;
}

static enum query list_query(const struct store_list_filter *filter)
{
    bool own = filter->owner != NULL && filter->owner[0] != '\0';

    if (filter->status == (int)SANDBOX_DELETED) {
        return own ? Q_LIST_OWN_DELETED : Q_LIST_ALL_DELETED;
    }
    return own ? Q_LIST_OWN_LIVE : Q_LIST_ALL_LIVE;
}

int store_sandbox_list(struct store *store, const struct store_list_filter *filter,
                       struct sandbox **ret, size_t *ret_count, int64_t *ret_next_us,
                       struct error *err)
{
    struct params p = {.count = 0};

    param_text(&p, filter->owner);
    param_text(&p,
               filter->status < 0 ? "" : sandbox_status_name((enum sandbox_status)filter->status));
    param_text(&p, filter->user_id);
    param_int(&p, filter->before_created_us);
    param_text(&p, filter->before_id);
    param_int(&p, filter->limit + 1); /* one more tells whether there is more */
    return select_page(store, list_query(filter), &p, filter->limit, &sandbox_rows, ret, ret_count,
                       ret_next_us, err);
}

int store_sandbox_touch(struct store *store, const char *const *sandbox_ids, size_t count,
                        struct error *err)
{
    struct params p = {.count = 0};
    char *ids = param_id_array(sandbox_ids, count);
    int status;

    param_text(&p, ids);
    status = store_execute(store, Q_SANDBOX_TOUCH, &p, err);
    free(ids);
    return status;
}

int store_sandboxes_paused(struct store *store, const char *const *sandbox_ids, size_t count,
                           bool *ret_paused, struct error *err)
{
    struct params p = {.count = 0};
    char *ids = param_id_array(sandbox_ids, count);
    PGresult *result;
    int status;

    param_text(&p, ids);
    status = store_query(store, Q_SANDBOXES_PAUSED, &p, &result, err);
    free(ids);
    if (status < 0) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        ret_paused[i] = false;
        for (int row = 0; row < PQntuples(result); row++) {
            char id[UUID_BYTES];

            row_text(result, row, 0, id, sizeof(id));
            ret_paused[i] = ret_paused[i] || strcmp(id, sandbox_ids[i]) == 0;
        }
    }
    PQclear(result);
    return 0;
}

int store_jobs_poll(struct store *store, struct job *jobs, size_t count, struct error *err)
{
    struct params p = {.count = 0};
    const char **ids = xcalloc(count, sizeof(*ids));
    PGresult *result;
    char *array;
    int status;

    for (size_t i = 0; i < count; i++) {
        ids[i] = jobs[i].id;
    }
    array = param_id_array(ids, count);
    free(ids);
    param_text(&p, array);
    status = store_query(store, Q_JOBS_POLL, &p, &result, err);
    free(array);
    if (status < 0) {
        return -1;
    }
    for (int row = 0; row < PQntuples(result); row++) {
        const char *id = PQgetvalue(result, row, 0);

        for (size_t i = 0; i < count; i++) {
            if (strcmp(jobs[i].id, id) == 0) {
                job_done(&jobs[i]);
                row_job(result, row, 0, &jobs[i]);
            }
        }
    }
    PQclear(result);
    return 0;
}

int store_jobs_list(struct store *store, int state, int limit, struct job **ret, size_t *ret_count,
                    struct error *err)
{
    struct params p = {.count = 0};

    param_text(&p, state < 0 ? "" : job_state_name((enum job_state)state));
    param_int(&p, limit);
    return select_rows(store, Q_JOBS_LIST, &p, &job_rows, ret, ret_count, err);
}

int store_job_get(struct store *store, const char *job_id, struct job *ret, struct error *err)
{
    struct params p = {.count = 0};
    bool found;

    param_text(&p, job_id);
    if (select_row(store, Q_JOB_GET, &p, &job_rows, ret, &found, err) < 0) {
        return -1;
    }
    return found ? 0 : error_set(err, ERR_NOT_FOUND, "no job %.40s", job_id);
}

int store_job_redrive(struct store *store, const char *job_id, const char *new_job_id,
                      struct wakeup *ret_wakeup, struct error *err)
{
    struct params p = {.count = 0};
    bool found;

    param_text(&p, job_id);
    param_text(&p, new_job_id);
    if (select_row(store, Q_JOB_REDRIVE, &p, &wakeup_rows, ret_wakeup, &found, err) < 0) {
        return -1;
    }
    return found ? 0
                 : error_set(err, ERR_CONFLICT,
                             "job %.40s does not exist, or is neither dead nor failed, or its "
                             "sandbox is gone",
                             job_id);
}
