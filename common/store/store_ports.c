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
static void read_port(const PGresult *result, int row, void *arg)
{
    struct store_port *ret = arg;

    *ret = (struct store_port){.port = (int)row_int(result, row, 0),
                               .is_public = row_int(result, row, 1) != 0,
                               .created_at_ms = row_int(result, row, 3),
                               .expires_at_ms = row_int(result, row, 4)};
    row_text(result, row, 2, ret->token, sizeof(ret->token));
}

static const struct row_type port_rows = {sizeof(struct store_port), read_port};

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
    if (select_row(store, Q_PORT_EXPOSE, &p, &port_rows, ret, &found, err) < 0) {
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
    if (select_row(store, Q_PORT_FIND, &p, &port_rows, ret, &found, err) < 0) {
        return -1;
    }
    return found ? 0 : not_exposed(err);
}

int store_ports_list(struct store *store, const char *sandbox_id, struct store_port **ret,
                     size_t *ret_count, struct error *err)
{
    struct params p = {.count = 0};

    param_text(&p, sandbox_id);
    return select_rows(store, Q_PORTS_LIST, &p, &port_rows, ret, ret_count, err);
}

int store_port_remove(struct store *store, const char *sandbox_id, int port, struct error *err)
{
    struct params p = {.count = 0};
    struct store_port removed;
    bool found;

    param_text(&p, sandbox_id);
    param_int(&p, port);
    if (select_row(store, Q_PORT_REMOVE, &p, &port_rows, &removed, &found, err) < 0) {
        return -1;
    }
    return found ? 0 : not_exposed(err);
}
