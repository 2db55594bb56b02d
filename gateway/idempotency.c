/* idempotency - see idempotency.h. */
#include "gateway/idempotency.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "gateway/request.h"

/* CLAIM_LIFE_MS: accepting takes a few database statements, each with a timeout far below it; a
 * claim of this age lost its gateway. FIRST_POLL_MS: how soon a join looks for the first one's job.
 */
enum { CLAIM_LIFE_MS = 30000, FIRST_POLL_MS = 20, HASHED_MAX_BYTES = 1 << 30 };

static int read_key(struct request *request, struct error *err)
{
    const char *given = http_header(request->http, "Idempotency-Key");
    size_t length = given != NULL ? strlen(given) : 0;

    if (given == NULL) {
        return 0;
    }
    for (size_t i = 0; i < length; i++) {
        if (given[i] < ' ' || given[i] > '~') {
            length = 0;
        }
    }
    if (length == 0 || length >= IDEMPOTENCY_KEY_BYTES) {
        return error_set(err, ERR_HEADER_INVALID,
                         "Idempotency-Key must be 1 to %d printable ASCII characters",
                         IDEMPOTENCY_KEY_BYTES - 1);
    }
    str_copy(request->idempotency.key, sizeof(request->idempotency.key), given);
    return 0;
}

/* What makes two requests the same: method, path, query and body, but for white space in it. */
static void hash_request(const struct request *request, char ret[SHA256_HEX_BYTES])
{
    struct strbuf text;

    strbuf_init(&text, HASHED_MAX_BYTES);
    strbuf_printf(&text, "%s %s?%s\n", http_method(request->http), http_path(request->http),
                  http_query(request->http));
    if (request->body != NULL) {
        json_print(request->body, &text);
    }
    sha256_hex(text.data, text.length, ret);
    strbuf_done(&text);
}

static int replay(struct request *request, const struct store_key *known)
{
    struct strbuf body;

    request->idempotency.replayed = true;
    strbuf_init(&body, strlen(known->body));
    strbuf_puts(&body, known->body);
    respond_stored(request, known->status, &body);
    strbuf_done(&body);
    return 1;
}

/* 1 = ask again in a moment: the first request is about to accept its job. */
static int take(struct request *request, const struct store_key *known, const char *hash,
                struct error *err)
{
    struct idempotency *mine = &request->idempotency;

    if (known->mine) {
        return 0;
    }
    if (strcmp(known->request_hash, hash) != 0) {
        return error_set(err, ERR_IDEMPOTENCY, "this Idempotency-Key was used for another request");
    }
    if (known->job_id[0] == '\0') {
        return 1;
    }
    mine->replayed = true;
    mine->bound = true;
    str_copy(mine->job_id, sizeof(mine->job_id), known->job_id);
    str_copy(mine->sandbox_id, sizeof(mine->sandbox_id), known->sandbox_id);
    return 0;
}

int idempotency_begin(struct request *request, struct error *err)
{
    const struct gateway *gateway = request->gateway;
    struct idempotency *mine = &request->idempotency;
    int64_t until_ms = clock_mono_ms() + gateway->config->wait_s * 1000;
    char hash[SHA256_HEX_BYTES], claim[UUID_BYTES];

    if (read_key(request, err) < 0) {
        return -1;
    }
    if (mine->key[0] == '\0') {
        return 0;
    }
    hash_request(request, hash);
    id_uuid(claim);
    for (;;) {
        struct store_key known;
        int status;

        if (store_key_claim(gateway->store, request->principal.subject, mine->key, hash,
                            claim, gateway->config->idempotency_s * 1000, CLAIM_LIFE_MS, &known,
                            err) < 0) {
            return -1;
        }
        status = known.status != 0 && strcmp(known.request_hash, hash) == 0
                     ? replay(request, &known)
                     : take(request, &known, hash, err);
        store_key_done(&known);
        if (status == 0) {
            str_copy(mine->claim, sizeof(mine->claim), claim);
        }
        if (status <= 0 || mine->replayed) {
            return status;
        }
        if (clock_mono_ms() >= until_ms) {
            return error_set(err, ERR_TIMEOUT,
                             "the first request under this Idempotency-Key is not accepted yet");
        }
        clock_sleep_ms(FIRST_POLL_MS);
    }
}

bool idempotency_joins(const struct request *request)
{
    return request->idempotency.job_id[0] != '\0';
}

void idempotency_end(struct request *request)
{
    struct idempotency *mine = &request->idempotency;
    struct store *store = request->gateway->store;
    const char *owner = request->principal.subject;
    struct error err = ERROR_INIT;
    int status = 0;

    if (mine->claim[0] != '\0' && (mine->ended || (!mine->bound && request->status == 200))) {
        status = store_key_answer(store, owner, mine->key, mine->claim, mine->job_id,
                                  mine->answer_status, mine->answer, &err);
    } else if (mine->claim[0] != '\0' && !mine->bound) {
        status = store_key_release(store, owner, mine->key, mine->claim, &err);
    }
    if (status < 0) {
        log_error(LOG_WARN, "idempotency.not_kept", &err);
    }
    free(mine->answer);
    mine->answer = NULL;
}
