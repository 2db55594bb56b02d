/* store_ports - see store_ports.h. */
#include "common/store/store_ports.h"

#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/store/store_internal.h"

static int not_exposed(struct error *err)
{
    return error_set(err, ERR_NOT_FOUND, "the port is not exposed");
}

/* Column order of PORT_COLUMNS. */
static void row_port(const PGresult *result, int row, struct store_port *ret)
{
    *ret = (struct store_port){.port = (int)row_int(result, row, 0),
                               .is_public = row_int(result, row, 1) != 0,
                               .created_at_ms = row_int(result, row, 3),
                               .expires_at_ms = row_int(result, row, 4)};
    row_text(result, row, 2, ret->token, sizeof(ret->token));
}

/* Runs a statement that gives one port, or none. */
static int query_port(struct store *store, enum query query, const struct params *params,
                      struct store_port *ret, bool *ret_found, struct error *err)
{
    PGresult *result;

    if (store_query(store, query, params, &result, err) < 0) {
        return -1;
    }
    *ret_found = PQntuples(result) > 0;
    if (*ret_found) {
        row_port(result, 0, ret);
    }
    PQclear(result);
    return 0;
}

int store_port_expose(struct store *store, const struct store_port_expose *expose,
                      struct store_port *ret, struct error *err)
{
    struct params p = {.count = 0};
    bool found;

    param_text(&p, expose->sandbox_id);
    param_int(&p, expose->port);
    param_text(&p, expose->is_public ? "public" : "private");
    param_text(&p, expose->token);
    param_int(&p, expose->ttl_ms);
    param_int(&p, expose->max);
    param_int(&p, expose->keep);
    if (query_port(store, Q_PORT_EXPOSE, &p, ret, &found, err) < 0) {
        return -1;
    }
    if (!found) {
        err->limit = err->used = expose->max;
        return error_set(err, ERR_QUOTA, "the sandbox exposes %d ports, which is all it may",
                         expose->max);
    }
    return 0;
}

int store_port_find(struct store *store, const char *sandbox_id, int port, bool any_port,
                    struct store_port *ret, struct error *err)
{
    struct params p = {.count = 0};
    bool found;

    param_text(&p, sandbox_id);
    param_int(&p, port);
    param_int(&p, any_port);
    if (query_port(store, Q_PORT_FIND, &p, ret, &found, err) < 0) {
        return -1;
    }
    return found ? 0 : not_exposed(err);
}

int store_ports_list(struct store *store, const char *sandbox_id, struct store_port **ret,
                     size_t *ret_count, struct error *err)
{
    struct params p = {.count = 0};
    PGresult *result;

    param_text(&p, sandbox_id);
    if (store_query(store, Q_PORTS_LIST, &p, &result, err) < 0) {
        return -1;
    }
    *ret_count = (size_t)PQntuples(result);
    *ret = xcalloc(*ret_count, sizeof(**ret));
    for (size_t i = 0; i < *ret_count; i++) {
        row_port(result, (int)i, &(*ret)[i]);
    }
    PQclear(result);
    return 0;
}

int store_port_remove(struct store *store, const char *sandbox_id, int port, struct error *err)
{
    struct params p = {.count = 0};
    struct store_port removed;
    bool found;

    param_text(&p, sandbox_id);
    param_int(&p, port);
    if (query_port(store, Q_PORT_REMOVE, &p, &removed, &found, err) < 0) {
        return -1;
    }
    return found ? 0 : not_exposed(err);
}
