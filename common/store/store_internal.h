/*
 * store_internal - what the files of the store module share: queries, connections, rows.
 *
 * Not for anyone else: libpq's types stop here.
 */
#ifndef STORE_INTERNAL_H
#define STORE_INTERNAL_H

#include <libpq-fe.h>
#include <pthread.h>
#include <stdint.h>

#include "common/store/store.h"

enum query {
#define X(name, parameters, read_only, text) Q_##name,
#include "common/store/queries.def"
#undef X
    QUERY_COUNT
};

enum { QUERY_MAX_PARAMS = 32 };

/* Parameters of one statement, as text. Numbers live in `numbers`; texts are borrowed. */
struct params {
    const char *values[QUERY_MAX_PARAMS];
    char numbers[QUERY_MAX_PARAMS][24];
    int count;
};
void param_text(struct params *params, const char *text); /* NULL becomes '' */
void param_int(struct params *params, int64_t value);
/* '{a,b}' of ids; the caller frees it after the statement. */
char *param_id_array(const char *const *ids, size_t count);

/* ---- statements (store.c) ---- */
/* Runs one prepared statement on a pooled connection. *ret is owned by the caller (PQclear). */
int store_query(struct store *store, enum query query, const struct params *params, PGresult **ret,
                struct error *err) MUST_CHECK;
/* Runs a statement whose rows the caller does not need. */
int store_execute(struct store *store, enum query query, const struct params *params,
                  struct error *err) MUST_CHECK;
/* One statement of a batch. */
struct statement {
    enum query query;
    const struct params *params;
    PGresult *result;
};
/* All of them, in order, in one transaction and one round trip (libpq pipeline); each sees what was
 * committed before it began. On failure nothing was committed and no result is to be cleared. */
int store_query_batch(struct store *store, struct statement *statements, size_t count,
                      struct error *err) MUST_CHECK;

/* ---- the pool (store_pool.c) ---- */
struct connection {
    PGconn *pg;       /* NULL once given up in the middle of a statement */
    bool demoted;     /* its server has become a read-only standby */
    bool took_writes; /* when it was opened */
    bool prepared[QUERY_COUNT];
    struct connection *next;
};
/* NULL with err. Every connection lent out comes back through store_return(). */
struct connection *store_borrow(struct store *store, struct error *err);
/* Closes it unless it is certainly usable again. */
void store_return(struct store *store, struct connection *connection);
/* After one dead connection the idle ones are as dead: a restarted server killed them all. */
void store_drop_idle(struct store *store);
int store_statement_timeout_ms(const struct store *store);
int store_pool_wait_ms(const struct store *store);
/* Reads of sandboxes that wait to share a statement (store_reads.c). */
struct store_reads {
    pthread_mutex_t lock;
    int readers;                     /* callers that run a statement */
    struct store_read *first, *last; /* the others, oldest first */
};
struct store_reads *store_reads(struct store *store);
/* ERR_DATABASE_DOWN with the first line of libpq's message, which may name hosts but never a
 * password; returns -1. */
int store_connection_failed(PGconn *pg, struct error *err);

/* Plain SQL, several statements allowed. timeout_ms 0 = wait for ever. */
int store_connection_run(struct connection *connection, const char *sql, int timeout_ms,
                         PGresult **ret, struct error *err) MUST_CHECK;

/* ---- rows (store_rows.c) ---- */
int64_t row_int(const PGresult *result, int row, int column);
void row_text(const PGresult *result, int row, int column, char *out, size_t size);
/* Each starts at `column` and returns the column behind what it read. */
int row_sandbox(const PGresult *result, int row, int column, struct sandbox *ret);
int row_job(const PGresult *result, int row, int column, struct job *ret);
int row_wakeup(const PGresult *result, int row, int column, struct wakeup *ret);

/* ---- statements whose rows become structs (store_select.c) ---- */
struct row_type {
    size_t bytes; /* of the struct */
    void (*read)(const PGresult *result, int row, void *ret);
};
/* All rows as a heap array; `ret` is a `struct x **`. */
int select_rows(struct store *store, enum query query, const struct params *p,
                const struct row_type *type, void *ret, size_t *ret_count,
                struct error *err) MUST_CHECK;
/* One page of a list. The statement takes `limit` + 1 rows; its last column is the key of the next
 * page, in microseconds. *ret_next_us: that of the page's last row; 0 = no row follows. */
int select_page(struct store *store, enum query query, const struct params *p, int limit,
                const struct row_type *type, void *ret, size_t *ret_count, int64_t *ret_next_us,
                struct error *err) MUST_CHECK;
/* The first row, if any. type NULL = only *ret_found matters. */
int select_row(struct store *store, enum query query, const struct params *p,
               const struct row_type *type, void *ret, bool *ret_found,
               struct error *err) MUST_CHECK;
/* Rows that are a sandbox, a job, a wake-up, and nothing before it. */
extern const struct row_type sandbox_rows, job_rows, wakeup_rows;

/* ---- statements that give wake-ups (store_reap.c) ---- */
int query_wakeups(struct store *store, enum query query, const struct params *p,
                  struct wakeup **ret_wakeups, size_t *ret_count, struct error *err) MUST_CHECK;

/* ---- statements that give ids, at most `limit` (store_jobs.c) ---- */
int query_ids(struct store *store, enum query query, int limit, char (**ret_ids)[UUID_BYTES],
              size_t *ret_count, struct error *err) MUST_CHECK;

/* Migrations, made at build time from deploy/migrations: ordered, ends with version 0. */
struct migration {
    int version;
    const char *name;
    const char *sql;
};
extern const struct migration store_migrations[];

#endif
