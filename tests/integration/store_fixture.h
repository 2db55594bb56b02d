/*
 * store_fixture - what the store's test programs share: a schema of their own in the database of
 * DATABASE_URL, a second connection that looks at the tables directly, and short forms of the
 * usual calls. Each program that includes it has its own copy of everything.
 *
 * Failure: a failed call fails the test with the store's message. Without DATABASE_URL the program
 * fails.
 */
#ifndef TESTS_STORE_FIXTURE_H
#define TESTS_STORE_FIXTURE_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <libpq-fe.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/service.h"
#include "common/store/store.h"

static struct store *store;
static struct error err;
static PGconn *raw;                 /* not thread safe */
static char fixture_conninfo[2048]; /* DATABASE_URL with our schema as search_path */
static char fixture_name[64];

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) < 0) {                                                                          \
            fail_msg("%s: %s", #call, err.message);                                                \
        }                                                                                          \
    } while (0)
#define FAILS(call, expected)                                                                      \
    do {                                                                                           \
        assert_int_equal((call), -1);                                                              \
        if (err.code != (expected)) {                                                              \
            fail_msg("%s: %s, not %s (%s)", #call, error_code_name(err.code),                      \
                     error_code_name(expected), err.message);                                      \
        }                                                                                          \
    } while (0)

/* Runs SQL on the second connection; gives the first cell as a number (0 = none or NULL). */
__attribute__((format(printf, 1, 2))) static inline int64_t sql(const char *format, ...)
{
    char text[2048];
    PGresult *result;
    va_list args;
    int64_t value = 0;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    result = PQexec(raw, text);
    if (PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK) {
        print_error("%s: %s\n", text, PQerrorMessage(raw));
        PQclear(result);
        fail();
        return 0;
    }
    if (PQntuples(result) > 0) {
        value = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    }
    PQclear(result);
    return value;
}

static inline struct store_options fixture_options(int pool)
{
    return (struct store_options){.conninfo = fixture_conninfo,
                                  .application = fixture_name,
                                  .pool_size = pool,
                                  .connect_timeout_s = 3,
                                  .statement_timeout_ms = 5000,
                                  .pool_wait_ms = 5000};
}

static inline void fixture_open_empty(const char *name)
{
    const char *url = getenv("DATABASE_URL");
    int signal_fd;

    assert_non_null(url);
    OK(service_init(&signal_fd, &err));
    snprintf(fixture_name, sizeof(fixture_name), "%s", name);
    if (strstr(url, "://") != NULL) {
        snprintf(fixture_conninfo, sizeof(fixture_conninfo), "%s%coptions=-csearch_path%%3D%s", url,
                 strchr(url, '?') != NULL ? '&' : '?', name);
    } else {
        snprintf(fixture_conninfo, sizeof(fixture_conninfo), "%s options='-csearch_path=%s'", url,
                 name);
    }
    raw = PQconnectdb(fixture_conninfo);
    if (PQstatus(raw) != CONNECTION_OK) {
        fail_msg("%s", PQerrorMessage(raw));
    }
    sql("SET client_min_messages = warning; DROP SCHEMA IF EXISTS %s CASCADE; CREATE SCHEMA %s",
        name, name);
}

static inline void fixture_open(const char *name)
{
    const struct store_options options = (fixture_open_empty(name), fixture_options(8));
    int applied;

    store = store_new(&options);
    OK(store_migrate(store, &applied, &err));
    assert_true(applied > 0);
    OK(store_ping(store, &err));
}

static inline void fixture_close(void)
{
    store_free(store);
    store = NULL;
    if (PQstatus(raw) != CONNECTION_OK) {
        return;
    }
    sql("DROP SCHEMA %s CASCADE", fixture_name);
    PQfinish(raw);
    raw = NULL;
}

/* ---- short forms --------------------------------------------------------------------------- */

static inline int try_new_sandbox(struct sandbox *sandbox, struct wakeup *wakeup, struct error *e)
{
    struct store_accept accept = {.params_json = "{\"envs\":{\"SECRET\":\"x\"}}",
                                  .max_attempts = 5,
                                  .reply_to = "gw",
                                  .request_id = "req"};
    char metadata[] = "{\"k\":\"v\"}", job_id[UUID_BYTES];
    int status;

    *sandbox = (struct sandbox){.timeout_ms = 60000, .metadata_json = metadata};
    id_uuid(sandbox->id);
    id_uuid(job_id);
    str_copy(sandbox->owner, sizeof(sandbox->owner), "alice");
    str_copy(sandbox->user_id, sizeof(sandbox->user_id), "label");
    str_copy(sandbox->provider, sizeof(sandbox->provider), "e2b");
    str_copy(sandbox->template_id, sizeof(sandbox->template_id), "base");
    status = store_accept_create(store, sandbox, &accept, job_id, wakeup, e);
    sandbox->metadata_json = NULL;
    return status;
}

/* A fresh sandbox with its create job. */
static inline void new_sandbox(struct sandbox *sandbox, struct wakeup *wakeup)
{
    OK(try_new_sandbox(sandbox, wakeup, &err));
}

static inline int try_accept(const char *sandbox_id, enum job_op op, bool join,
                             struct wakeup *wakeup, bool *joined, struct error *e)
{
    struct store_accept accept = {.owner = "alice",
                                  .sandbox_id = sandbox_id,
                                  .op = op,
                                  .origin = "client",
                                  .max_attempts = 5,
                                  .join = join};
    char job_id[UUID_BYTES];

    id_uuid(job_id);
    return store_accept_job(store, &accept, job_id, wakeup, joined, e);
}

static inline void accept_op(const char *sandbox_id, enum job_op op, bool join,
                             struct wakeup *wakeup, bool *joined)
{
    OK(try_accept(sandbox_id, op, join, wakeup, joined, &err));
}

static inline size_t claim_as(const char *owner, const char *job_id, struct store_claimed **ret,
                              int64_t lease_ms)
{
    size_t count;

    OK(store_jobs_claim(store, &job_id, 1, owner, lease_ms, ret, &count, &err));
    return count;
}

static inline size_t claim(const char *job_id, struct store_claimed **ret, int64_t lease_ms)
{
    return claim_as("tester", job_id, ret, lease_ms);
}

/* Claims one job that must be claimable; *ret owns heap members: claimed_done(). */
static inline void claim_one(const char *job_id, struct store_claimed *ret)
{
    struct store_claimed *claimed;

    assert_int_equal(claim(job_id, &claimed, 60000), 1);
    *ret = *claimed;
    free(claimed);
}

static inline bool is_claimable(const char *job_id)
{
    struct store_claimed *claimed;
    size_t count = claim(job_id, &claimed, 60000);

    store_claimed_free(claimed, count);
    return count == 1;
}

static inline void claimed_done(struct store_claimed *claimed)
{
    job_done(&claimed->job);
    sandbox_done(&claimed->sandbox);
}

static inline struct store_finish finish_of(const struct store_claimed *claimed,
                                            enum job_state state, enum sandbox_status to)
{
    struct store_finish finish = {.lease_token = claimed->job.lease_token,
                                  .state = state,
                                  .change_status = true,
                                  .from = claimed->sandbox.status,
                                  .to = to,
                                  .result_json = "{\"ok\":true}"};

    str_copy(finish.job_id, sizeof(finish.job_id), claimed->job.id);
    str_copy(finish.sandbox_id, sizeof(finish.sandbox_id), claimed->sandbox.id);
    str_copy(finish.reason, sizeof(finish.reason), "test");
    return finish;
}

/* Claims and finishes as DONE. */
static inline void run_job(const char *job_id, enum sandbox_status to)
{
    struct store_claimed claimed;
    struct store_finish finish;

    claim_one(job_id, &claimed);
    finish = finish_of(&claimed, JOB_STATE_DONE, to);
    OK(store_jobs_finish(store, &finish, 1, "tester", &err));
    assert_false(finish.ret_fenced);
    claimed_done(&claimed);
}

static inline void create_running(struct sandbox *sandbox)
{
    struct wakeup wakeup;
    struct store_claimed claimed;
    struct store_finish finish;

    new_sandbox(sandbox, &wakeup);
    claim_one(wakeup.job_id, &claimed);
    finish = finish_of(&claimed, JOB_STATE_DONE, SANDBOX_RUNNING);
    finish.set = STORE_SET_PROVIDER | STORE_SET_STARTED | STORE_START_IDLE;
    str_copy(finish.values.provider_sandbox_id, sizeof(finish.values.provider_sandbox_id),
             sandbox->id);
    str_copy(finish.values.access_token, sizeof(finish.values.access_token), "token");
    OK(store_jobs_finish(store, &finish, 1, "tester", &err));
    assert_false(finish.ret_fenced);
    claimed_done(&claimed);
}

#endif
