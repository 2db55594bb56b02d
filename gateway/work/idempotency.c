/* idempotency - see idempotency.h. */
#include "gateway/work/idempotency.h"

#include <string.h>
#include <strings.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/store/store_limits.h"
#include "gateway/http/request_state.h"
#include "gateway/http/router.h"
#include "gateway/work/job_error.h"

/* FIRST_POLL_MS: pause before the first request's key is read again; doubles up to MAX_POLL_MS.
 * KEEP_TRIES: attempts to store an answer. LOST_MARGIN_S: added to the longest command and two
 * waits. */
enum {
    FIRST_POLL_MS = 20,
    MAX_POLL_MS = 250,
    KEEP_TRIES = 3,
    HASHED_MAX_BYTES = 1 << 30,
    LOST_MARGIN_S = 60,
};

static bool runs_once(const struct request *request)
{
    return (request->state->route->flags & ONCE) != 0;
}

int idempotency_read(struct request *request, struct error *err)
{
    const char *name, *value, *given = NULL;
    size_t length;
    int times = 0;

    for (int i = 0; http_header_at(request->http, i, &name, &value); i++) {
        if (strcasecmp(name, "Idempotency-Key") == 0) {
            given = value;
            times++;
        }
    }
    if (times == 0) {
        return 0;
    }
    length = times == 1 ? strlen(given) : 0;
    for (size_t i = 0; i < length; i++) {
        if (given[i] < ' ' || given[i] > '~') {
            length = 0;
        }
    }
    if (length == 0 || length >= IDEMPOTENCY_KEY_BYTES) {
        return error_set(err, ERR_HEADER_INVALID,
                         "Idempotency-Key must be 1 to %d printable ASCII characters, given once",
                         IDEMPOTENCY_KEY_BYTES - 1);
    }
    if ((request->state->route->flags & KEYED) == 0) {
        return error_set(err, ERR_HEADER_INVALID, "this call takes no Idempotency-Key");
    }
    str_copy(request->state->idempotency.key, sizeof(request->state->idempotency.key), given);
    return 0;
}

/* Two requests are the same when method, path, query and body agree. White space in a JSON body is
 * ignored, except where the body carries a whole file. */
static void hash_request(const struct request *request, const char *head, const char *file_hash,
                         char ret[SHA256_HEX_BYTES])
{
    struct strbuf text;

    strbuf_init(&text, HASHED_MAX_BYTES);
    strbuf_printf(&text, "%s %s?%s\n", http_method(request->http), http_path(request->http),
                  http_query(request->http));
    if (request->state->idempotency.body_hash[0] != '\0') {
        strbuf_puts(&text, request->state->idempotency.body_hash);
    } else if (request->body != NULL) {
        json_print(request->body, &text);
    }
    strbuf_printf(&text, "%s\n%s", head, file_hash);
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

/* True when the claim is so old that the gateway which made it must have died. */
static bool is_lost(const struct gateway_config *config, const struct store_key *known)
{
    int64_t longest_s = config->command_timeout_max_s + 2 * config->wait_s + LOST_MARGIN_S;

    return known->once && known->claimed_ago_ms > longest_s * 1000;
}

enum known { KNOWN_FAILED = -1, KNOWN_GO_ON, KNOWN_ANSWERED, KNOWN_BUSY };

/* `part`: `hash` covers a request whose body has not arrived yet. */
static enum known take(struct request *request, const struct store_key *known, const char *hash,
                       bool part, struct error *err)
{
    struct idempotency *mine = &request->state->idempotency;

    if (known->mine) {
        return KNOWN_GO_ON;
    }
    if (part && known->status != 0) {
        return KNOWN_ANSWERED;
    }
    if (strcmp(known->request_hash, hash) != 0) {
        return error_set(err, ERR_IDEMPOTENCY, "this Idempotency-Key was used for another request");
    }
    if (known->status != 0) {
        mine->replayed = true;
        respond_kept(request, known);
        return KNOWN_ANSWERED;
    }
    if (known->job_id[0] == '\0') {
        return is_lost(request->gateway->config, known)
                   ? error_set(err, ERR_CONFLICT,
                               "the answer to this Idempotency-Key's request was lost; it may have "
                               "run, and is not run again")
                   : KNOWN_BUSY;
    }
    mine->replayed = true;
    mine->bound = true;
    str_copy(mine->job_id, sizeof(mine->job_id), known->job_id);
    str_copy(mine->sandbox_id, sizeof(mine->sandbox_id), known->sandbox_id);
    return KNOWN_GO_ON;
}

static enum known claim_once(struct request *request, const struct store_key_ask *ask, bool part,
                             struct error *err)
{
    struct idempotency *mine = &request->state->idempotency;
    struct store_key known;
    enum known found;

    if (store_key_claim(request->gateway->store, ask, &known, err) < 0) {
        return KNOWN_FAILED;
    }
    found = take(request, &known, ask->hash, part, err);
    store_key_done(&known);
    if (found == KNOWN_GO_ON) {
        str_copy(mine->claim, sizeof(mine->claim), ask->claim);
    }
    return found;
}

/* Claims the key, or waits until the request that holds it has a job or an answer. */
static int claim(struct request *request, const char *hash, bool part, struct error *err)
{
    const struct gateway *gateway = request->gateway;
    int64_t until_ms = clock_mono_ms() + gateway->config->wait_s * 1000;
    int64_t pause_ms = FIRST_POLL_MS;
    char fresh[UUID_BYTES];
    struct store_key_ask ask = {
        .owner = request->principal.subject,
        .key = request->state->idempotency.key,
        .hash = hash,
        .claim = fresh,
        .retention_ms = gateway->config->idempotency_s * 1000,
        .takeover_ms = gateway->config->idempotency_claim_ms,
        .once = runs_once(request),
        .again = job_error_retryable_outcomes(),
    };

    id_uuid(fresh);
    for (;;) {
        enum known found = claim_once(request, &ask, part, err);

        if (found != KNOWN_BUSY) {
            return (int)found;
        }
        if (service_draining()) {
            return error_set(err, ERR_DRAINING, "this gateway is shutting down");
        }
        /* the gateway of the first request may have died while it waited for its owner's quota */
        if (request_wait_s(request, gateway->config->wait_s) > 0 &&
            store_create_line_keep(gateway->store, ask.owner, ask.key, err) < 0) {
            return -1;
        }
        if (clock_mono_ms() >= until_ms) {
            return error_set(err, ERR_TIMEOUT,
                             "the first request under this Idempotency-Key has no answer yet");
        }
        clock_sleep_ms(pause_ms);
        pause_ms = 2 * pause_ms < MAX_POLL_MS ? 2 * pause_ms : MAX_POLL_MS;
    }
}

int idempotency_begin(struct request *request, struct error *err)
{
    char hash[SHA256_HEX_BYTES];

    if (request->state->idempotency.key[0] == '\0') {
        return 0;
    }
    hash_request(request, "", "", hash);
    return claim(request, hash, false, err);
}

int idempotency_begin_form(struct request *request, const char *head, struct error *err)
{
    char hash[SHA256_HEX_BYTES];

    if (request->state->idempotency.key[0] == '\0') {
        return 0;
    }
    hash_request(request, head, "", hash);
    return claim(request, hash, true, err);
}

void idempotency_form_read(struct request *request, const char *head, const char *file_hash)
{
    if (request->state->idempotency.key[0] != '\0') {
        hash_request(request, head, file_hash, request->state->idempotency.whole_hash);
    }
}

int idempotency_replay(struct request *request, struct error *err)
{
    int found = claim(request, request->state->idempotency.whole_hash, false, err);

    /* the answer expired meanwhile, and the request's body has been consumed */
    return found == KNOWN_GO_ON
               ? error_set(err, ERR_TIMEOUT, "this Idempotency-Key has just become too old")
           : found < 0 ? -1
                       : 0;
}

bool idempotency_joins(const struct request *request)
{
    return request->state->idempotency.job_id[0] != '\0';
}

void idempotency_spend(const struct request *request, struct error *err)
{
    int status = error_code_http_status(err->code);
    char message[sizeof(err->message)];

    if (request->state->idempotency.claim[0] == '\0' || !runs_once(request) ||
        !request->state->idempotency.started || (status != 503 && status != 429)) {
        return;
    }
    str_copy(message, sizeof(message), err->message);
    error_set(err, ERR_PROVIDER,
              "it may have run, and this Idempotency-Key does not run it again: %s", message);
}

/* A final answer does not say "try again": the end of a job, or a success without a job. */
static bool is_final(const struct request *request, int status)
{
    const struct idempotency *mine = &request->state->idempotency;

    if (runs_once(request) && mine->started) {
        return true;
    }
    if (!mine->ended) {
        return !mine->bound && status == 200;
    }
    return status < 500 ? status != 429 : status == 502;
}

/* Storing the same answer twice is harmless, so a broken connection is tried once more. */
static int keep_answer(struct request *request, int status, const struct strbuf *body,
                       struct store_key *ret, struct error *err)
{
    const struct idempotency *mine = &request->state->idempotency;
    const struct store_key_ask ask = {.owner = request->principal.subject,
                                      .key = mine->key,
                                      .hash = mine->whole_hash,
                                      .claim = mine->claim};
    int kept = -1;

    for (int i = 0; i < KEEP_TRIES && kept < 0; i++) {
        kept = store_key_answer(request->gateway->store, &ask, mine->job_id, status, body->data,
                                ret, err);
        if (kept < 0 && err->code != ERR_DATABASE_DOWN) {
            break;
        }
    }
    return kept;
}

bool idempotency_keep(struct request *request, int status, const struct strbuf *body)
{
    struct idempotency *mine = &request->state->idempotency;
    struct error err = ERROR_INIT;
    struct store_key known;
    bool ours = true;

    if (mine->claim[0] == '\0' || mine->kept || !is_final(request, status)) {
        return true;
    }
    if (keep_answer(request, status, body, &known, &err) < 0) {
        log_error(LOG_WARN, "idempotency.not_kept", &err);
        if (runs_once(request)) {
            return true;
        }
        /* the next attempt may give another answer, and the client can send its key again */
        mine->ended = false;
        respond_error(request, &err, 0);
        return false;
    }
    mine->kept = true;
    /* only for the request that this one waited for: the key may have expired and been claimed
     * meanwhile */
    if (known.status != 0 &&
        (known.mine || (mine->job_id[0] != '\0' && strcmp(known.job_id, mine->job_id) == 0)) &&
        (known.status != status || strcmp(known.body, body->data) != 0)) {
        ours = false;
        respond_kept(request, &known);
    }
    store_key_done(&known);
    return ours;
}

void idempotency_end(struct request *request)
{
    struct idempotency *mine = &request->state->idempotency;
    struct error err = ERROR_INIT;

    if (mine->claim[0] != '\0' && !mine->bound && !mine->kept &&
        !(runs_once(request) && mine->started) &&
        store_key_release(request->gateway->store, request->principal.subject, mine->key,
                          mine->claim, &err) < 0) {
        log_error(LOG_WARN, "idempotency.not_released", &err); /* the claim expires by itself */
    }
}
