/* store_reconcile - what sweeps of a provider ask and leave behind, see store.h. */
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/store/store_internal.h"

int store_sweep_ask(struct store *store, const char *provider, int64_t interval_ms,
                    struct wakeup *ret_wakeup, bool *ret_asked, struct error *err)
{
    struct params p = {.count = 0};
    PGresult *result;

    param_text(&p, provider);
    param_int(&p, interval_ms);
    if (store_query(store, Q_SWEEP_ASK, &p, &result, err) < 0) {
        return -1;
    }
    *ret_asked = PQntuples(result) > 0;
    if (*ret_asked) {
        memset(ret_wakeup, 0, sizeof(*ret_wakeup));
        ret_wakeup->op = JOB_RECONCILE;
        row_text(result, 0, 0, ret_wakeup->job_id, sizeof(ret_wakeup->job_id));
        ret_wakeup->enqueued_at_ms = row_int(result, 0, 1);
    }
    PQclear(result);
    return 0;
}

int store_sweep_claim(struct store *store, const char *sweep_id, const char *owner,
                      int64_t lease_ms, char ret_provider[PROVIDER_BYTES], struct error *err)
{
    struct params p = {.count = 0};
    PGresult *result;
    int status = 0;

    param_text(&p, sweep_id);
    param_text(&p, owner);
    param_int(&p, lease_ms);
    if (store_query(store, Q_SWEEP_CLAIM, &p, &result, err) < 0) {
        return -1;
    }
    if (PQntuples(result) == 0) {
        status = error_set(err, ERR_NOT_FOUND, "the sweep is taken, done or replaced by a newer");
    } else {
        row_text(result, 0, 0, ret_provider, PROVIDER_BYTES);
    }
    PQclear(result);
    return status;
}

int store_sweeps_asked(struct store *store, int limit, char (**ret_ids)[UUID_BYTES],
                       size_t *ret_count, struct error *err)
{
    return query_ids(store, Q_SWEEPS_ASKED, limit, ret_ids, ret_count, err);
}

int store_sweep_end(struct store *store, const char *sweep_id, const char *error, struct error *err)
{
    struct params p = {.count = 0};

    param_text(&p, sweep_id);
    param_text(&p, error);
    return store_execute(store, Q_SWEEP_END, &p, err);
}

/* The rows of SWEEP_PAGE and SWEEP_ROWS. Without a row the sweep has no lease; one of NULLs says
 * that it has found none. */
static int take_rows(PGresult *result, struct store_sweep_row **ret, size_t *ret_count,
                     struct error *err)
{
    int count = PQntuples(result);

    if (count == 0) {
        return error_set(err, ERR_FENCED, "the sweep's lease has run out");
    }
    count = PQgetisnull(result, 0, 0) ? 0 : count;
    *ret_count = (size_t)count;
    *ret = xcalloc(*ret_count + 1, sizeof(**ret));
    for (int i = 0; i < count; i++) {
        struct store_sweep_row *row = &(*ret)[i];

        row_text(result, i, 0, row->sandbox_id, sizeof(row->sandbox_id));
        row_text(result, i, 1, row->provider_sandbox_id, sizeof(row->provider_sandbox_id));
        /* the CHECK constraint of the table allows no other names */
        (void)sandbox_status_parse(PQgetvalue(result, i, 2), &row->status);
        row->busy = row_int(result, i, 3) != 0;
        row->elsewhere = row_int(result, i, 4) != 0;
        row->created_at_ms = row_int(result, i, 5);
        row->missing_since_ms = row_int(result, i, 6);
        row->missing_ms = row_int(result, i, 7);
    }
    return 0;
}

int store_sweep_page(struct store *store, const char *sweep_id, const char *provider,
                     int64_t lease_ms, const char *const *provider_ids,
                     const char *const *sandbox_ids, size_t count, struct store_sweep_row **ret,
                     size_t *ret_count, struct error *err)
{
    struct params p = {.count = 0};
    char *ids = param_id_array(provider_ids, count);
    char *boxes = param_id_array(sandbox_ids, count);
    PGresult *result;
    int status;

    param_text(&p, sweep_id);
    param_text(&p, provider);
    param_int(&p, lease_ms);
    param_text(&p, ids);
    param_text(&p, boxes);
    status = store_query(store, Q_SWEEP_PAGE, &p, &result, err);
    if (status == 0) {
        status = take_rows(result, ret, ret_count, err);
        PQclear(result);
    }
    free(boxes);
    free(ids);
    return status;
}

int store_sweep_rows(struct store *store, const char *sweep_id, const char *provider,
                     int64_t lease_ms, struct store_sweep_cursor *cursor, int limit,
                     struct store_sweep_row **ret, size_t *ret_count, struct error *err)
{
    const int64_t later_us = 32503680000000000; /* the year 3000 */
    const bool first = cursor->sandbox_id[0] == '\0';
    struct params p = {.count = 0};
    PGresult *result;
    int status;

    param_text(&p, sweep_id);
    param_text(&p, provider);
    param_int(&p, lease_ms);
    param_int(&p, first ? later_us : cursor->created_us);
    param_text(&p, first ? "ffffffff-ffff-ffff-ffff-ffffffffffff" : cursor->sandbox_id);
    param_int(&p, limit);
    if (store_query(store, Q_SWEEP_ROWS, &p, &result, err) < 0) {
        return -1;
    }
    status = take_rows(result, ret, ret_count, err);
    if (status == 0 && *ret_count > 0) {
        cursor->created_us = row_int(result, PQntuples(result) - 1, 8);
        str_copy(cursor->sandbox_id, sizeof(cursor->sandbox_id), (*ret)[*ret_count - 1].sandbox_id);
    }
    PQclear(result);
    return status;
}

static int by_id(const void *a, const void *b)
{
    return strcmp((*(struct store_sighting *const *)a)->provider_sandbox_id,
                  (*(struct store_sighting *const *)b)->provider_sandbox_id);
}

static void read_sightings(const PGresult *result, struct store_sighting *items, size_t count)
{
    struct store_sighting **sorted = xcalloc(count + 1, sizeof(struct store_sighting *));

    for (size_t i = 0; i < count; i++) {
        sorted[i] = &items[i];
    }
    if (count > 0) {
        qsort(sorted, count, sizeof(struct store_sighting *), by_id);
    }
    for (int row = 0; row < PQntuples(result) && count > 0; row++) {
        struct store_sighting key = {.provider_sandbox_id = PQgetvalue(result, row, 0)};
        const struct store_sighting *wanted = &key;
        struct store_sighting **found =
            bsearch(&wanted, sorted, count, sizeof(struct store_sighting *), by_id);

        if (found != NULL) {
            (*found)->times = (int)row_int(result, row, 1);
            (*found)->age_ms = row_int(result, row, 2);
            (*found)->copy = row_int(result, row, 3) != 0;
            (*found)->lost = row_int(result, row, 4) != 0;
            (*found)->ended_ms = row_int(result, row, 5);
            (*found)->wanted = row_int(result, row, 6) != 0;
        }
    }
    free(sorted);
}

int store_sweep_note(struct store *store, const char *sweep_id, const char *provider,
                     struct store_sighting *items, size_t count, struct error *err)
{
    struct params p = {.count = 0};
    const char **ids = xcalloc(count + 1, sizeof(*ids));
    const char **findings = xcalloc(count + 1, sizeof(*findings));
    const char **boxes = xcalloc(count + 1, sizeof(*boxes));
    char *id_array, *finding_array, *box_array;
    PGresult *result;
    int status;

    for (size_t i = 0; i < count; i++) {
        ids[i] = items[i].provider_sandbox_id;
        findings[i] = items[i].finding;
        boxes[i] = items[i].sandbox_id;
        items[i].times = 0;
        items[i].age_ms = 0;
        items[i].copy = false;
        items[i].lost = false;
        items[i].ended_ms = -1;
        items[i].wanted = false;
    }
    id_array = param_id_array(ids, count);
    finding_array = param_id_array(findings, count);
    box_array = param_id_array(boxes, count);
    param_text(&p, sweep_id);
    param_text(&p, provider);
    param_text(&p, id_array);
    param_text(&p, finding_array);
    param_text(&p, box_array);
    status = store_query(store, Q_SWEEP_NOTE, &p, &result, err);
    if (status == 0) {
        if (PQntuples(result) == 0) {
            status = error_set(err, ERR_FENCED, "the sweep's lease has run out");
        } else {
            read_sightings(result, items, count);
        }
        PQclear(result);
    }
    free(box_array);
    free(finding_array);
    free(id_array);
    free(boxes);
    free(findings);
    free(ids);
    return status;
}

int store_sweep_check(struct store *store, const char *const *sandbox_ids,
                      const char *const *provider_ids, const char *const *evidence, size_t count,
                      struct wakeup **ret_wakeups, size_t *ret_count, struct error *err)
{
    struct params p = {.count = 0};
    char *sandboxes = param_id_array(sandbox_ids, count);
    char *providers = param_id_array(provider_ids, count);
    char *words = param_id_array(evidence, count);
    int status;

    param_text(&p, sandboxes);
    param_text(&p, providers);
    param_text(&p, words);
    status = query_wakeups(store, Q_SWEEP_CHECK, &p, ret_wakeups, ret_count, err);
    free(words);
    free(providers);
    free(sandboxes);
    return status;
}

int store_sweep_give_back(struct store *store, const char *provider, const char *const *sandbox_ids,
                          const char *const *provider_ids, const char *const *states, size_t count,
                          const char *actor, struct wakeup **ret_wakeups, size_t *ret_count,
                          struct error *err)
{
    struct params p = {.count = 0};
    char *sandboxes = param_id_array(sandbox_ids, count);
    char *providers = param_id_array(provider_ids, count);
    char *words = param_id_array(states, count);
    int status;

    param_text(&p, provider);
    param_text(&p, sandboxes);
    param_text(&p, providers);
    param_text(&p, words);
    param_text(&p, actor);
    status = query_wakeups(store, Q_SWEEP_GIVE_BACK, &p, ret_wakeups, ret_count, err);
    free(words);
    free(providers);
    free(sandboxes);
    return status;
}

int store_sweep_adopt(struct store *store, const char *const *sandbox_ids, size_t count,
                      struct wakeup **ret_wakeups, size_t *ret_count, struct error *err)
{
    struct params p = {.count = 0};
    char *sandboxes = param_id_array(sandbox_ids, count);
    int status;

    param_text(&p, sandboxes);
    status = query_wakeups(store, Q_SWEEP_ADOPT, &p, ret_wakeups, ret_count, err);
    free(sandboxes);
    return status;
}

int store_sweep_killed(struct store *store, const char *provider, const char *provider_sandbox_id,
                       const char *sandbox_id, const char *reason, const char *actor,
                       struct error *err)
{
    struct params p = {.count = 0};

    param_text(&p, provider);
    param_text(&p, provider_sandbox_id);
    param_text(&p, sandbox_id);
    param_text(&p, reason);
    param_text(&p, actor);
    return store_execute(store, Q_SWEEP_KILLED, &p, err);
}
