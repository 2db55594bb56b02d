/*
 * store_migrate - brings a database to the schema this program was built with, see store.h.
 *
 * Several gateways may start at once: an advisory lock lets one migrate while the others wait, then
 * find nothing to do. A database that is newer than the program is refused.
 */
#include <stdlib.h>
#include <string.h>

#include "common/base/strbuf.h"
#include "common/store/store_internal.h"

enum { MIGRATION_MAX_BYTES = 1 << 20 };

/* "sbxmigr" as a number: the advisory lock of this product */
#define LOCK_SQL   "SELECT pg_advisory_lock(32486189174216562)"
#define UNLOCK_SQL "SELECT pg_advisory_unlock(32486189174216562)"
#define TABLE_SQL                                                                                  \
    "CREATE TABLE IF NOT EXISTS schema_migrations (version integer PRIMARY KEY, name text NOT "    \
    "NULL, "                                                                                       \
    "applied_at timestamptz NOT NULL DEFAULT now())"

static int current_version(struct connection *connection, int *ret, struct error *err)
{
    PGresult *result;

    if (connection_run(connection, "SELECT coalesce(max(version), 0) FROM schema_migrations", 0,
                       &result, err) < 0) {
        return -1;
    }
    *ret = (int)row_int(result, 0, 0);
    PQclear(result);
    return 0;
}

/* A plain query of several statements is one transaction; the version row is part of it. */
static int apply(struct connection *connection, const struct migration *migration,
                 struct error *err)
{
    struct strbuf sql;
    int status;

    strbuf_init(&sql, MIGRATION_MAX_BYTES);
    strbuf_printf(&sql, "%s\n; INSERT INTO schema_migrations (version, name) VALUES (%d, '%s');",
                  migration->sql, migration->version, migration->name);
    status = sql.overflow ? error_set(err, ERR_LIMIT, "larger than %d bytes", MIGRATION_MAX_BYTES)
                          : connection_run(connection, sql.data, 0, NULL, err);
    strbuf_done(&sql);
    return status < 0 ? error_prefix(err, "migration %s", migration->name) : 0;
}

static int migrate(struct connection *connection, int *ret_applied, struct error *err)
{
    int version, newest = 0;

    if (connection_run(connection, "SET statement_timeout = 0; SET client_min_messages = warning",
                       0, NULL, err) < 0 ||
        connection_run(connection, LOCK_SQL, 0, NULL, err) < 0 ||
        connection_run(connection, TABLE_SQL, 0, NULL, err) < 0 ||
        current_version(connection, &version, err) < 0) {
        return -1;
    }
    for (const struct migration *m = store_migrations; m->version > 0; m++) {
        newest = m->version;
        if (m->version > version) {
            if (apply(connection, m, err) < 0) {
                return -1;
            }
            (*ret_applied)++;
        }
    }
    if (version > newest) {
        return error_set(err, ERR_CONFIG,
                         "the database has schema version %d, this program knows %d: it is older",
                         version, newest);
    }
    return connection_run(connection, UNLOCK_SQL, 0, NULL, err);
}

int store_migrate(struct store *store, int *ret_applied, struct error *err)
{
    struct connection *connection = store_borrow(store, err);
    struct error ignored = ERROR_INIT;
    int status;

    if (connection == NULL) {
        return -1;
    }
    *ret_applied = 0;
    status = migrate(connection, ret_applied, err);
    if (status == 0) {
        status = connection_run(connection, "RESET statement_timeout; RESET client_min_messages", 0,
                                NULL, err);
    } else {
        /* fails when the connection is gone, and then the lock is too */
        (void)!connection_run(connection, UNLOCK_SQL, 0, NULL, &ignored);
    }
    store_return(store, connection);
    return status;
}
