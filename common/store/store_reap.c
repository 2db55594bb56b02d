/* store_reap - what the reaper asks: deadlines, lost wake-ups, lifetimes, figures, see store.h. */
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/store/store_internal.h"

int query_wakeups(struct store *store, enum query query, const struct params *p,
                  struct wakeup **ret_wakeups, size_t *ret_count, struct error *err)
{
    return select_rows(store, query, p, &wakeup_rows, ret_wakeups, ret_count, err);
}

int store_reap_deadlines(struct store *store, int limit, struct wakeup **ret_wakeups,
                         size_t *ret_count, struct error *err)
{
    struct params p = {.count = 0};

    param_int(&p, limit);
    return query_wakeups(store, Q_REAP_DEADLINES, &p, ret_wakeups, ret_count, err);
}

int store_reap_lives(struct store *store, int limit, struct wakeup **ret_wakeups, size_t *ret_count,
                     struct error *err)
{
    struct params p = {.count = 0};

    param_int(&p, limit);
    return query_wakeups(store, Q_REAP_LIVES, &p, ret_wakeups, ret_count, err);
}

int store_next_deadline_ms(struct store *store, int64_t max_ms, int64_t *ret_ms, struct error *err)
{
    struct params p = {.count = 0};
    PGresult *result;

    param_int(&p, max_ms);
    if (store_query(store, Q_NEXT_DEADLINE, &p, &result, err) < 0) {
        return -1;
    }
    *ret_ms = row_int(result, 0, 0);
    PQclear(result);
    return 0;
}

int store_has_jobs(struct store *store, bool *ret, struct error *err)
{
    struct params p = {.count = 0};
    PGresult *result;

    if (store_query(store, Q_HAS_JOBS, &p, &result, err) < 0) {
        return -1;
    }
    *ret = row_int(result, 0, 0) != 0;
    PQclear(result);
    return 0;
}

int store_outbox(struct store *store, int limit, int64_t base_ms, bool all,
                 struct wakeup **ret_wakeups, size_t *ret_count, struct error *err)
{
    struct params p = {.count = 0};

    param_int(&p, limit);
    param_int(&p, base_ms);
    param_int(&p, all);
    return query_wakeups(store, Q_OUTBOX, &p, ret_wakeups, ret_count, err);
}

static void read_dead_letter(const PGresult *result, int row, void *arg)
{
    struct store_dead_letter *ret = arg;
    int column = row_wakeup(result, row, 0, &ret->wakeup);

    row_text(result, row, column, ret->error, sizeof(ret->error));
}

static const struct row_type dead_letter_rows = {sizeof(struct store_dead_letter),
                                                 read_dead_letter};

int store_dead_claim(struct store *store, int limit, int64_t claim_ms,
                     struct store_dead_letter **ret, size_t *ret_count, struct error *err)
{
    struct params p = {.count = 0};

    param_int(&p, limit);
    param_int(&p, claim_ms);
    return select_rows(store, Q_DEAD_CLAIM, &p, &dead_letter_rows, ret, ret_count, err);
}

int store_dead_listed(struct store *store, const struct store_dead_letter *letters, size_t count,
                      struct error *err)
{
    struct params p = {.count = 0};
    const char **ids = xcalloc(count, sizeof(*ids));
    char *array;
    int status;

    for (size_t i = 0; i < count; i++) {
        ids[i] = letters[i].wakeup.job_id;
    }
    array = param_id_array(ids, count);
    param_text(&p, array);
    status = store_execute(store, Q_DEAD_LISTED, &p, err);
    free(array);
    free(ids);
    return status;
}

int store_dead_relist(struct store *store, struct error *err)
{
    struct params p = {.count = 0};

    return store_execute(store, Q_DEAD_RELIST, &p, err);
}

int store_reap_lifetimes(struct store *store, const char *provider, int limit, int64_t grace_ms,
                         int64_t max_ms, int64_t margin_ms, int64_t horizon_ms,
                         struct wakeup **ret_wakeups, size_t *ret_count, struct error *err)
{
    struct params p = {.count = 0};

    param_text(&p, provider);
    param_int(&p, limit);
    param_int(&p, grace_ms);
    param_int(&p, max_ms);
    param_int(&p, margin_ms);
    param_int(&p, horizon_ms);
    return query_wakeups(store, Q_REAP_LIFETIMES, &p, ret_wakeups, ret_count, err);
}

int store_prune(struct store *store, enum store_prunable what, int64_t age_ms, bool *ret_full,
                struct error *err)
{
    /* about 15 ms on two idle cores: below 100 ms on busy ones, too */
    enum { ROWS = 500, SANDBOXES = 50 };
    static const enum query queries[STORE_PRUNABLE_COUNT] = {
        [STORE_PRUNE_KEYS] = Q_KEYS_PRUNE,
        [STORE_PRUNE_TOKENS] = Q_TOKENS_PRUNE,
        [STORE_PRUNE_EVENTS] = Q_EVENTS_PRUNE,
        [STORE_PRUNE_SANDBOXES] = Q_SANDBOXES_PRUNE,
        [STORE_PRUNE_COMMANDS] = Q_COMMANDS_PRUNE,
        [STORE_PRUNE_COMMANDS_OF_ENDED] = Q_COMMANDS_OF_ENDED_PRUNE,
    };
    struct params p = {.count = 0};
    PGresult *result;
    int64_t removed;

    param_int(&p, age_ms);
    if (what == STORE_PRUNE_SANDBOXES) {
        param_int(&p, SANDBOXES);
    }
    param_int(&p, ROWS);
    if (store_query(store, queries[what], &p, &result, err) < 0) {
        return -1;
    }
    removed = row_int(result, 0, 0);
    PQclear(result);
    *ret_full = what == STORE_PRUNE_SANDBOXES ? removed > 0 : removed == ROWS;
    return 0;
}

int store_stats(struct store *store, struct store_stats *ret, struct error *err)
{
    struct params p = {.count = 0};
    struct store_stats stats = {0};
    PGresult *result;

    if (store_query(store, Q_STATS_JOBS, &p, &result, err) < 0) {
        return -1;
    }
    for (int i = 0; i < PQntuples(result); i++) {
        enum job_state state;

        if (job_state_parse(PQgetvalue(result, i, 0), &state) == 0) {
            stats.jobs_by_state[state] = row_int(result, i, 1);
            if (state == JOB_STATE_QUEUED) {
                stats.oldest_queued_ms = row_int(result, i, 2);
            }
        }
    }
    PQclear(result);
    if (store_query(store, Q_STATS_SANDBOXES, &p, &result, err) < 0) {
        return -1;
    }
    for (int i = 0; i < PQntuples(result); i++) {
        enum sandbox_status status;

        if (sandbox_status_parse(PQgetvalue(result, i, 0), &status) == 0) {
            stats.sandboxes_by_status[status] = row_int(result, i, 1);
        }
    }
    PQclear(result);
    if (store_query(store, Q_STATS_MISSING, &p, &result, err) < 0) {
        return -1;
    }
    stats.missing = row_int(result, 0, 0);
    PQclear(result);
    if (store_query(store, Q_STATS_OVERDUE, &p, &result, err) < 0) {
        return -1;
    }
    stats.overdue_ms = row_int(result, 0, 0);
    PQclear(result);
    *ret = stats;
    return 0;
}

int store_facts_read(struct store *store, struct store_facts *ret, struct error *err)
{
    struct params p = {.count = 0};
    PGresult *result;

    if (store_query(store, Q_FACTS, &p, &result, err) < 0) {
        return -1;
    }
    *ret = (struct store_facts){.schema_version = (int)row_int(result, 0, 1),
                                .wall_ms = row_int(result, 0, 2),
                                .max_connections = (int)row_int(result, 0, 3),
                                .connections = (int)row_int(result, 0, 4),
                                .fsync = row_int(result, 0, 6) != 0,
                                .in_recovery = row_int(result, 0, 7) != 0};
    row_text(result, 0, 0, ret->version, sizeof(ret->version));
    row_text(result, 0, 5, ret->synchronous_commit, sizeof(ret->synchronous_commit));
    PQclear(result);
    return 0;
}
