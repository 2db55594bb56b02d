/*
 * e2b_control - the lifecycle operations on E2B's control plane, as step machines.
 *
 * Owns: requests, reading of answers, the class of every failure. Does not own: I/O, waiting,
 * retries. Threads: none shared; the progress is in the call.
 * Failure: an outcome. E2B has no idempotency key, so a create that may have been sent is looked up
 * by its metadata before another is sent; until that lookup has proved something, no outcome of a
 * create claims "without effect".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/provider/e2b.h"
#include "common/provider/step.h"

enum phase {
    PHASE_START,
    PHASE_LOOKUP,
    PHASE_PROOF,
    PHASE_KILL_EXTRA,
    PHASE_KILL_FOUND,
    PHASE_CONNECT,
    PHASE_CREATE,
    PHASE_DELETE,
    PHASE_PAUSE,
    PHASE_PAUSE_CHECK,
    PHASE_TIMEOUT,
    PHASE_GET,
};

enum {
    RESPONSE_MAX_BYTES = 1024 * 1024,
    LIST_MAX_BYTES = 4 * 1024 * 1024,
    TRANSITION_POLL_MS = 1000,
    EXTRAS_MAX = 4,
    /* bits of call->scratch */
    EXTRAS_MORE = 1 << 8, /* there are more copies than extras[] holds */
    PROVEN = 1 << 9,      /* a list has shown a sandbox of ours: key and URL are right */
};

/* field of an error body that repeats the HTTP status */
#define STATUS_FIELD "code"

static struct e2b *self(struct provider *provider)
{
    return (struct e2b *)provider;
}

/* ---- verdicts -------------------------------------------------------------------------------- */

/* Reads error_code and message of an API error body; both become "" for any other body. */
static void read_error_body(const struct http_response *response, char *code, size_t code_size,
                            cJSON **ret_root, const char **ret_message)
{
    struct error ignored = ERROR_INIT; /* a proxy's HTML is an answer, too */
    code[0] = '\0';
    *ret_message = "";
    *ret_root = response->body_bytes > 0
                    ? json_parse(response->body, response->body_bytes, &ignored)
                    : NULL;
    const cJSON *error_code = cJSON_GetObjectItemCaseSensitive(*ret_root, "error_code");
    const cJSON *message = cJSON_GetObjectItemCaseSensitive(*ret_root, "message");
    if (cJSON_IsString(error_code)) {
        str_copy(code, code_size, error_code->valuestring);
    }
    if (cJSON_IsString(message)) {
        *ret_message = message->valuestring;
    }
}

/* True while an earlier create may have had an effect: the step can only look again. */
static bool is_undecided(const struct provider_call *call)
{
    return call->op == PROVIDER_CREATE && call->maybe_sent && call->phase != PHASE_CREATE;
}

static void keep_undecided(const struct provider_call *call, struct provider_step *ret)
{
    ret->may_exist = ret->verdict == PROVIDER_FAILED && is_undecided(call);
    /* a hold does not end the operation */
    if (ret->may_exist && ret->outcome != OUTCOME_SNOOZE && ret->outcome != OUTCOME_RATE_LIMITED &&
        ret->outcome != OUTCOME_AUTH) {
        ret->outcome = OUTCOME_AMBIGUOUS;
    }
}

/* Fails the step with the class and text of an unsuccessful answer. */
static void fail_response(const struct e2b *e2b, const struct provider_call *call,
                          const struct http_response *response, const char *what,
                          struct provider_step *ret)
{
    const char *const secrets[] = {e2b->config.api_key, call->result.access_token,
                                   call->result.traffic_token};
    const size_t secret_count = sizeof(secrets) / sizeof(secrets[0]);
    bool creating = call->phase == PHASE_CREATE;
    bool starting = creating || call->phase == PHASE_CONNECT;
    char text[200];
    if (response->transport != HTTP_ANSWERED) {
        bool ambiguous = response->transport == HTTP_AMBIGUOUS && creating;
        provider_clean_text(text, sizeof(text), response->error, strlen(response->error), secrets,
                            secret_count);
        step_fail(ret, ambiguous ? OUTCOME_AMBIGUOUS : OUTCOME_TRANSIENT, 0, "e2b %s: %s", what,
                  text);
        return;
    }
    if (step_is_foreign(response, STATUS_FIELD)) {
        step_fail_foreign(ret, response, "e2b", what);
        return;
    }
    char code[64];
    cJSON *root = NULL;
    const char *message = "";
    int64_t retry_after_ms = response->retry_after_ms;
    read_error_body(response, code, sizeof(code), &root, &message);
    enum outcome outcome =
        e2b_classify(response->status, code, creating, starting, &retry_after_ms);
    provider_clean_text(text, sizeof(text), message, strlen(message), secrets, secret_count);
    cJSON_Delete(root);
    step_fail(ret, outcome, retry_after_ms, "e2b %s: HTTP %d%s%s", what, response->status,
              text[0] ? ": " : "", text);
    ret->http_status = response->status;
}

static void fail_garbage(const struct provider_call *call, const struct http_response *response,
                         const char *what, struct provider_step *ret)
{
    step_fail_garbage(ret, call->phase == PHASE_CREATE ? OUTCOME_AMBIGUOUS : OUTCOME_TRANSIENT,
                      response, "e2b", what);
}

/* ---- requests -------------------------------------------------------------------------------- */

static void begin(const struct e2b *e2b, const char *method, struct http_request *request)
{
    str_copy(request->method, sizeof(request->method), method);
    strbuf_puts(&request->url, e2b->api_base);
    strbuf_printf(&request->headers, "X-API-Key: %s\nAccept: application/json\n",
                  e2b->config.api_key);
    request->timeout_ms = e2b->config.request_timeout_ms;
    request->max_response_bytes = RESPONSE_MAX_BYTES;
}

static void put_json(struct http_request *request, cJSON *body)
{
    strbuf_puts(&request->headers, "Content-Type: application/json\n");
    json_print(body, &request->body);
    request->has_body = true;
    cJSON_Delete(body);
}

/* METHOD /sandboxes/<id><suffix> */
static void send_sandbox(const struct e2b *e2b, struct provider_call *call, enum phase phase,
                         const char *method, const char *id, const char *suffix, cJSON *body,
                         struct http_request *request, struct provider_step *ret)
{
    if (!provider_is_id(id)) {
        cJSON_Delete(body);
        step_fail(ret, OUTCOME_PERMANENT, 0, "e2b: malformed provider sandbox id");
        return;
    }
    begin(e2b, method, request);
    strbuf_printf(&request->url, "/sandboxes/%s%s", id, suffix);
    if (body) {
        put_json(request, body);
    }
    step_send(call, phase, request, "e2b", ret);
}

/* The lifetime in whole seconds, rounded up, at most the plan's maximum: above it create answers
 * 400. */
static int64_t timeout_seconds(const struct e2b *e2b, const struct provider_call *call)
{
    int64_t seconds = call->timeout_ms <= 0 ? 1 : (call->timeout_ms - 1) / 1000 + 1;
    return seconds < e2b->config.max_timeout_seconds ? seconds : e2b->config.max_timeout_seconds;
}

static cJSON *timeout_body(const struct e2b *e2b, const struct provider_call *call)
{
    cJSON *body = cJSON_CreateObject();
    json_add_int64(body, "timeout", timeout_seconds(e2b, call));
    return body;
}

static void send_connect(const struct e2b *e2b, struct provider_call *call, const char *id,
                         struct http_request *request, struct provider_step *ret)
{
    /* counted from before the send, so never later than the end the provider grants */
    int64_t end_ms = call->now_ms + timeout_seconds(e2b, call) * 1000;
    if (end_ms > call->result.expires_at_ms) {
        call->result.expires_at_ms = end_ms;
    }
    send_sandbox(e2b, call, PHASE_CONNECT, "POST", id, "/connect", timeout_body(e2b, call), request,
                 ret);
}

/* Asks for our sandboxes: for `all` that carry the deployment's tag, else for the call's. */
static void send_list(const struct e2b *e2b, struct provider_call *call, enum phase phase, bool all,
                      struct http_request *request, struct provider_step *ret)
{
    const char *const pairs[][2] = {{PROVIDER_TAG_DEPLOYMENT, step_text(call->deployment_id)},
                                    {PROVIDER_TAG_SANDBOX, step_text(call->sandbox_id)}};
    begin(e2b, "GET", request);
    request->max_response_bytes = all ? PROVIDER_PAGE_MAX_BYTES : LIST_MAX_BYTES;
    strbuf_puts(&request->url, "/v2/sandboxes?");
    e2b_put_metadata_filter(&request->url, pairs, all ? 1 : 2);
    strbuf_printf(&request->url, "&state=running,paused&limit=%d", all ? PROVIDER_PAGE_ITEMS : 100);
    if (call->page.length > 0) {
        strbuf_puts(&request->url, "&nextToken=");
        strbuf_put_urlencoded(&request->url, call->page.data, false);
    }
    step_send(call, phase, request, "e2b", ret);
}

static void send_lookup(const struct e2b *e2b, struct provider_call *call,
                        struct http_request *request, struct provider_step *ret)
{
    send_list(e2b, call, PHASE_LOOKUP, call->op == PROVIDER_LIST, request, ret);
}

static void send_create(const struct e2b *e2b, struct provider_call *call,
                        struct http_request *request, struct provider_step *ret)
{
    cJSON *metadata = step_tags(call);
    if (!metadata) {
        step_fail(ret, OUTCOME_PERMANENT, 0, "e2b create: the metadata is not a JSON object");
        return;
    }
    const char *template_id =
        call->template_id && call->template_id[0] ? call->template_id : e2b->config.template_id;
    cJSON *body = cJSON_CreateObject();
    cJSON_AddStringToObject(body, "templateID", template_id);
    cJSON_AddItemToObject(body, "metadata", metadata);
    cJSON_AddItemToObject(body, "envVars",
                          call->envs ? cJSON_Duplicate(call->envs, 1) : cJSON_CreateObject());
    json_add_int64(body, "timeout", timeout_seconds(e2b, call));
    cJSON_AddTrueToObject(body, "secure");
    /* if E2B's own deadline passes first, the sandbox must be paused, not destroyed */
    cJSON_AddTrueToObject(body, "autoPause");
    cJSON_AddBoolToObject(body, "allow_internet_access", !call->no_internet);
    if (call->network) {
        cJSON_AddItemToObject(body, "network", cJSON_Duplicate(call->network, 1));
    }
    begin(e2b, "POST", request);
    strbuf_puts(&request->url, "/sandboxes");
    put_json(request, body);
    request->once = true;
    memset(&call->result, 0, sizeof(call->result));
    call->result.expires_at_ms = call->now_ms + timeout_seconds(e2b, call) * 1000;
    step_send(call, PHASE_CREATE, request, "e2b", ret);
}

/* ---- reading answers ------------------------------------------------------------------------- */

static cJSON *parse_body(const struct http_response *response)
{
    struct error ignored = ERROR_INIT; /* the caller turns NULL into an outcome */
    return response->body_bytes > 0 ? json_parse(response->body, response->body_bytes, &ignored)
                                    : NULL;
}

/* True for E2B's own not-found; any other 404 says nothing about a sandbox. */
static bool is_not_found(const struct http_response *last)
{
    return step_answered(last, 404) && step_is_own_refusal(last, STATUS_FIELD);
}

/* E2B answers delete, pause and timeout with 204. A proxy's login page answers 200 with HTML, and
 * the request had no effect. */
static bool is_accepted(const struct http_response *last)
{
    if (!step_succeeded(last) || last->body_bytes == 0) {
        return step_succeeded(last);
    }
    cJSON *root = parse_body(last);
    bool json = root != NULL;
    cJSON_Delete(root);
    return json;
}

/* Fails the step for an answer that is neither a 204 nor an error of E2B. */
static void fail_unaccepted(const struct e2b *e2b, const struct provider_call *call,
                            const struct http_response *last, const char *what,
                            struct provider_step *ret)
{
    if (step_succeeded(last)) {
        fail_garbage(call, last, what, ret);
    } else {
        fail_response(e2b, call, last, what, ret);
    }
}

/* Reads the answer of create or connect: 200 or 201 with a Sandbox. False: the step has failed. */
static bool read_started(const struct e2b *e2b, struct provider_call *call,
                         const struct http_response *last, const char *what,
                         struct provider_step *ret)
{
    if (!step_succeeded(last)) {
        fail_response(e2b, call, last, what, ret);
        return false;
    }
    cJSON *root = parse_body(last);
    bool ok = root && e2b_take_sandbox(root, &call->result) == 0;
    cJSON_Delete(root);
    if (!ok) {
        fail_garbage(call, last, what, ret);
    }
    return ok;
}

static bool is_ours(const struct provider_call *call, const cJSON *item)
{
    const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(item, "metadata");
    const cJSON *deployment = cJSON_GetObjectItemCaseSensitive(metadata, PROVIDER_TAG_DEPLOYMENT);
    const cJSON *sandbox = cJSON_GetObjectItemCaseSensitive(metadata, PROVIDER_TAG_SANDBOX);
    return cJSON_IsString(deployment) && cJSON_IsString(sandbox) &&
           strcmp(deployment->valuestring, step_text(call->deployment_id)) == 0 &&
           strcmp(sandbox->valuestring, step_text(call->sandbox_id)) == 0;
}

static void keep_extra(struct provider_call *call, const char *id)
{
    int count = call->scratch & 0xff;
    if (count == EXTRAS_MAX) {
        call->scratch |= EXTRAS_MORE;
        return;
    }
    str_copy(call->extras[count], sizeof(call->extras[count]), id);
    call->scratch++;
}

/* Keeps the oldest sandbox of a page in result, the others in extras. -1: not a page. */
static int read_page(struct provider_call *call, const struct http_response *last)
{
    cJSON *root = parse_body(last);
    int rc = -1;
    if (call->op == PROVIDER_LIST) {
        rc = e2b_take_listed(root, call);
    }
    if (call->op == PROVIDER_LIST || !cJSON_IsArray(root)) {
        goto out;
    }
    for (const cJSON *item = root->child; item; item = item->next) {
        const cJSON *id = cJSON_GetObjectItemCaseSensitive(item, "sandboxID");
        struct provider_result *best = &call->result;
        /* check the tags: a server that ignores the filter must not make us adopt or kill another's
         * sandbox */
        if (!is_ours(call, item)) {
            continue;
        }
        if (!cJSON_IsString(id) || !provider_is_id(id->valuestring)) {
            goto out;
        }
        if (strcmp(best->provider_sandbox_id, id->valuestring) == 0) {
            continue; /* pages may overlap while sandboxes come and go */
        }
        int64_t started = e2b_take_time(call, item, "startedAt");
        if (best->provider_sandbox_id[0] && started >= best->started_at_ms) {
            keep_extra(call, id->valuestring);
            continue;
        }
        if (best->provider_sandbox_id[0]) {
            keep_extra(call, best->provider_sandbox_id);
        }
        str_copy(best->provider_sandbox_id, sizeof(best->provider_sandbox_id), id->valuestring);
        best->started_at_ms = started;
        best->state = e2b_take_state(item);
        best->expires_at_ms =
            best->state == PROVIDER_STATE_RUNNING ? e2b_take_time(call, item, "endAt") : 0;
    }
    rc = 0;
out:
    cJSON_Delete(root);
    return rc;
}

/* ---- the machines ---------------------------------------------------------------------------- */

/* Continues the operation after all pages were read and extra copies were removed. */
static void lookup_finished(const struct e2b *e2b, struct provider_call *call,
                            struct http_request *request, struct provider_step *ret)
{
    struct provider_result *result = &call->result;
    bool found = result->provider_sandbox_id[0] != '\0';
    if (call->op == PROVIDER_LIST) {
        step_done(call, ret, PROVIDER_STATE_UNKNOWN);
        return;
    }
    if (call->scratch & EXTRAS_MORE) {
        step_fail(ret, OUTCOME_SNOOZE, 1, "e2b: more copies to remove");
        return;
    }
    if (!found && call->maybe_sent && call->now_ms < call->settle_until_ms) {
        step_fail_unsettled(ret, call, call->settle_until_ms,
                            "e2b: an earlier create may still appear");
        return;
    }
    if (!found && is_undecided(call) && !(call->scratch & PROVEN) &&
        call->now_ms < call->unproven_until_ms) {
        send_list(e2b, call, PHASE_PROOF, true, request, ret);
        return;
    }
    if (call->op == PROVIDER_CREATE && found) {
        result->adopted = true;
        send_connect(e2b, call, result->provider_sandbox_id, request, ret);
    } else if (call->op == PROVIDER_CREATE && !call->settle_only) {
        send_create(e2b, call, request, ret);
    } else if (!found) {
        step_done(call, ret, PROVIDER_STATE_ABSENT);
    } else if (call->op == PROVIDER_DELETE) {
        send_sandbox(e2b, call, PHASE_KILL_FOUND, "DELETE", result->provider_sandbox_id, "", NULL,
                     request, ret);
    } else {
        send_sandbox(e2b, call, PHASE_GET, "GET", result->provider_sandbox_id, "", NULL, request,
                     ret);
    }
}

/* PROVIDER_GET leaves extra copies alone; the other operations remove them. */
static void next_extra(const struct e2b *e2b, struct provider_call *call,
                       struct http_request *request, struct provider_step *ret)
{
    int count = call->scratch & 0xff;
    if (count == 0 || call->op == PROVIDER_GET) {
        lookup_finished(e2b, call, request, ret);
        return;
    }
    send_sandbox(e2b, call, PHASE_KILL_EXTRA, "DELETE", call->extras[count - 1], "", NULL, request,
                 ret);
}

static void step_lookup(const struct e2b *e2b, struct provider_call *call,
                        const struct http_response *last, struct http_request *request,
                        struct provider_step *ret)
{
    if (!step_succeeded(last)) {
        fail_response(e2b, call, last, "list", ret);
        return;
    }
    if (read_page(call, last) != 0) {
        fail_garbage(call, last, "list", ret);
        return;
    }
    if (last->next_token[0] && strcmp(last->next_token, call->page.data) == 0) {
        step_fail(ret, OUTCOME_TRANSIENT, 0, "e2b list: the same page again");
        return;
    }
    strbuf_reset(&call->page);
    if (last->next_token[0]) {
        strbuf_puts(&call->page, last->next_token);
        send_lookup(e2b, call, request, ret);
        return;
    }
    next_extra(e2b, call, request, ret);
}

/*
 * The lookup has found nothing. That may be another team's answer, or another server's: it counts
 * when this list shows a sandbox of ours and a second lookup, after it, finds nothing either.
 */
static void step_proof(const struct e2b *e2b, struct provider_call *call,
                       const struct http_response *last, struct http_request *request,
                       struct provider_step *ret)
{
    if (!step_succeeded(last)) {
        fail_response(e2b, call, last, "list", ret);
        return;
    }
    cJSON *root = parse_body(last);
    int status = e2b_take_listed(root, call);
    cJSON_Delete(root);
    if (status != 0) {
        fail_garbage(call, last, "list", ret);
    } else if (call->listed_count > 0) {
        call->scratch |= PROVEN;
        send_lookup(e2b, call, request, ret);
    } else {
        step_fail_unsettled(ret, call, call->unproven_until_ms,
                            "e2b: no list shows a sandbox of ours, so none proves that an earlier "
                            "create made nothing");
    }
}

static void step_get(const struct e2b *e2b, struct provider_call *call,
                     const struct http_response *last, struct provider_step *ret)
{
    struct provider_result *result = &call->result;
    if (is_not_found(last)) {
        step_done(call, ret, PROVIDER_STATE_ABSENT);
        return;
    }
    if (!step_succeeded(last)) {
        fail_response(e2b, call, last, "get", ret);
        return;
    }
    cJSON *root = parse_body(last);
    enum provider_state state = e2b_take_state(root);
    bool ok = root && e2b_take_sandbox(root, result) == 0 && state != PROVIDER_STATE_UNKNOWN;
    if (ok) {
        result->started_at_ms = e2b_take_time(call, root, "startedAt");
        /* endAt of a paused sandbox is the time of its pause */
        result->expires_at_ms =
            state == PROVIDER_STATE_RUNNING ? e2b_take_time(call, root, "endAt") : 0;
        if (call->phase == PHASE_PAUSE_CHECK && state == PROVIDER_STATE_RUNNING) {
            step_fail(ret, OUTCOME_SNOOZE, TRANSITION_POLL_MS,
                      "e2b pause: another change is under way");
        } else {
            step_done(call, ret, state);
        }
    } else {
        fail_garbage(call, last, "get", ret);
    }
    cJSON_Delete(root);
}

static void step_start(const struct e2b *e2b, struct provider_call *call,
                       struct http_request *request, struct provider_step *ret)
{
    const char *id = step_text(call->provider_sandbox_id);
    str_copy(call->result.provider_sandbox_id, sizeof(call->result.provider_sandbox_id),
             call->op == PROVIDER_CREATE ? "" : id);
    if (call->op == PROVIDER_CREATE && !call->maybe_sent) {
        send_create(e2b, call, request, ret);
        return;
    }
    if (call->op == PROVIDER_CREATE || !id[0]) {
        if (call->op == PROVIDER_CREATE || call->op == PROVIDER_DELETE ||
            call->op == PROVIDER_GET || call->op == PROVIDER_LIST) {
            send_lookup(e2b, call, request, ret);
        } else {
            step_fail(ret, OUTCOME_PERMANENT, 0, "e2b: the sandbox has no provider id yet");
        }
        return;
    }
    switch (call->op) {
    case PROVIDER_DELETE:
        send_sandbox(e2b, call, PHASE_DELETE, "DELETE", id, "", NULL, request, ret);
        break;
    case PROVIDER_PAUSE:
        send_sandbox(e2b, call, PHASE_PAUSE, "POST", id, "/pause", NULL, request, ret);
        break;
    case PROVIDER_RESUME:
        send_connect(e2b, call, id, request, ret);
        break;
    case PROVIDER_TIMEOUT:
        send_sandbox(e2b, call, PHASE_TIMEOUT, "POST", id, "/timeout", timeout_body(e2b, call),
                     request, ret);
        break;
    case PROVIDER_GET:
    case PROVIDER_CREATE:
    case PROVIDER_LIST:
        send_sandbox(e2b, call, PHASE_GET, "GET", id, "", NULL, request, ret);
        break;
    }
}

static void step_pause(const struct e2b *e2b, struct provider_call *call,
                       const struct http_response *last, struct http_request *request,
                       struct provider_step *ret)
{
    const char *id = call->result.provider_sandbox_id;
    if (is_accepted(last)) {
        step_done(call, ret, PROVIDER_STATE_PAUSED);
    } else if (is_not_found(last)) {
        step_done(call, ret, PROVIDER_STATE_ABSENT);
    } else if (step_answered(last, 409)) {
        /* paused already, or in another transition: only a GET tells which */
        send_sandbox(e2b, call, PHASE_PAUSE_CHECK, "GET", id, "", NULL, request, ret);
    } else {
        fail_unaccepted(e2b, call, last, "pause", ret);
    }
}

static void step_timeout(const struct e2b *e2b, struct provider_call *call,
                         const struct http_response *last, struct http_request *request,
                         struct provider_step *ret)
{
    if (step_answered(last, 409)) {
        step_fail(ret, OUTCOME_SNOOZE, TRANSITION_POLL_MS,
                  "e2b timeout: another change is under way");
    } else if (is_accepted(last) || is_not_found(last) || step_answered(last, 400)) {
        /* A 204 may hide a clamped timeout, a 404 a paused sandbox, a 400 that the plan's longest
         * life is used up. Only a GET tells the granted end. */
        send_sandbox(e2b, call, PHASE_GET, "GET", call->result.provider_sandbox_id, "", NULL,
                     request, ret);
    } else {
        fail_unaccepted(e2b, call, last, "timeout", ret);
    }
}

static void step_connect(const struct e2b *e2b, struct provider_call *call,
                         const struct http_response *last, struct provider_step *ret)
{
    if (call->op == PROVIDER_RESUME && is_not_found(last)) {
        call->result.expires_at_ms = 0;
        step_done(call, ret, PROVIDER_STATE_ABSENT);
        return;
    }
    if (read_started(e2b, call, last, "connect", ret)) {
        step_done(call, ret, PROVIDER_STATE_RUNNING);
    }
}

/* True when E2B itself says that the sandbox is deleted, now or before. */
static bool is_gone(const struct http_response *last)
{
    return is_accepted(last) || is_not_found(last);
}

void e2b_step(struct provider *provider, struct provider_call *call,
              const struct http_response *last, struct http_request *request,
              struct provider_step *ret)
{
    const struct e2b *e2b = self(provider);
    memset(ret, 0, sizeof(*ret));
    if (!last) {
        call->phase = PHASE_START;
    }
    switch ((enum phase)call->phase) {
    case PHASE_START:
        step_start(e2b, call, request, ret);
        break;
    case PHASE_LOOKUP:
        step_lookup(e2b, call, last, request, ret);
        break;
    case PHASE_PROOF:
        step_proof(e2b, call, last, request, ret);
        break;
    case PHASE_KILL_EXTRA:
        if (!is_gone(last)) {
            fail_unaccepted(e2b, call, last, "kill of a copy", ret);
            break;
        }
        call->scratch--;
        call->result.extras_killed++;
        next_extra(e2b, call, request, ret);
        break;
    case PHASE_KILL_FOUND:
    case PHASE_DELETE:
        if (is_gone(last)) {
            step_done(call, ret, PROVIDER_STATE_ABSENT);
        } else {
            fail_unaccepted(e2b, call, last, "delete", ret);
        }
        break;
    case PHASE_CONNECT:
        step_connect(e2b, call, last, ret);
        break;
    case PHASE_CREATE:
        if (read_started(e2b, call, last, "create", ret)) {
            step_done(call, ret, PROVIDER_STATE_RUNNING);
        }
        break;
    case PHASE_PAUSE:
        step_pause(e2b, call, last, request, ret);
        break;
    case PHASE_TIMEOUT:
        step_timeout(e2b, call, last, request, ret);
        break;
    case PHASE_PAUSE_CHECK:
    case PHASE_GET:
        step_get(e2b, call, last, ret);
        break;
    }
    keep_undecided(call, ret);
}
