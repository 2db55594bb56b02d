/*
 * store - connections and statements, see store.h.
 *
 * Owns: the pool, prepared statements, waiting with a deadline, SQLSTATE -> error code.
 * Does not own: any statement's meaning (store_accept.c, store_jobs.c, store_reap.c,
 * store_users.c). Threads: the pool is locked only to take or give back a connection, never over
 * I/O. Failure: a connection whose state is in doubt is closed, never reused. A server that stops
 * answering (frozen, half-open) costs statement_timeout_ms + 1 s, because every wait is ours and
 * has a deadline.
 */
#include "common/store/store.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/strbuf.h"
#include "common/store/store_internal.h"

enum {
    CONNECT_BACKOFF_MS = 250, /* after a failed connect others fail at once for so long */
    ANSWER_GRACE_MS = 1000,   /* the server's own statement_timeout gets the first chance */
    CONFLICT_RETRIES = 3,     /* deadlock or serialization failure: nothing was done, so again */
    PARAM_ARRAY_MAX_BYTES = 4 << 20,
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

struct connection {
    PGconn *pg;
    bool prepared[QUERY_COUNT];
    struct connection *next;
};

struct store {
    struct store_options options;
    char *conninfo, *application;
    pthread_mutex_t lock;
    pthread_cond_t returned;
    struct connection *idle;
    int open; /* connections that exist, idle or borrowed */
    int64_t no_connect_before_ms;
    char last_failure[ERROR_MESSAGE_BYTES];
};

struct store *store_new(const struct store_options *options)
{
    struct store *store = xcalloc(1, sizeof(*store));
    pthread_condattr_t attributes;

    store->conninfo = xstrdup(options->conninfo);
    store->application = xstrdup(options->application);
    store->options = *options;
    pthread_mutex_init(&store->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&store->returned, &attributes);
    pthread_condattr_destroy(&attributes);
    return store;
}

static void connection_free(struct connection *connection)
{
    PQfinish(connection->pg);
    free(connection);
}

void store_free(struct store *store)
{
    if (store == NULL) {
        return;
    }
    while (store->idle != NULL) {
        struct connection *next = store->idle->next;

        connection_free(store->idle);
        store->idle = next;
    }
    pthread_cond_destroy(&store->returned);
    pthread_mutex_destroy(&store->lock);
    free(store->conninfo);
    free(store->application);
    free(store);
}

/* ---- connecting --------------------------------------------------------------------------------
 */

/* libpq's text is several lines and may name hosts, never the password; one line is kept. */
static int connection_failed(PGconn *pg, struct error *err)
{
    char text[ERROR_MESSAGE_BYTES];

    str_copy(text, sizeof(text), pg != NULL ? PQerrorMessage(pg) : "out of memory");
    text[strcspn(text, "\n")] = '\0';
    return error_set(err, ERR_DATABASE_DOWN, "database: %s",
                     text[0] != '\0' ? text : "connection lost");
}

static PGconn *open_pg(const struct store *store, struct error *err)
{
    char connect_timeout[16], settings[64];
    const char *keywords[] = {
        "dbname",          "application_name", "connect_timeout", "tcp_user_timeout",
        "keepalives_idle", "gssencmode",       "options",         NULL};
    const char *values[] = {store->conninfo,
                            store->application,
                            connect_timeout,
                            "10000",
                            "10",
                            "disable",
                            settings,
                            NULL};
    PGconn *pg;

    snprintf(connect_timeout, sizeof(connect_timeout), "%d", store->options.connect_timeout_s);
    snprintf(settings, sizeof(settings), "-c statement_timeout=%d",
             store->options.statement_timeout_ms);
    /* expand_dbname: a URL or key=value string given as dbname fills the rest */
    pg = PQconnectdbParams(keywords, values, 1);
    if (PQstatus(pg) != CONNECTION_OK) {
        connection_failed(pg, err);
        PQfinish(pg);
        return NULL;
    }
    PQsetErrorVerbosity(pg, PQERRORS_TERSE);
    if (PQsetnonblocking(pg, 1) != 0) {
        connection_failed(pg, err);
        PQfinish(pg);
        return NULL;
    }
    return pg;
}

static int wait_for_place(struct store *store, struct error *err)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += store->options.pool_wait_ms / 1000;
    until.tv_nsec += (long)(store->options.pool_wait_ms % 1000) * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    while (store->idle == NULL && store->open >= store->options.pool_size) {
        if (pthread_cond_timedwait(&store->returned, &store->lock, &until) == ETIMEDOUT) {
            return error_set(err, ERR_OVERLOADED, "database: no free connection within %d ms",
                             store->options.pool_wait_ms);
        }
    }
    return 0;
}

struct connection *store_borrow(struct store *store, struct error *err)
{
    struct connection *connection;
    PGconn *pg;

    pthread_mutex_lock(&store->lock);
    if (wait_for_place(store, err) < 0) {
        pthread_mutex_unlock(&store->lock);
        return NULL;
    }
    connection = store->idle;
    if (connection != NULL) {
        store->idle = connection->next;
        pthread_mutex_unlock(&store->lock);
        return connection;
    }
    if (clock_mono_ms() < store->no_connect_before_ms) {
        error_set(err, ERR_DATABASE_DOWN, "%s", store->last_failure);
        pthread_mutex_unlock(&store->lock);
        return NULL;
    }
    store->open++;
    pthread_mutex_unlock(&store->lock);

    pg = open_pg(store, err);
    if (pg == NULL) {
        pthread_mutex_lock(&store->lock);
        store->open--;
        store->no_connect_before_ms = clock_mono_ms() + CONNECT_BACKOFF_MS;
        str_copy(store->last_failure, sizeof(store->last_failure), err->message);
        pthread_cond_signal(&store->returned);
        pthread_mutex_unlock(&store->lock);
        return NULL;
    }
    connection = xcalloc(1, sizeof(*connection));
    connection->pg = pg;
    return connection;
}

void store_return(struct store *store, struct connection *connection)
{
    bool usable = PQstatus(connection->pg) == CONNECTION_OK &&
                  PQtransactionStatus(connection->pg) == PQTRANS_IDLE &&
                  PQpipelineStatus(connection->pg) == PQ_PIPELINE_OFF;

    if (!usable) {
        connection_free(connection);
    }
    pthread_mutex_lock(&store->lock);
    if (usable) {
        connection->next = store->idle;
        store->idle = connection;
    } else {
        store->open--;
    }
    pthread_cond_signal(&store->returned);
    pthread_mutex_unlock(&store->lock);
}

/* After one dead connection the other idle ones are as dead: a restarted server killed them all. */
static void drop_idle(struct store *store)
{
    struct connection *idle;

    pthread_mutex_lock(&store->lock);
    idle = store->idle;
    store->idle = NULL;
    for (struct connection *c = idle; c != NULL; c = c->next) {
        store->open--;
    }
    pthread_cond_broadcast(&store->returned);
    pthread_mutex_unlock(&store->lock);
    while (idle != NULL) {
        struct connection *next = idle->next;

        connection_free(idle);
        idle = next;
    }
}

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
        return connection_failed(connection->pg, err);
    }
    if (until_ms != 0 && left <= 0) {
        return error_set(err, ERR_DATABASE_DOWN, "database: no answer in time");
    }
    ready = poll(&fd, 1, (int)left);
    if (ready < 0 && errno != EINTR) {
        return error_set_errno(err, ERR_DATABASE_DOWN, errno, "database: poll");
    }
    if (ready > 0 && (fd.revents & ~POLLOUT) != 0 && PQconsumeInput(connection->pg) == 0) {
        return connection_failed(connection->pg, err);
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

static bool is_conflict(const PGresult *result)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

    return state != NULL && (strcmp(state, "40001") == 0 || strcmp(state, "40P01") == 0);
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
        {"23505", ERR_EXISTS},        {"23503", ERR_NOT_FOUND}, {"42P01", ERR_CONFIG},
        {"42703", ERR_CONFIG},        {"42883", ERR_CONFIG},
    };
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

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
        connection_failed(connection->pg, err);
        poison(connection);
        return -1;
    }
    if (PQresultStatus(last) != PGRES_TUPLES_OK && PQresultStatus(last) != PGRES_COMMAND_OK) {
        *ret_conflict = is_conflict(last);
        status = PQstatus(connection->pg) == CONNECTION_OK ? result_error(last, err)
                                                           : connection_failed(connection->pg, err);
        PQclear(last);
        last = NULL;
    }
    *ret = last;
    return status;
}

int connection_run(struct connection *connection, const char *sql, int timeout_ms, PGresult **ret,
                   struct error *err)
{
    bool conflict = false;
    PGresult *result = NULL;
    int status;

    if (PQsendQuery(connection->pg, sql) == 0) {
        return connection_failed(connection->pg, err);
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
        return connection_failed(connection->pg, err);
    }
    if (collect(connection, until_ms, &result, &conflict, err) < 0) {
        return -1;
    }
    PQclear(result);
    connection->prepared[query] = true;
    return 0;
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
    until_ms = clock_mono_ms() + store->options.statement_timeout_ms + ANSWER_GRACE_MS;
    status = prepare(connection, query, until_ms, err);
    if (status == 0 && PQsendQueryPrepared(connection->pg, queries[query].name, params->count,
                                           params->values, NULL, NULL, 0) == 0) {
        status = connection_failed(connection->pg, err);
    } else if (status == 0) {
        status = collect(connection, until_ms, ret, ret_conflict, err);
    }
    *ret_lost = status < 0 && PQstatus(connection->pg) != CONNECTION_OK;
    store_return(store, connection);
    if (*ret_lost) {
        drop_idle(store);
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

/* Sends BEGIN, the statements and COMMIT as one pipeline; an error in one aborts all. */
static int send_batch(struct connection *connection, enum query query, const struct params *params,
                      size_t count, struct error *err)
{
    bool sent = PQenterPipelineMode(connection->pg) == 1 &&
                PQsendQueryParams(connection->pg, "BEGIN", 0, NULL, NULL, NULL, NULL, 0) == 1;

    for (size_t i = 0; sent && i < count; i++) {
        sent = PQsendQueryPrepared(connection->pg, queries[query].name, params[i].count,
                                   params[i].values, NULL, NULL, 0) == 1;
    }
    sent = sent && PQsendQueryParams(connection->pg, "COMMIT", 0, NULL, NULL, NULL, NULL, 0) == 1 &&
           PQpipelineSync(connection->pg) == 1;
    return sent ? 0 : connection_failed(connection->pg, err);
}

/* Reads count + 2 answers and the sync; keeps the middle ones. */
static int read_batch(struct connection *connection, size_t count, PGresult **results,
                      int64_t until_ms, bool *ret_conflict, struct error *err)
{
    PGresult *result;
    int status = 0;

    for (size_t i = 0; i < count + 2; i++) {
        if (next_result(connection, until_ms, &result, err) < 0) {
            return -1;
        }
        if (result == NULL) {
            return connection_failed(connection->pg, err);
        }
        if (status == 0 && PQresultStatus(result) == PGRES_FATAL_ERROR) {
            *ret_conflict = is_conflict(result);
            status = result_error(result, err);
        } else if (status == 0 && PQresultStatus(result) == PGRES_PIPELINE_ABORTED) {
            status = error_set(err, ERR_INTERNAL, "database: the batch was aborted");
        }
        if (i >= 1 && i <= count) {
            results[i - 1] = result;
        } else {
            PQclear(result);
        }
        if (next_result(connection, until_ms, &result, err) < 0) { /* the NULL behind each */
            return -1;
        }
        PQclear(result);
    }
    if (next_result(connection, until_ms, &result, err) < 0) {
        return -1;
    }
    if (PQresultStatus(result) != PGRES_PIPELINE_SYNC) {
        status = status < 0 ? status : connection_failed(connection->pg, err);
    }
    PQclear(result);
    return PQexitPipelineMode(connection->pg) == 1 ? status
                                                   : connection_failed(connection->pg, err);
}

static int batch_once(struct store *store, enum query query, const struct params *params,
                      size_t count, PGresult **results, bool *ret_conflict, struct error *err)
{
    struct connection *connection = store_borrow(store, err);
    int64_t until_ms;
    int status;

    if (connection == NULL) {
        return -1;
    }
    until_ms = clock_mono_ms() + store->options.statement_timeout_ms + ANSWER_GRACE_MS;
    status = prepare(connection, query, until_ms, err);
    if (status == 0) {
        status = send_batch(connection, query, params, count, err);
    }
    if (status == 0) {
        status = read_batch(connection, count, results, until_ms, ret_conflict, err);
    }
    if (status < 0) {
        for (size_t i = 0; i < count; i++) {
            PQclear(results[i]);
            results[i] = NULL;
        }
    }
    store_return(store, connection);
    return status;
}

int store_query_batch(struct store *store, enum query query, const struct params *params,
                      size_t count, PGresult **results, struct error *err)
{
    for (int conflicts = 0;; conflicts++) {
        bool conflict = false;

        memset(results, 0, count * sizeof(*results));
        if (batch_once(store, query, params, count, results, &conflict, err) == 0) {
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

/* ---- the database itself
 * -------------------------------------------------------------------------------- */

int store_ping(struct store *store, struct error *err)
{
    struct params none = {.count = 0};

    return store_execute(store, Q_PING, &none, err);
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
