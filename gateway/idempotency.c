/* idempotency - see idempotency.h. */
#include "gateway/idempotency.h"

#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "gateway/request.h"

/* FIRST_POLL_MS: how soon a join looks for the first one's job. KEEP_TRIES: at keeping an answer.
 */
enum { FIRST_POLL_MS = 20, KEEP_TRIES = 3, HASHED_MAX_BYTES = 1 << 30 };

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

static void respond_kept(struct request *request, const struct store_key *known)
{
    struct strbuf body;

    strbuf_init(&body, strlen(known->body));
    strbuf_puts(&body, known->body);
    respond_stored(request, known->status, &body);
    strbuf_done(&body);
}

static int replay(struct request *request, const struct store_key *known)
{
    request->idempotency.replayed = true;
    respond_kept(request, known);
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

        if (store_key_claim(gateway->store, request->principal.subject, mine->key, hash, claim,
                            gateway->config->idempotency_s * 1000,
                            gateway->config->idempotency_claim_ms, &known, err) < 0) {
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

/* A job's end, or a 200 that needed no job; not that its result could not be read just now. */
static bool is_final(const struct request *request, int status)
{
    if (!request->idempotency.ended) {
        return !request->idempotency.bound && status == 200;
    }
    return status != 503 || request->error_type == NULL ||
           strcmp(request->error_type, error_code_name(ERR_PROVIDER_DOWN)) == 0;
}

/* Keeping twice is keeping once, so a connection that turns out to be broken costs a second try. */
static int keep_answer(struct request *request, int status, const struct strbuf *body,
                       struct store_key *ret, struct error *err)
{
    const struct idempotency *mine = &request->idempotency;
    int kept = -1;

    for (int i = 0; i < KEEP_TRIES && kept < 0; i++) {
        kept = store_key_answer(request->gateway->store, request->principal.subject, mine->key,
                                mine->claim, mine->job_id, status, body->data, ret, err);
        if (kept < 0 && err->code != ERR_DATABASE_DOWN) {
            break;
        }
    }
    return kept;
}

bool idempotency_keep(struct request *request, int status, const struct strbuf *body)
{
    struct idempotency *mine = &request->idempotency;
    struct error err = ERROR_INIT;
    struct store_key known;
    bool ours = true;

    if (mine->claim[0] == '\0' || mine->kept || !is_final(request, status)) {
        return true;
    }
    if (keep_answer(request, status, body, &known, &err) < 0) {
        log_error(LOG_WARN, "idempotency.not_kept", &err);
        /* it might be another one the next time; who sent a key can ask again */
        mine->ended = false;
        respond_error(request, &err, 0);
        return false;
    }
    mine->kept = true;
    /* only of the job this request waited for: the key may have grown old and been taken meanwhile
     */
    if (known.status != 0 && (known.mine || strcmp(known.job_id, mine->job_id) == 0) &&
        (known.status != status || strcmp(known.body, body->data) != 0)) {
        ours = false;
        respond_kept(request, &known);
    }
    store_key_done(&known);
    return ours;
}

void idempotency_end(struct request *request)
{
    struct idempotency *mine = &request->idempotency;
    struct error err = ERROR_INIT;

    if (mine->claim[0] != '\0' && !mine->bound && !mine->kept &&
        store_key_release(request->gateway->store, request->principal.subject, mine->key,
                          mine->claim, &err) < 0) {
        log_error(LOG_WARN, "idempotency.not_released", &err); /* it is taken over in time */
    }
}
