/* store_processes - the heartbeats of workers and reapers, see store.h. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/store/store_internal.h"

static const char *const role_names[] = {
    [STORE_ROLE_WORKER] = "worker",
    [STORE_ROLE_REAPER] = "reaper",
};

int store_process_beat(struct store *store, enum store_role role, const char *name,
                       int64_t interval_ms, int64_t wall_ms, const char *figures,
                       int64_t *ret_database_ms, struct error *err)
{
    struct params p = {.count = 0};
    PGresult *result;

    param_text(&p, name);
    param_text(&p, role_names[role]);
    param_int(&p, interval_ms);
    param_int(&p, wall_ms);
    param_text(&p, figures);
    if (store_query(store, Q_PROCESS_BEAT, &p, &result, err) < 0) {
        return -1;
    }
    *ret_database_ms = row_int(result, 0, 0);
    PQclear(result);
    return 0;
}

int store_process_end(struct store *store, const char *name, struct error *err)
{
    struct params p = {.count = 0};

    param_text(&p, name);
    return store_execute(store, Q_PROCESS_END, &p, err);
}

int store_processes_prune(struct store *store, int64_t silent_ms, struct error *err)
{
    struct params p = {.count = 0};

    param_int(&p, silent_ms);
    return store_execute(store, Q_PROCESSES_PRUNE, &p, err);
}

static void read_process(const PGresult *result, int row, void *arg)
{
    struct store_process *ret = arg;

    row_text(result, row, 0, ret->name, sizeof(ret->name));
    ret->role = strcmp(PQgetvalue(result, row, 1), role_names[STORE_ROLE_REAPER]) == 0
                    ? STORE_ROLE_REAPER
                    : STORE_ROLE_WORKER;
    ret->clock_offset_ms = row_int(result, row, 2);
}

static const struct row_type process_rows = {sizeof(struct store_process), read_process};

static void read_figures(const PGresult *result, int row, void *arg)
{
    struct store_figures *ret = arg;

    row_text(result, row, 0, ret->name, sizeof(ret->name));
    ret->json = xstrdup(PQgetvalue(result, row, 1));
}

static const struct row_type figures_rows = {sizeof(struct store_figures), read_figures};

int store_processes_live(struct store *store, struct store_process **ret, size_t *ret_count,
                         struct error *err)
{
    struct params p = {.count = 0};

    return select_rows(store, Q_PROCESSES_LIVE, &p, &process_rows, ret, ret_count, err);
}

int store_worker_figures(struct store *store, struct store_figures **ret, size_t *ret_count,
                         struct error *err)
{
    struct params p = {.count = 0};

    return select_rows(store, Q_WORKER_FIGURES, &p, &figures_rows, ret, ret_count, err);
}

void store_figures_free(struct store_figures *figures, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(figures[i].json);
    }
    free(figures);
}

int store_process_health(const struct store_options *options, enum store_role role,
                         struct error *err)
{
    struct store *store = store_new(options);
    struct store_process *live = NULL;
    char host[64] = "localhost";
    size_t count = 0;
    bool found = false;
    int status;

    gethostname(host, sizeof(host) - 1);
    status = store_processes_live(store, &live, &count, err);
    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(host);

        found = found || (live[i].role == role && strncmp(live[i].name, host, length) == 0 &&
                          live[i].name[length] == ':');
    }
    free(live);
    store_free(store);
    return status < 0 || found
               ? status
               : error_set(err, ERR_NOT_FOUND, "no live %s of this host (%s:*) in PostgreSQL",
                           role_names[role], host);
}
