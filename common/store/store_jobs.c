/* store_jobs - what the worker asks: claim, finish, due, see store.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/strbuf.h"
#include "common/domain/lifecycle.h"
#include "common/store/store_internal.h"

enum { TRANSITIONS_MAX_BYTES = 4096 };

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

static void read_claimed(const PGresult *result, int row, struct store_claimed *ret)
{
    int column = row_job(result, row, 0, &ret->job);
    const char *next;

    ret->deadline_moved = row_int(result, row, column++) != 0;
    ret->took_over = row_int(result, row, column++) != 0;
    next = PQgetvalue(result, row, column++);
    row_sandbox(result, row, column, &ret->sandbox);
    ret->claimed_at_ms = ret->sandbox.read_at_ms;
    ret->status_before = ret->sandbox.status;
    ret->create_maybe_sent = ret->job.op == JOB_CREATE && ret->sandbox.create_sent_at_ms != 0;
    if (*next != '\0') {
        /* the names went out from the same enum */
        (void)sandbox_status_parse(next, &ret->sandbox.status);
        ret->sandbox.version++;
    }
}

int store_jobs_claim(struct store *store, const char *const *job_ids, size_t count,
                     const char *lease_owner, int64_t lease_ms, struct store_claimed **ret,
                     size_t *ret_count, struct error *err)
{
    return store_jobs_claim_in_turn(store, job_ids, count, 0, lease_owner, lease_ms, ret, ret_count,
                                    err);
}

int store_jobs_claim_in_turn(struct store *store, const char *const *job_ids, size_t count,
                             size_t turns, const char *lease_owner, int64_t lease_ms,
                             struct store_claimed **ret, size_t *ret_count, struct error *err)
{
    struct params lock = {.count = 0}, turn = {.count = 0}, claim = {.count = 0},
                  passed = {.count = 0};
    struct statement statements[4] = {{.query = Q_LOCK_SANDBOXES, .params = &lock}};
    size_t used = 1, claiming;
    struct transitions transitions;
    char *ids = param_id_array(job_ids, count);
    const PGresult *result;
    int status;

    transitions_init(&transitions);
    param_text(&lock, ids);
    param_int(&turn, (int64_t)turns);
    param_text(&turn, ids);
    param_text(&claim, ids);
    param_text(&claim, lease_owner);
    param_int(&claim, lease_ms);
    param_text(&claim, transitions.ops.data);
    param_text(&claim, transitions.from.data);
    param_text(&claim, transitions.to.data);
    param_text(&passed, ids);
    param_int(&passed, (int64_t)turns);
    if (turns > 0) {
        statements[used++] = (struct statement){.query = Q_JOBS_TURN, .params = &turn};
    }
    claiming = used;
    statements[used++] = (struct statement){.query = Q_JOBS_CLAIM, .params = &claim};
    if (turns > 0) {
        statements[used++] = (struct statement){.query = Q_JOBS_PASSED_OVER, .params = &passed};
    }
    status = store_query_batch(store, statements, used, err);
    free(ids);
    transitions_done(&transitions);
    if (status < 0) {
        return -1;
    }
    result = statements[claiming].result;
    *ret_count = (size_t)PQntuples(result);
    *ret = xcalloc(*ret_count, sizeof(**ret));
    for (size_t i = 0; i < *ret_count; i++) {
        read_claimed(result, (int)i, &(*ret)[i]);
    }
    for (size_t i = 0; i < used; i++) {
        PQclear(statements[i].result);
    }
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

int store_create_sending(struct store *store, const char *job_id, int64_t lease_token,
                         bool *ret_ours, struct error *err)
{
    struct params p = {.count = 0};
    PGresult *result;

    param_text(&p, job_id);
    param_int(&p, lease_token);
    if (store_query(store, Q_CREATE_SENDING, &p, &result, err) < 0) {
        return -1;
    }
    *ret_ours = PQntuples(result) == 1;
    PQclear(result);
    return 0;
}

static void read_id(const PGresult *result, int row, void *ret)
{
    row_text(result, row, 0, ret, UUID_BYTES);
}

static const struct row_type id_rows = {UUID_BYTES, read_id};

int query_ids(struct store *store, enum query query, int limit, char (**ret_ids)[UUID_BYTES],
              size_t *ret_count, struct error *err)
{
    struct params p = {.count = 0};

    param_int(&p, limit);
    return select_rows(store, query, &p, &id_rows, ret_ids, ret_count, err);
}

int store_jobs_due(struct store *store, int limit, char (**ret_ids)[UUID_BYTES], size_t *ret_count,
                   struct error *err)
{
    return query_ids(store, Q_JOBS_DUE, limit, ret_ids, ret_count, err);
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
    param_int(p, values->create_sent_at_ms);
    param_text(p, values->provider);
    param_text(p, values->template_id);
    param_text(p, values->agent_version);
}

static void read_finish(const PGresult *result, struct store_finish *item)
{
    item->ret_fenced = PQgetisnull(result, 0, 0) == 1;
    item->ret_state = item->state;
    /* the CHECK constraint of the table allows no other names */
    (void)job_state_parse(PQgetvalue(result, 0, 0), &item->ret_state);
    item->ret_has_next = PQgetisnull(result, 0, 1) == 0;
    if (item->ret_has_next) {
        row_wakeup(result, 0, 1, &item->ret_next);
    }
}

int store_jobs_finish(struct store *store, struct store_finish *items, size_t count,
                      const char *actor, struct error *err)
{
    struct params *params = xcalloc(count + 1, sizeof(*params));
    struct statement *statements = xcalloc(count + 1, sizeof(*statements));
    const char **ids = xcalloc(count, sizeof(*ids));
    char *array;
    int status;

    /* rows are locked in id order by the first statement; the others end one job each */
    for (size_t i = 0; i < count; i++) {
        ids[i] = items[i].job_id;
        finish_params(&items[i], actor, &params[i + 1]);
        statements[i + 1] = (struct statement){.query = Q_JOB_FINISH, .params = &params[i + 1]};
    }
    array = param_id_array(ids, count);
    param_text(&params[0], array);
    statements[0] = (struct statement){.query = Q_LOCK_SANDBOXES, .params = &params[0]};
    status = store_query_batch(store, statements, count + 1, err);
    if (status == 0) {
        PQclear(statements[0].result);
        for (size_t i = 0; i < count; i++) {
            read_finish(statements[i + 1].result, &items[i]);
            PQclear(statements[i + 1].result);
        }
    }
    free(array);
    free(ids);
    free(statements);
    free(params);
    return status;
}
