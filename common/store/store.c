/*
 * store - running statements, see store.h.
 *
 * Owns: prepared statements, waiting with a deadline, SQLSTATE -> error code.
 * Does not own: the pool (store_pool.c), any statement's meaning (store_accept.c, store_jobs.c,
 * store_reap.c, store_users.c). Threads: a connection belongs to one caller at a time.
 * Failure: a connection whose state is in doubt is closed, never reused. A server that stops
 * answering (frozen, half-open) costs statement_timeout_ms + 1 s, because every wait is ours and
 * has a deadline.
 */
#include "common/store/store.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/strbuf.h"
#include "common/store/store_internal.h"

enum {
    ANSWER_GRACE_MS = 1000, /* the server's own statement_timeout gets the first chance */
    CONFLICT_RETRIES = 3,   /* deadlock or serialization failure: nothing was done, so again */
    PARAM_ARRAY_MAX_BYTES = 64 << 20,
};

static const struct {
    const char *name;
    const char *text;
    int parameters;
    bool read_only;
} queries[QUERY_COUNT] = {
#define X(query, parameters_, read_only_, text_)                                                   \
    [Q_##query] = {#query, text_, parameters_, read_only_},
#include "common/store/queries.def"
#undef X
};

#define X(query, parameters_, read_only_, text_)                                                   \
    _Static_assert(parameters_ <= QUERY_MAX_PARAMS, #query " has more parameters than fit");
#include "common/store/queries.def"
#undef X

/* ---- talking, with a deadline
 * --------------------------------------------------------------------- */

/* Waits until the socket is ready and lets libpq move bytes. -1: connection lost or deadline
 * passed. */
static int pump(struct connection *connection, int64_t until_ms, struct error *err)
{
    int unsent = PQflush(connection->pg);
    struct pollfd fd = {.fd = PQsocket(connection->pg),
                        .events = (short)(POLLIN | (unsent > 0 ? POLLOUT : 0))};
    int64_t left = until_ms == 0 ? -1 : until_ms - clock_mono_ms();
    int ready;

    if (unsent < 0 || fd.fd < 0) {
        return store_connection_failed(connection->pg, err);
    }
    if (until_ms != 0 && left <= 0) {
        return error_set(err, ERR_DATABASE_DOWN, "database: no answer in time");
    }
    ready = poll(&fd, 1, (int)left);
    if (ready < 0 && errno != EINTR) {
        return error_set_errno(err, ERR_DATABASE_DOWN, errno, "database: poll");
    }
    if (ready > 0 && (fd.revents & ~POLLOUT) != 0 && PQconsumeInput(connection->pg) == 0) {
        return store_connection_failed(connection->pg, err);
    }
    return 0;
}

/* The next result (NULL = end of this statement's results). */
static int next_result(struct connection *connection, int64_t until_ms, PGresult **ret,
                       struct error *err)
{
    while (PQisBusy(connection->pg)) {
        if (pump(connection, until_ms, err) < 0) {
            return -1;
        }
    }
    *ret = PQgetResult(connection->pg);
    return 0;
}

/* A connection given up in the middle of a statement must not look reusable. */
static void poison(struct connection *connection)
{
    PQfinish(connection->pg);
    connection->pg = NULL;
}

static bool is_state(const PGresult *result, const char *wanted)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

    return state != NULL && strcmp(state, wanted) == 0;
}

static bool is_conflict(const PGresult *result)
{
    return is_state(result, "40001") || is_state(result, "40P01");
}

/* What check_quota() raises: name limit used seconds. */
static int quota_error(const char *message, struct error *err)
{
    const char *at = strchr(message, ' ');
    int name_length = at != NULL ? (int)(at - message) : (int)strlen(message);
    int64_t numbers[3] = {0};
    char *end;

    for (int i = 0; i < 3 && at != NULL && *at != '\0'; i++, at = end) {
        numbers[i] = strtoll(at, &end, 10);
    }
    error_set(err, ERR_QUOTA, "%.*s: the limit is %lld, and %lld are used", name_length, message,
              (long long)numbers[0], (long long)numbers[1]);
    err->limit = numbers[0];
    err->used = numbers[1];
    err->retry_after_s = (int)numbers[2];
    return -1;
}

/* The one place where SQLSTATE becomes an error code. Details may quote data, so only the primary
 * message is kept. */
static int result_error(const PGresult *result, struct error *err)
{
    static const struct {
        const char *prefix;
        enum error_code code;
    } map[] = {
        {"08", ERR_DATABASE_DOWN},    /* connection */
        {"57P", ERR_DATABASE_DOWN},   /* shutdown, crash, starting up */
        {"53", ERR_DATABASE_DOWN},    /* too many connections, disk or memory full */
        {"57014", ERR_DATABASE_DOWN}, /* statement_timeout */
        {"55P03", ERR_DATABASE_DOWN}, /* lock_timeout */
        {"25006", ERR_DATABASE_DOWN}, /* a standby: not the primary any more */
        {"40", ERR_DATABASE_DOWN},    /* deadlock, serialization: after our own retries */
        {"SB001", ERR_FENCED},        /* bind_idempotency_key() */
        {"23505", ERR_EXISTS},        {"23503", ERR_NOT_FOUND}, {"22", ERR_INVALID},
        {"42P01", ERR_CONFIG},        {"42703", ERR_CONFIG},    {"42883", ERR_CONFIG},
    };
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

    if (is_state(result, "SB002") && primary != NULL) {
        return quota_error(primary, err);
    }
    for (size_t i = 0; state != NULL && i < sizeof(map) / sizeof(map[0]); i++) {
        if (strncmp(state, map[i].prefix, strlen(map[i].prefix)) == 0) {
            return error_set(err, map[i].code, "database: %s%s", primary != NULL ? primary : state,
                             map[i].code == ERR_CONFIG ? " (run the migrations)" : "");
        }
    }
    return error_set(err, ERR_INTERNAL, "database: %s (%s)",
                     primary != NULL ? primary : "unknown error",
                     state != NULL ? state : "no code");
}

/* An error the server told. One that takes no more writes may keep its connections for ever, while
 * another of the hosts in DATABASE_URL takes them. */
static int told_error(struct connection *connection, const PGresult *result, struct error *err)
{
    connection->demoted = connection->demoted || is_state(result, "25006");
    return result_error(result, err);
}

static bool is_lost(const struct connection *connection)
{
    return connection->demoted || PQstatus(connection->pg) != CONNECTION_OK;
}

/* Collects one statement's last result and checks it. *ret_conflict: nothing was done, try again.
 */
static int collect(struct connection *connection, int64_t until_ms, PGresult **ret,
                   bool *ret_conflict, struct error *err)
{
    PGresult *last = NULL, *result;
    int status = 0;

    for (;;) {
        if (next_result(connection, until_ms, &result, err) < 0) {
            PQclear(last);
            poison(connection);
            return -1;
        }
        if (result == NULL) {
            break;
        }
        /* the first failure is the one that tells; later results only follow from it */
        if (last != NULL && PQresultStatus(last) == PGRES_FATAL_ERROR) {
            PQclear(result);
            continue;
        }
        PQclear(last);
        last = result;
    }
    if (last == NULL) {
        store_connection_failed(connection->pg, err);
        poison(connection);
        return -1;
    }
    if (PQresultStatus(last) != PGRES_TUPLES_OK && PQresultStatus(last) != PGRES_COMMAND_OK) {
        *ret_conflict = is_conflict(last);
        status = PQstatus(connection->pg) == CONNECTION_OK
                     ? told_error(connection, last, err)
                     : store_connection_failed(connection->pg, err);
        PQclear(last);
        last = NULL;
    }
    *ret = last;
    return status;
}

int store_connection_run(struct connection *connection, const char *sql, int timeout_ms,
                         PGresult **ret, struct error *err)
{
    bool conflict = false;
    PGresult *result = NULL;
    int status;

    if (PQsendQuery(connection->pg, sql) == 0) {
        return store_connection_failed(connection->pg, err);
    }
    status = collect(connection, timeout_ms > 0 ? clock_mono_ms() + timeout_ms : 0, &result,
                     &conflict, err);
    if (status == 0 && ret != NULL) {
        *ret = result;
    } else {
        PQclear(result);
    }
    return status;
}

static int prepare(struct connection *connection, enum query query, int64_t until_ms,
                   struct error *err)
{
    bool conflict;
    PGresult *result;

    if (connection->prepared[query]) {
        return 0;
    }
    if (PQsendPrepare(connection->pg, queries[query].name, queries[query].text, 0, NULL) == 0) {
        return store_connection_failed(connection->pg, err);
    }
    if (collect(connection, until_ms, &result, &conflict, err) < 0) {
        return -1;
    }
    PQclear(result);
    connection->prepared[query] = true;
    return 0;
}

static int64_t answer_deadline(const struct store *store)
{
    return clock_mono_ms() + store_statement_timeout_ms(store) + ANSWER_GRACE_MS;
}

static int run_once(struct store *store, enum query query, const struct params *params,
                    PGresult **ret, bool *ret_conflict, bool *ret_lost, struct error *err)
{
    struct connection *connection = store_borrow(store, err);
    int64_t until_ms;
    int status;

    *ret_lost = false;
    if (connection == NULL) {
        return -1;
    }
    assert(params->count == queries[query].parameters);
    until_ms = answer_deadline(store);
    status = prepare(connection, query, until_ms, err);
    if (status == 0 && PQsendQueryPrepared(connection->pg, queries[query].name, params->count,
                                           params->values, NULL, NULL, 0) == 0) {
        status = store_connection_failed(connection->pg, err);
    } else if (status == 0) {
        status = collect(connection, until_ms, ret, ret_conflict, err);
    }
    *ret_lost = status < 0 && is_lost(connection);
    store_return(store, connection);
    if (*ret_lost) {
        store_drop_idle(store);
    }
    return status;
}

int store_query(struct store *store, enum query query, const struct params *params, PGresult **ret,
                struct error *err)
{
    bool retried = false;

    for (int conflicts = 0;;) {
        bool conflict = false, lost;

        if (run_once(store, query, params, ret, &conflict, &lost, err) == 0) {
            return 0;
        }
        if (conflict && ++conflicts < CONFLICT_RETRIES) {
            continue;
        }
        /* a pooled connection may have died unseen; a read can be asked again */
        if (lost && queries[query].read_only && !retried) {
            retried = true;
            continue;
        }
        return -1;
    }
}

int store_execute(struct store *store, enum query query, const struct params *params,
                  struct error *err)
{
    PGresult *result;

    if (store_query(store, query, params, &result, err) < 0) {
        return -1;
    }
    PQclear(result);
    return 0;
}

/* What lies between two syncs of a pipeline is one transaction; an error in one undoes all. */
static int send_batch(struct connection *connection, const struct statement *statements,
                      size_t count, struct error *err)
{
    bool sent = PQenterPipelineMode(connection->pg) == 1;

    for (size_t i = 0; sent && i < count; i++) {
        const struct params *params = statements[i].params;

        assert(params->count == queries[statements[i].query].parameters);
        sent = PQsendQueryPrepared(connection->pg, queries[statements[i].query].name, params->count,
                                   params->values, NULL, NULL, 0) == 1;
    }
    sent = sent && PQpipelineSync(connection->pg) == 1;
    return sent ? 0 : store_connection_failed(connection->pg, err);
}

/* Reads the answer of one statement and the NULL behind it. The first failure is kept in err. */
static int read_statement(struct store *store, struct connection *connection,
                          struct statement *statement, int *status, bool *ret_conflict,
                          struct error *err)
{
    int64_t until_ms = answer_deadline(store);
    PGresult *nothing;

    if (next_result(connection, until_ms, &statement->result, err) < 0) {
        return -1;
    }
    if (statement->result == NULL) {
        return store_connection_failed(connection->pg, err);
    }
    if (*status == 0 && PQresultStatus(statement->result) == PGRES_FATAL_ERROR) {
        *ret_conflict = is_conflict(statement->result);
        *status = told_error(connection, statement->result, err);
    } else if (*status == 0 && PQresultStatus(statement->result) != PGRES_TUPLES_OK &&
               PQresultStatus(statement->result) != PGRES_COMMAND_OK) {
        *status = error_set(err, ERR_INTERNAL, "database: unexpected answer in a batch");
    }
    if (next_result(connection, until_ms, &nothing, err) < 0) {
        return -1;
    }
    PQclear(nothing);
    return 0;
}

static int read_batch(struct store *store, struct connection *connection,
                      struct statement *statements, size_t count, bool *ret_conflict,
                      struct error *err)
{
    PGresult *sync;
    int status = 0;

    for (size_t i = 0; i < count; i++) {
        if (read_statement(store, connection, &statements[i], &status, ret_conflict, err) < 0) {
            return -1;
        }
    }
    /* the commit happens at the sync, and may fail there */
    if (next_result(connection, answer_deadline(store), &sync, err) < 0) {
        return -1;
    }
    if (status == 0 && PQresultStatus(sync) == PGRES_FATAL_ERROR) {
        *ret_conflict = is_conflict(sync);
        status = told_error(connection, sync, err);
    } else if (status == 0 && PQresultStatus(sync) != PGRES_PIPELINE_SYNC) {
        status = store_connection_failed(connection->pg, err);
    }
    PQclear(sync);
    /* refused while more is to come: the connection is dropped when it is given back */
    if (PQexitPipelineMode(connection->pg) != 1 && status == 0) {
        status = store_connection_failed(connection->pg, err);
    }
    return status;
}

static int batch_once(struct store *store, struct statement *statements, size_t count,
                      bool *ret_conflict, struct error *err)
{
    struct connection *connection = store_borrow(store, err);
    int status = 0;
    bool lost;

    if (connection == NULL) {
        return -1;
    }
    for (size_t i = 0; i < count && status == 0; i++) {
        status = prepare(connection, statements[i].query, answer_deadline(store), err);
    }
    if (status == 0) {
        status = send_batch(connection, statements, count, err);
    }
    if (status == 0) {
        status = read_batch(store, connection, statements, count, ret_conflict, err);
    }
    for (size_t i = 0; i < count && status < 0; i++) {
        PQclear(statements[i].result);
        statements[i].result = NULL;
    }
    lost = status < 0 && is_lost(connection);
    store_return(store, connection);
    if (lost) {
        store_drop_idle(store);
    }
    return status;
}

int store_query_batch(struct store *store, struct statement *statements, size_t count,
                      struct error *err)
{
    for (int conflicts = 0;; conflicts++) {
        bool conflict = false;

        for (size_t i = 0; i < count; i++) {
            statements[i].result = NULL;
        }
        if (batch_once(store, statements, count, &conflict, err) == 0) {
            return 0;
        }
        if (!conflict || conflicts >= CONFLICT_RETRIES) {
            return -1;
        }
    }
}

/* ---- parameters
 * -------------------------------------------------------------------------------------- */

void param_text(struct params *params, const char *text)
{
    params->values[params->count++] = text != NULL ? text : "";
}

void param_int(struct params *params, int64_t value)
{
    char *number = params->numbers[params->count];

    snprintf(number, sizeof(params->numbers[0]), "%lld", (long long)value);
    params->values[params->count++] = number;
}

char *param_id_array(const char *const *ids, size_t count)
{
    struct strbuf text;

    strbuf_init(&text, PARAM_ARRAY_MAX_BYTES);
    strbuf_putc(&text, '{');
    for (size_t i = 0; i < count; i++) {
        strbuf_printf(&text, "%s%s", i > 0 ? "," : "", ids[i]);
    }
    strbuf_putc(&text, '}');
    return strbuf_take(&text);
}

int store_deployment_id(struct store *store, char ret[UUID_BYTES], struct error *err)
{
    struct params none = {.count = 0};
    PGresult *result;

    if (store_query(store, Q_DEPLOYMENT_ID, &none, &result, err) < 0) {
        return -1;
    }
    if (PQntuples(result) != 1) {
        PQclear(result);
        return error_set(err, ERR_CONFIG, "database: no deployment row; run the migrations");
    }
    row_text(result, 0, 0, ret, UUID_BYTES);
    PQclear(result);
    return 0;
}
