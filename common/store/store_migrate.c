/*
 * store_migrate - brings a database to the schema this program was built with, see store.h.
 *
 * Several gateways may start at once: an advisory lock lets one migrate while the others wait, then
 * find nothing to do. A database that is newer than the program is refused, an older one answers no
 * ping.
 */
#include <stdlib.h>
#include <string.h>

#include "common/base/encode.h"
#include "common/base/strbuf.h"
#include "common/store/store_internal.h"

enum { MIGRATION_MAX_BYTES = 1 << 20 };

/* "sbxmigr" as a number: the advisory lock of this product */
#define LOCK_SQL   "SELECT pg_advisory_lock(32486189174216562)"
#define UNLOCK_SQL "SELECT pg_advisory_unlock(32486189174216562)"
#define TABLE_SQL                                                                                  \
    "CREATE TABLE IF NOT EXISTS schema_migrations (version integer PRIMARY KEY, name text NOT "    \
    "NULL, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
#define APPLIED_SQL "SELECT version, checksum FROM schema_migrations ORDER BY version"

/* The version that this program was built with. */
static int newest_version(void)
{
    int newest = 0;

    for (const struct migration *m = store_migrations; m->version > 0; m++) {
        newest = m->version;
    }
    return newest;
}

/* An applied migration is history: what was changed afterwards is not what the database has. */
static int check_applied(const PGresult *applied, struct error *err)
{
    int rows = PQntuples(applied);

    for (int row = 0; row < rows; row++) {
        const struct migration *m = store_migrations;
        int version = (int)row_int(applied, row, 0);
        char checksum[SHA256_HEX_BYTES];

        while (m->version > 0 && m->version != version) {
            m++;
        }
        if (m->version == 0) {
            return error_set(err, ERR_CONFIG,
                             "the database has schema version %d, this program knows %d: it is "
                             "older",
                             version, newest_version());
        }
        sha256_hex(m->sql, strlen(m->sql), checksum);
        if (strcmp(PQgetvalue(applied, row, 1), checksum) != 0) {
            return error_set(err, ERR_CONFIG,
                             "migration %s was changed after it was applied to this database",
                             m->name);
        }
    }
    return 0;
}

static int current_version(struct connection *connection, int *ret, struct error *err)
{
    PGresult *result;
    int status;

    if (store_connection_run(connection, APPLIED_SQL, 0, &result, err) < 0) {
        return -1;
    }
    status = check_applied(result, err);
    *ret = PQntuples(result) > 0 ? (int)row_int(result, PQntuples(result) - 1, 0) : 0;
    PQclear(result);
    return status;
}

/* A plain query of several statements is one transaction; the version row is part of it. */
static int apply(struct connection *connection, const struct migration *migration,
                 struct error *err)
{
    char checksum[SHA256_HEX_BYTES];
    struct strbuf sql;
    int status;

    sha256_hex(migration->sql, strlen(migration->sql), checksum);
    strbuf_init(&sql, MIGRATION_MAX_BYTES);
    strbuf_printf(&sql,
                  "%s\n; INSERT INTO schema_migrations (version, name, checksum) VALUES (%d, '%s', "
                  "'%s');",
                  migration->sql, migration->version, migration->name, checksum);
    status = sql.overflow ? error_set(err, ERR_LIMIT, "larger than %d bytes", MIGRATION_MAX_BYTES)
                          : store_connection_run(connection, sql.data, 0, NULL, err);
    strbuf_done(&sql);
    return status < 0 ? error_prefix(err, "migration %s", migration->name) : 0;
}

static int migrate(struct connection *connection, int *ret_applied, struct error *err)
{
    int version;

    if (store_connection_run(connection,
                             "SET statement_timeout = 0; SET client_min_messages = warning", 0,
                             NULL, err) < 0 ||
        store_connection_run(connection, LOCK_SQL, 0, NULL, err) < 0 ||
        store_connection_run(connection, TABLE_SQL, 0, NULL, err) < 0 ||
        current_version(connection, &version, err) < 0) {
        return -1;
    }
    for (const struct migration *m = store_migrations; m->version > 0; m++) {
        if (m->version > version) {
            if (apply(connection, m, err) < 0) {
                return -1;
            }
            (*ret_applied)++;
        }
    }
    return store_connection_run(connection, UNLOCK_SQL, 0, NULL, err);
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
        status = store_connection_run(
            connection, "RESET statement_timeout; RESET client_min_messages", 0, NULL, err);
    } else {
        /* fails when the connection is gone, and then the lock is too */
        (void)!store_connection_run(connection, UNLOCK_SQL, 0, NULL, &ignored);
    }
    store_return(store, connection);
    return status;
}

int store_ping(struct store *store, struct error *err)
{
    struct params none = {.count = 0};
    PGresult *result;
    int version;

    if (store_query(store, Q_PING, &none, &result, err) < 0) {
        return -1;
    }
    version = (int)row_int(result, 0, 0);
    PQclear(result);
    if (version < newest_version()) {
        return error_set(err, ERR_CONFIG,
                         "the database has schema version %d, %d is needed (run the migrations)",
                         version, newest_version());
    }
    return 0;
}
