/*
 * store_pool - the connections of a store: opened on demand, lent out, dropped when in doubt.
 *
 * Owns: libpq's connection settings, the pool's bounds, what an absent server costs.
 * Does not own: statements (store.c). Threads: the lock is held only to take or give back a
 * connection, never over I/O. Failure: ERR_OVERLOADED when all connections stay lent out;
 * ERR_DATABASE_DOWN when the server is away, at once for CONNECT_BACKOFF_MS after a failed
 * connect, and then for everybody but the one caller who tries again.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/store/store_internal.h"

enum { CONNECT_BACKOFF_MS = 250 };

struct store {
    struct store_options options;
    char *conninfo, *application;
    struct store_reads reads;
    pthread_mutex_t lock;
    pthread_cond_t returned;
    struct connection *idle;
    int open;    /* connections that exist, idle or lent out */
    int opening; /* of these, being connected now */
    bool away;   /* the last connect failed */
    int64_t no_connect_before_ms;
    enum error_code last_code;
    char last_failure[ERROR_MESSAGE_BYTES];
};

struct store *store_new(const struct store_options *options)
{
    struct store *store = xcalloc(1, sizeof(*store));

    store->conninfo = xstrdup(options->conninfo);
    store->application = xstrdup(options->application);
    store->options = *options;
    pthread_mutex_init(&store->reads.lock, NULL);
    pthread_mutex_init(&store->lock, NULL);
    clock_cond_init(&store->returned);
    return store;
}

static void connection_free(struct connection *connection)
{
    PQfinish(connection->pg);
    free(connection);
}

static void connections_free(struct connection *first)
{
    while (first != NULL) {
        struct connection *next = first->next;

        connection_free(first);
        first = next;
    }
}

void store_free(struct store *store)
{
    if (store == NULL) {
        return;
    }
    connections_free(store->idle);
    pthread_mutex_destroy(&store->reads.lock);
    pthread_cond_destroy(&store->returned);
    pthread_mutex_destroy(&store->lock);
    free(store->conninfo);
    free(store->application);
    free(store);
}

int store_statement_timeout_ms(const struct store *store)
{
    return store->options.statement_timeout_ms;
}

int store_pool_wait_ms(const struct store *store)
{
    return store->options.pool_wait_ms;
}

struct store_reads *store_reads(struct store *store)
{
    return &store->reads;
}

/* ---- connecting ---------------------------------------------------------------------------- */

int store_connection_failed(PGconn *pg, struct error *err)
{
    char text[ERROR_MESSAGE_BYTES];

    str_copy(text, sizeof(text), pg != NULL ? PQerrorMessage(pg) : "out of memory");
    text[strcspn(text, "\n")] = '\0';
    return error_set(err, ERR_DATABASE_DOWN, "database: %s",
                     text[0] != '\0' ? text : "connection lost");
}

enum { SETTINGS_MAX = 64, OPTIONS_BYTES = 1024 };

/* Keywords and values for PQconnectdbParams; of a keyword given twice the later one counts. */
struct settings {
    const char *keywords[SETTINGS_MAX], *values[SETTINGS_MAX];
    int count;
};

static int add_setting(struct settings *settings, const char *keyword, const char *value,
                       struct error *err)
{
    if (settings->count >= SETTINGS_MAX - 1) {
        return error_set(err, ERR_CONFIG, "DATABASE_URL: more than %d settings", SETTINGS_MAX);
    }
    settings->keywords[settings->count] = keyword;
    settings->values[settings->count++] = value;
    return 0;
}

/*
 * What the user wrote wins over our defaults; `options` is both, ours last. GSS encryption is tried
 * before anything else and costs a round trip and a reconnect where it is not used.
 */
static int merge_settings(const PQconninfoOption *user, struct settings *settings, char *options,
                          const char *connect_timeout, const char *application, struct error *err)
{
    const char *defaults[][2] = {
        {"fallback_application_name", application},
        {"connect_timeout", connect_timeout},
        {"gssencmode", "disable"},
        {"target_session_attrs", "read-write"},
        {"keepalives_idle", "10"},
        {"keepalives_interval", "5"},
        {"keepalives_count", "3"},
        {"tcp_user_timeout", "10000"},
    };

    for (size_t i = 0; i < sizeof(defaults) / sizeof(defaults[0]); i++) {
        if (add_setting(settings, defaults[i][0], defaults[i][1], err) < 0) {
            return -1;
        }
    }
    for (; user->keyword != NULL; user++) {
        if (user->val == NULL) {
            continue;
        }
        if (strcmp(user->keyword, "options") == 0) {
            char ours[OPTIONS_BYTES];

            str_copy(ours, sizeof(ours), options);
            if (snprintf(options, OPTIONS_BYTES, "%s %s", user->val, ours) >= OPTIONS_BYTES) {
                return error_set(err, ERR_CONFIG, "DATABASE_URL: options are too long");
            }
        } else if (add_setting(settings, user->keyword, user->val, err) < 0) {
            return -1;
        }
    }
    return add_setting(settings, "options", options, err);
}

static PGconn *open_pg(const struct store *store, struct error *err)
{
    char connect_timeout[16], options[OPTIONS_BYTES];
    struct settings settings = {.count = 0};
    PQconninfoOption *user = PQconninfoParse(store->conninfo, NULL);
    PGconn *pg = NULL;

    if (user == NULL) {
        /* libpq's own message would quote the URL, password and all */
        error_set(err, ERR_CONFIG, "DATABASE_URL is neither a postgresql:// URL nor key=value");
        return NULL;
    }
    snprintf(connect_timeout, sizeof(connect_timeout), "%d", store->options.connect_timeout_s);
    /* Planned once, as planning our larger statements costs more than running them; and planned for
     * full tables, as the plan is often made while they are empty (queries.def). */
    snprintf(options, sizeof(options),
             "-c statement_timeout=%d -c plan_cache_mode=force_generic_plan -c jit=off "
             "-c enable_seqscan=off -c enable_bitmapscan=off -c enable_hashjoin=off "
             "-c enable_mergejoin=off",
             store->options.statement_timeout_ms);
    if (merge_settings(user, &settings, options, connect_timeout, store->application, err) == 0) {
        pg = PQconnectdbParams(settings.keywords, settings.values, 0);
        if (PQstatus(pg) != CONNECTION_OK || PQsetnonblocking(pg, 1) != 0) {
            store_connection_failed(pg, err);
            PQfinish(pg);
            pg = NULL;
        } else {
            PQsetErrorVerbosity(pg, PQERRORS_TERSE);
        }
    }
    PQconninfoFree(user);
    return pg;
}

/*
 * The server says goodbye on an idle connection too: a goodbye or an end of file that is already
 * here would fail the next statement, and a statement that writes is not repeated.
 */
static bool is_alive(struct connection *connection)
{
    struct pollfd fd = {.fd = PQsocket(connection->pg), .events = POLLIN};

    while (fd.fd >= 0 && poll(&fd, 1, 0) > 0) {
        if (PQconsumeInput(connection->pg) == 0) {
            return false;
        }
    }
    return PQstatus(connection->pg) == CONNECTION_OK;
}

/* The server tells with its next answer when these change (PostgreSQL 14). */
static bool takes_writes(const PGconn *pg)
{
    const char *read_only = PQparameterStatus(pg, "default_transaction_read_only");
    const char *standby = PQparameterStatus(pg, "in_hot_standby");

    return (read_only == NULL || strcmp(read_only, "on") != 0) &&
           (standby == NULL || strcmp(standby, "on") != 0);
}

/* ---- lending ------------------------------------------------------------------------------- */

static int wait_for_place(struct store *store, struct error *err)
{
    const struct timespec until = clock_cond_until(store->options.pool_wait_ms);

    while (store->idle == NULL && store->open >= store->options.pool_size) {
        if (pthread_cond_timedwait(&store->returned, &store->lock, &until) == ETIMEDOUT) {
            return error_set(err, ERR_OVERLOADED, "database: no free connection within %d ms",
                             store->options.pool_wait_ms);
        }
    }
    return 0;
}

/* The caller has counted the new connection; a failure uncounts it. */
static struct connection *open_connection(struct store *store, struct error *err)
{
    PGconn *pg = open_pg(store, err);
    struct connection *connection = NULL;

    if (pg != NULL) {
        connection = xcalloc(1, sizeof(*connection));
        connection->pg = pg;
        connection->took_writes = takes_writes(pg);
    }
    pthread_mutex_lock(&store->lock);
    store->opening--;
    store->away = pg == NULL;
    if (pg == NULL) {
        store->open--;
        store->no_connect_before_ms = clock_mono_ms() + CONNECT_BACKOFF_MS;
        store->last_code = err->code;
        str_copy(store->last_failure, sizeof(store->last_failure), err->message);
        pthread_cond_signal(&store->returned);
    }
    pthread_mutex_unlock(&store->lock);
    return connection;
}

struct connection *store_borrow(struct store *store, struct error *err)
{
    struct connection *connection;

    pthread_mutex_lock(&store->lock);
    if (wait_for_place(store, err) < 0) {
        pthread_mutex_unlock(&store->lock);
        return NULL;
    }
    while (store->idle != NULL) {
        connection = store->idle;
        store->idle = connection->next;
        pthread_mutex_unlock(&store->lock);
        if (is_alive(connection)) {
            return connection;
        }
        connection_free(connection);
        pthread_mutex_lock(&store->lock);
        store->open--;
    }
    if (store->away && (store->opening > 0 || clock_mono_ms() < store->no_connect_before_ms)) {
        error_set(err, store->last_code, "%s", store->last_failure);
        pthread_mutex_unlock(&store->lock);
        return NULL;
    }
    store->open++;
    store->opening++;
    pthread_mutex_unlock(&store->lock);
    return open_connection(store, err);
}

void store_return(struct store *store, struct connection *connection)
{
    /* who only reads would never be refused, and read for ever what is no longer written there */
    bool turned = connection->took_writes && !takes_writes(connection->pg);
    bool usable = !turned && !connection->demoted && PQstatus(connection->pg) == CONNECTION_OK &&
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
    if (turned) {
        store_drop_idle(store);
    }
}

void store_drop_idle(struct store *store)
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
    connections_free(idle);
}
