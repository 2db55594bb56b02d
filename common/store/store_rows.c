/* store_rows - PGresult columns to structs; the column order is queries.def's. */
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/store/store_internal.h"

int64_t row_int(const PGresult *result, int row, int column)
{
    return strtoll(PQgetvalue(result, row, column), NULL, 10);
}

void row_text(const PGresult *result, int row, int column, char *out, size_t size)
{
    str_copy(out, size, PQgetvalue(result, row, column));
}

/* Heap copy, or NULL for an empty text. */
static char *row_heap_text(const PGresult *result, int row, int column)
{
    const char *text = PQgetvalue(result, row, column);

    return *text != '\0' ? xstrdup(text) : NULL;
}

#define TEXT(field) row_text(result, row, column++, (field), sizeof(field))
#define INT()       row_int(result, row, column++)

int row_sandbox(const PGresult *result, int row, int column, struct sandbox *ret)
{
    *ret = (struct sandbox){0};
    TEXT(ret->id);
    TEXT(ret->owner);
    TEXT(ret->user_id);
    TEXT(ret->provider);
    TEXT(ret->provider_sandbox_id);
    TEXT(ret->template_id);
    TEXT(ret->domain);
    TEXT(ret->access_token);
    TEXT(ret->traffic_token);
    /* the CHECK constraints of the table allow no other names */
    (void)sandbox_status_parse(PQgetvalue(result, row, column++), &ret->status);
    TEXT(ret->status_reason);
    ret->version = INT();
    ret->timeout_mode = strcmp(PQgetvalue(result, row, column++), "absolute") == 0
                            ? TIMEOUT_ABSOLUTE
                            : TIMEOUT_IDLE;
    (void)on_timeout_parse(PQgetvalue(result, row, column++), &ret->on_timeout);
    ret->timeout_ms = INT();
    ret->expires_at_ms = INT();
    ret->provider_expires_at_ms = INT();
    ret->create_sent_at_ms = INT();
    ret->created_at_ms = INT();
    ret->started_at_ms = INT();
    ret->stopped_at_ms = INT();
    ret->deleted_at_ms = INT();
    ret->last_activity_at_ms = INT();
    ret->metadata_json = row_heap_text(result, row, column++);
    TEXT(ret->provider_reason);
    ret->missing_since_ms = INT();
    ret->read_at_ms = INT();
    TEXT(ret->agent_version);
    ret->delete_at_ms = INT();
    return column;
}

static enum outcome outcome_of(const char *name)
{
    for (int i = 0; i < OUTCOME_COUNT; i++) {
        if (strcmp(outcome_name((enum outcome)i), name) == 0) {
            return (enum outcome)i;
        }
    }
    return OUTCOME_PERMANENT;
}

int row_job(const PGresult *result, int row, int column, struct job *ret)
{
    *ret = (struct job){0};
    TEXT(ret->id);
    TEXT(ret->sandbox_id);
    ret->seq = INT();
    (void)job_op_parse(PQgetvalue(result, row, column++), &ret->op);
    (void)job_state_parse(PQgetvalue(result, row, column++), &ret->state);
    ret->attempt = (int)INT();
    ret->max_attempts = (int)INT();
    ret->crashes = (int)INT();
    ret->lease_token = INT();
    ret->lease_until_ms = INT();
    ret->run_at_ms = INT();
    ret->deadline_ms = INT();
    ret->created_at_ms = INT();
    TEXT(ret->reply_to);
    TEXT(ret->request_id);
    TEXT(ret->traceparent);
    TEXT(ret->origin);
    ret->params_json = row_heap_text(result, row, column++);
    ret->result_json = row_heap_text(result, row, column++);
    ret->outcome = outcome_of(PQgetvalue(result, row, column++));
    TEXT(ret->error);
    ret->provider_http_status = (int)INT();
    return column;
}

int row_wakeup(const PGresult *result, int row, int column, struct wakeup *ret)
{
    *ret = (struct wakeup){0};
    TEXT(ret->job_id);
    TEXT(ret->sandbox_id);
    (void)job_op_parse(PQgetvalue(result, row, column++), &ret->op);
    ret->attempt = (int)INT();
    ret->enqueued_at_ms = INT();
    TEXT(ret->reply_to);
    TEXT(ret->request_id);
    TEXT(ret->traceparent);
    return column;
}

static void read_sandbox(const PGresult *result, int row, void *ret)
{
    (void)row_sandbox(result, row, 0, ret);
}

static void read_job(const PGresult *result, int row, void *ret)
{
    (void)row_job(result, row, 0, ret);
}

static void read_wakeup(const PGresult *result, int row, void *ret)
{
    (void)row_wakeup(result, row, 0, ret);
}

const struct row_type sandbox_rows = {sizeof(struct sandbox), read_sandbox};
const struct row_type job_rows = {sizeof(struct job), read_job};
const struct row_type wakeup_rows = {sizeof(struct wakeup), read_wakeup};
