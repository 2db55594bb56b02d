/* store_jobs - what the worker asks: claim, finish, due, see store.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/strbuf.h"
#include "common/domain/lifecycle.h"
#include "common/store/store_internal.h"

enum { TRANSITIONS_MAX_BYTES = 4096, FINISH_BATCH = 128 };

/* The START transitions that change a status, as three parallel arrays: the lifecycle table stays
 * the only list. */
struct transitions {
    struct strbuf ops, from, to;
};

static void transitions_init(struct transitions *t)
{
    strbuf_init(&t->ops, TRANSITIONS_MAX_BYTES);
    strbuf_init(&t->from, TRANSITIONS_MAX_BYTES);
    strbuf_init(&t->to, TRANSITIONS_MAX_BYTES);
    for (int status = 0; status < SANDBOX_STATUS_COUNT; status++) {
        for (int op = 0; op < JOB_OP_COUNT; op++) {
            struct lifecycle_step step = lifecycle_next(
                (enum sandbox_status)status, (enum lifecycle_event)((int)LIFECYCLE_START + op));
            const char *separator = t->ops.length > 0 ? "," : "{";

            if (step.effect != LIFECYCLE_CALL || (int)step.next == status) {
                continue;
            }
            strbuf_printf(&t->ops, "%s%s", separator, job_op_name((enum job_op)op));
            strbuf_printf(&t->from, "%s%s", separator,
                          sandbox_status_name((enum sandbox_status)status));
            strbuf_printf(&t->to, "%s%s", separator, sandbox_status_name(step.next));
        }
    }
    strbuf_putc(&t->ops, '}');
    strbuf_putc(&t->from, '}');
    strbuf_putc(&t->to, '}');
}

static void transitions_done(struct transitions *t)
{
    strbuf_done(&t->ops);
    strbuf_done(&t->from);
    strbuf_done(&t->to);
}

int store_jobs_claim(struct store *store, const char *const *job_ids, size_t count,
                     const char *lease_owner, int64_t lease_ms, struct store_claimed **ret,
                     size_t *ret_count, struct error *err)
{
    struct params p = {.count = 0};
    struct transitions transitions;
    char *ids = param_id_array(job_ids, count);
    PGresult *result;
    int status;

    transitions_init(&transitions);
    param_text(&p, ids);
    param_text(&p, lease_owner);
    param_int(&p, lease_ms);
    param_text(&p, transitions.ops.data);
    param_text(&p, transitions.from.data);
    param_text(&p, transitions.to.data);
    status = store_query(store, Q_JOBS_CLAIM, &p, &result, err);
    free(ids);
    transitions_done(&transitions);
    if (status < 0) {
        return -1;
    }
    *ret_count = (size_t)PQntuples(result);
    *ret = xcalloc(*ret_count, sizeof(**ret));
    for (size_t i = 0; i < *ret_count; i++) {
        struct store_claimed *claimed = &(*ret)[i];
        int row = (int)i;
        int column = row_job(result, row, 0, &claimed->job);

        (void)sandbox_status_parse(PQgetvalue(result, row, column++), &claimed->status_before);
        claimed->deadline_moved = row_int(result, row, column++) != 0;
        claimed->took_over = row_int(result, row, column++) != 0;
        claimed->create_maybe_sent = row_int(result, row, column++) != 0;
        row_sandbox(result, row, column, &claimed->sandbox);
    }
    PQclear(result);
    return 0;
}

void store_claimed_free(struct store_claimed *claimed, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        job_done(&claimed[i].job);
        sandbox_done(&claimed[i].sandbox);
    }
    free(claimed);
}

int store_jobs_due(struct store *store, int limit, char (**ret_ids)[UUID_BYTES], size_t *ret_count,
                   struct error *err)
{
    struct params p = {.count = 0};
    PGresult *result;

    param_int(&p, limit);
    if (store_query(store, Q_JOBS_DUE, &p, &result, err) < 0) {
        return -1;
    }
    *ret_count = (size_t)PQntuples(result);
    *ret_ids = xcalloc(*ret_count, sizeof(**ret_ids));
    for (size_t i = 0; i < *ret_count; i++) {
        row_text(result, (int)i, 0, (*ret_ids)[i], UUID_BYTES);
    }
    PQclear(result);
    return 0;
}

static void finish_params(const struct store_finish *item, const char *actor, struct params *p)
{
    const struct sandbox *values = &item->values;
    bool change = item->change_status && item->sandbox_id[0] != '\0';
    enum job_state state = item->release ? JOB_STATE_RETRY_WAIT : item->state;

    p->count = 0;
    param_text(p, item->job_id);
    param_int(p, item->lease_token);
    param_text(p, job_state_name(state));
    param_int(p, item->release ? 0 : item->delay_ms);
    param_int(p, item->release || item->refund_attempt);
    param_text(p, outcome_name(item->outcome));
    param_text(p, item->error);
    param_int(p, item->provider_http_status);
    param_text(p, item->result_json);
    param_text(p, item->sandbox_id);
    param_text(p, change ? sandbox_status_name(item->from) : "");
    param_text(p, change ? sandbox_status_name(item->to) : "");
    param_text(p, item->reason);
    param_int(p, item->set);
    param_text(p, values->provider_sandbox_id);
    param_text(p, values->domain);
    param_text(p, values->access_token);
    param_text(p, values->traffic_token);
    param_int(p, values->expires_at_ms);
    param_text(p, values->timeout_mode == TIMEOUT_ABSOLUTE ? "absolute" : "idle");
    param_int(p, values->timeout_ms);
    param_text(p, on_timeout_name(values->on_timeout));
    param_int(p, values->provider_expires_at_ms);
    param_int(p, values->started_at_ms);
    param_text(p, actor);
    param_int(p, job_state_is_terminal(state));
}

static void read_finish(const PGresult *result, struct store_finish *item)
{
    item->ret_fenced = row_int(result, 0, 0) == 0;
    item->ret_has_next = PQgetisnull(result, 0, 1) == 0;
    if (item->ret_has_next) {
        row_wakeup(result, 0, 1, &item->ret_next);
    }
}

/* One item alone in its transaction: after a batch failed because of one of its items. */
static int finish_one(struct store *store, struct store_finish *item, const struct params *p,
                      struct error *err)
{
    PGresult *result;

    if (store_query(store, Q_JOB_FINISH, p, &result, err) < 0) {
        return -1;
    }
    read_finish(result, item);
    PQclear(result);
    return 0;
}

static int by_sandbox(const void *a, const void *b)
{
    const struct store_finish *const *left = a, *const *right = b;
    int order = strcmp((*left)->sandbox_id, (*right)->sandbox_id);

    return order != 0 ? order : strcmp((*left)->job_id, (*right)->job_id);
}

static int finish_batch(struct store *store, struct store_finish **items, size_t count,
                        const char *actor, struct error *err)
{
    struct params *params = xcalloc(count, sizeof(*params));
    PGresult *results[FINISH_BATCH];
    int status;

    for (size_t i = 0; i < count; i++) {
        finish_params(items[i], actor, &params[i]);
    }
    status = store_query_batch(store, Q_JOB_FINISH, params, count, results, err);
    if (status == 0) {
        for (size_t i = 0; i < count; i++) {
            read_finish(results[i], items[i]);
            PQclear(results[i]);
        }
    } else if (err->code != ERR_DATABASE_DOWN && err->code != ERR_OVERLOADED) {
        /* one bad item must not hold up the others */
        status = 0;
        for (size_t i = 0; i < count && status == 0; i++) {
            status = finish_one(store, items[i], &params[i], err);
        }
    }
    free(params);
    return status;
}

int store_jobs_finish(struct store *store, struct store_finish *items, size_t count,
                      const char *actor, struct error *err)
{
    struct store_finish **ordered = xcalloc(count, sizeof(struct store_finish *));
    int status = 0;

    for (size_t i = 0; i < count; i++) {
        ordered[i] = &items[i];
    }
    /* rows are locked in id order by every batch, so batches cannot deadlock each other */
    qsort(ordered, count, sizeof(struct store_finish *), by_sandbox);
    for (size_t at = 0; at < count && status == 0; at += FINISH_BATCH) {
        size_t batch = count - at < FINISH_BATCH ? count - at : FINISH_BATCH;

        status = finish_batch(store, ordered + at, batch, actor, err);
    }
    free(ordered);
    return status;
}
