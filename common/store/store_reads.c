/*
 * store_reads - reading one sandbox's row; concurrent reads are combined into one statement.
 *
 * Owns: the queue of reads that wait. Does not own: connections (store_pool.c), rows
 * (store_rows.c). Threads: at most READERS_MAX callers run a statement. The others wait in the
 * queue. A caller that becomes a reader takes the queue's first READ_BATCH_MAX reads with its own.
 * A read never joins a statement that is already running, so it sees everything committed before it
 * was asked for. Failure: ERR_OVERLOADED when no reader takes a read within pool_wait_ms; a failed
 * statement fails every read of its batch.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/id.h"
#include "common/store/store_internal.h"

enum { READERS_MAX = 2, READ_BATCH_MAX = 64 };

enum read_state {
    READ_QUEUED,
    READ_TAKEN, /* another caller's statement reads it */
    READ_LEADS, /* this caller is a reader now */
    READ_DONE,
};

/* One read, on its caller's stack. */
struct store_read {
    const char *sandbox_id, *owner;
    bool any_owner;
    enum read_state state; /* under store_reads.lock */
    pthread_cond_t changed;
    struct store_read *next;
    struct sandbox *sandbox;
    struct error *err;
    int status;
};

/* ---- the queue, under the lock ------------------------------------------------------------- */

static void append(struct store_reads *reads, struct store_read *read)
{
    read->next = NULL;
    if (reads->last != NULL) {
        reads->last->next = read;
    } else {
        reads->first = read;
    }
    reads->last = read;
}

static struct store_read *take_first(struct store_reads *reads, enum read_state state)
{
    struct store_read *read = reads->first;

    if (read != NULL) {
        reads->first = read->next;
        reads->last = reads->first != NULL ? reads->last : NULL;
        read->state = state;
    }
    return read;
}

static void withdraw(struct store_reads *reads, const struct store_read *read)
{
    struct store_read *before = NULL, *at = reads->first;

    while (at != read) {
        before = at;
        at = at->next;
    }
    if (before != NULL) {
        before->next = read->next;
    } else {
        reads->first = read->next;
    }
    reads->last = reads->last == read ? before : reads->last;
}

/* Waits until another caller has read for this one (READ_DONE) or it is a reader (READ_LEADS).
 * The wait for a reader is bounded here; the statement that then runs has its own deadline. */
static int wait_for_turn(struct store *store, struct store_reads *reads, struct store_read *read)
{
    const int wait_ms = store_pool_wait_ms(store);
    const struct timespec until = clock_cond_until(wait_ms);

    append(reads, read);
    while (read->state == READ_QUEUED) {
        if (pthread_cond_timedwait(&read->changed, &reads->lock, &until) == ETIMEDOUT &&
            read->state == READ_QUEUED) {
            withdraw(reads, read);
            return error_set(read->err, ERR_OVERLOADED, "database: no free reader within %d ms",
                             wait_ms);
        }
    }
    while (read->state == READ_TAKEN) {
        pthread_cond_wait(&read->changed, &reads->lock);
    }
    return 0;
}

/* ---- the statements ------------------------------------------------------------------------ */

static int not_found(struct error *err)
{
    return error_set(err, ERR_SANDBOX_NOT_FOUND, "no such sandbox");
}

static void read_one(struct store *store, struct store_read *read)
{
    struct params p = {.count = 0};
    bool found;

    param_text(&p, read->sandbox_id);
    param_text(&p, read->owner);
    param_int(&p, read->any_owner);
    read->status =
        select_row(store, Q_SANDBOX_GET, &p, &sandbox_rows, read->sandbox, &found, read->err);
    if (read->status == 0 && !found) {
        read->status = not_found(read->err);
    }
}

/* Columns of SANDBOX_COLUMNS that are compared before the row is copied. */
enum { COLUMN_ID, COLUMN_OWNER };

static void pick_row(const PGresult *result, struct store_read *read)
{
    for (int row = 0; row < PQntuples(result); row++) {
        if (strcmp(PQgetvalue(result, row, COLUMN_ID), read->sandbox_id) == 0) {
            if (read->any_owner ||
                strcmp(PQgetvalue(result, row, COLUMN_OWNER), read->owner) == 0) {
                row_sandbox(result, row, 0, read->sandbox);
                read->status = 0;
                return;
            }
            break;
        }
    }
    read->status = not_found(read->err);
}

static void read_many(struct store *store, struct store_read *const *batch, size_t count)
{
    const char *ids[READ_BATCH_MAX];
    struct params p = {.count = 0};
    struct error err = ERROR_INIT;
    PGresult *result = NULL;
    char *array;
    int status;

    for (size_t i = 0; i < count; i++) {
        ids[i] = batch[i]->sandbox_id;
    }
    array = param_id_array(ids, count);
    param_text(&p, array);
    status = store_query(store, Q_SANDBOX_GET_MANY, &p, &result, &err);
    free(array);
    for (size_t i = 0; i < count; i++) {
        if (status < 0) {
            *batch[i]->err = err;
            batch[i]->status = -1;
        } else {
            pick_row(result, batch[i]);
        }
    }
    PQclear(result);
}

/* Called and left with the lock held; the caller is one of `readers`. */
static void lead(struct store *store, struct store_reads *reads, struct store_read *own)
{
    struct store_read *batch[READ_BATCH_MAX] = {own}, *next;
    size_t count = 1;

    while (count < READ_BATCH_MAX && (next = take_first(reads, READ_TAKEN)) != NULL) {
        batch[count++] = next;
    }
    pthread_mutex_unlock(&reads->lock);
    if (count == 1) {
        read_one(store, own);
    } else {
        read_many(store, batch, count);
    }
    pthread_mutex_lock(&reads->lock);
    next = take_first(reads, READ_LEADS);
    if (next != NULL) {
        pthread_cond_signal(&next->changed); /* it takes this reader's place */
    } else {
        reads->readers--;
    }
    for (size_t i = 1; i < count; i++) {
        batch[i]->state = READ_DONE;
        pthread_cond_signal(&batch[i]->changed);
    }
}

int store_sandbox_get(struct store *store, const char *sandbox_id, const char *owner, bool admin,
                      struct sandbox *ret, struct error *err)
{
    struct store_reads *reads = store_reads(store);
    struct store_read own = {.sandbox_id = sandbox_id,
                             .owner = owner != NULL ? owner : "",
                             .any_owner = admin || owner == NULL,
                             .state = READ_QUEUED,
                             .sandbox = ret,
                             .err = err,
                             .status = 0};
    int status = 0;

    /* an id that PostgreSQL refuses or spells in another way must not share a statement */
    if (!id_is_uuid_lower(sandbox_id)) {
        read_one(store, &own);
        return own.status;
    }
    clock_cond_init(&own.changed);
    pthread_mutex_lock(&reads->lock);
    if (reads->readers < READERS_MAX) {
        reads->readers++;
        own.state = READ_LEADS;
    } else {
        status = wait_for_turn(store, reads, &own);
    }
    if (status == 0 && own.state == READ_LEADS) {
        lead(store, reads, &own);
    }
    pthread_mutex_unlock(&reads->lock);
    pthread_cond_destroy(&own.changed);
    return status < 0 ? status : own.status;
}
