/* store_keys - Idempotency-Keys: whose they are, what they became, see store.h. */
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/store/store_internal.h"

/* The row of Q_KEY_GET, as `claim` sees it. */
static int read_key(const PGresult *row, const char *claim, struct store_key *ret,
                    struct error *err)
{
    char holder[UUID_BYTES];

    memset(ret, 0, sizeof(*ret));
    if (PQntuples(row) == 0) {
        /* released between the two statements: the next try claims it */
        return error_set(err, ERR_OVERLOADED, "the Idempotency-Key is being given back");
    }
    row_text(row, 0, 0, ret->request_hash, sizeof(ret->request_hash));
    row_text(row, 0, 1, holder, sizeof(holder));
    row_text(row, 0, 2, ret->job_id, sizeof(ret->job_id));
    row_text(row, 0, 3, ret->sandbox_id, sizeof(ret->sandbox_id));
    ret->status = (int)row_int(row, 0, 4);
    ret->mine = strcmp(holder, claim) == 0;
    ret->body = xstrdup(PQgetvalue(row, 0, 5));
    ret->once = row_int(row, 0, 6) != 0;
    ret->claimed_ago_ms = row_int(row, 0, 7);
    return 0;
}

static char *outcomes_array(unsigned outcomes)
{
    const char *names[OUTCOME_COUNT];
    size_t count = 0;

    for (int i = 0; i < OUTCOME_COUNT; i++) {
        if ((outcomes & 1u << i) != 0) {
            names[count++] = outcome_name((enum outcome)i);
        }
    }
    return param_id_array(names, count);
}

int store_key_claim(struct store *store, const struct store_key_ask *ask, struct store_key *ret,
                    struct error *err)
{
    struct params insert = {.count = 0}, get = {.count = 0};
    struct statement statements[] = {{.query = Q_KEY_CLAIM, .params = &insert},
                                     {.query = Q_KEY_GET, .params = &get}};
    char *again = outcomes_array(ask->again);
    int status;

    param_text(&insert, ask->owner);
    param_text(&insert, ask->key);
    param_text(&insert, ask->hash);
    param_text(&insert, ask->claim);
    param_int(&insert, ask->retention_ms);
    param_int(&insert, ask->takeover_ms);
    param_int(&insert, ask->once);
    param_text(&insert, again);
    param_text(&get, ask->owner);
    param_text(&get, ask->key);
    status = store_query_batch(store, statements, 2, err);
    free(again);
    if (status < 0) {
        return -1;
    }
    status = read_key(statements[1].result, ask->claim, ret, err);
    PQclear(statements[0].result);
    PQclear(statements[1].result);
    return status;
}

void store_key_done(struct store_key *key)
{
    free(key->body);
    key->body = NULL;
}

int store_key_answer(struct store *store, const struct store_key_ask *ask, const char *job_id,
                     int status, const char *body, struct store_key *ret, struct error *err)
{
    struct params keep = {.count = 0}, get = {.count = 0};
    struct statement statements[] = {{.query = Q_KEY_ANSWER, .params = &keep},
                                     {.query = Q_KEY_GET, .params = &get}};
    int found;

    param_text(&keep, ask->owner);
    param_text(&keep, ask->key);
    param_text(&keep, ask->claim);
    param_text(&keep, job_id);
    param_int(&keep, status);
    param_text(&keep, body);
    param_text(&keep, ask->hash);
    param_text(&get, ask->owner);
    param_text(&get, ask->key);
    if (store_query_batch(store, statements, 2, err) < 0) {
        return -1;
    }
    found = read_key(statements[1].result, ask->claim, ret, err);
    PQclear(statements[0].result);
    PQclear(statements[1].result);
    return found;
}

int store_key_release(struct store *store, const char *owner, const char *key, const char *claim,
                      struct error *err)
{
    struct params p = {.count = 0};

    param_text(&p, owner);
    param_text(&p, key);
    param_text(&p, claim);
    return store_execute(store, Q_KEY_RELEASE, &p, err);
}
