/*
 * daytona_control - the lifecycle operations on Daytona's API, as step machines.
 *
 * Owns: requests, what each answer leads to, polling until a state is reached. Does not own: I/O,
 * waiting, retries. Threads: none shared; the progress is in the call.
 * Failure: an outcome. The sandbox's name at Daytona is our sandbox id and names are unique, so a
 * create whose end is unknown is looked up by name and adopted, and sending it again is refused
 * (409) rather than doubled. While something of a create may exist, may_exist says so and no
 * outcome lets the job end.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/provider/daytona.h"
#include "common/provider/step.h"

enum phase {
    PHASE_START,
    PHASE_CREATE,
    PHASE_FIND,  /* by name */
    PHASE_PROOF, /* a list that shows a sandbox of ours */
    PHASE_POLL,  /* by id */
    PHASE_START_BOX,
    PHASE_STOP_BOX,
    PHASE_PAUSE_BOX,
    PHASE_RECOVER,
    PHASE_AUTOSTOP,
    PHASE_ACTIVITY,
    PHASE_TOOLBOX,
    PHASE_DELETE,
};

/* Bits of call->scratch: what has happened in this call. The bits from POLL_SHIFT on count its
 * waits. */
enum {
    MAY_EXIST = 1 << 0, /* a create was sent, and may have had an effect */
    REFUSED = 1 << 1,   /* the create was refused with a 400, whose text is in call->page */
    CLEANUP = 1 << 2,   /* the running delete removes the remains of a failed create */
    FOR_GOOD = 1 << 3,  /* with REFUSED or CLEANUP: the failure is permanent (not transient) */
    FULL = 1 << 4,      /* with REFUSED or CLEANUP: the failure is one of capacity */
    ASKED = 1 << 5,     /* start, stop or recover was accepted */
    NO_PAUSE = 1 << 6,  /* this sandbox cannot be paused, only stopped */
    RECOVERED = 1 << 7,
    AUTOSTOP_SET = 1 << 8,
    CONFLICT = 1 << 9, /* the create was answered with a 409 */
    PROVEN = 1 << 10,  /* a list has shown a sandbox of ours: key and URL are right */
    POLL_SHIFT = 16,
};

enum {
    RESPONSE_MAX_BYTES = 1024 * 1024,
    POLL_FAST_MS = 100,
    POLL_FAST_COUNT = 20,
    POLL_SLOW_MS = 500,
    DELETE_RETRY_MS = 500,
    CONFLICT_RETRY_MS = 1000,
};

static struct daytona *self(struct provider *provider)
{
    return (struct daytona *)provider;
}

/* ---- verdicts -------------------------------------------------------------------------------- */

/* Waits, then sends the request of `phase`. */
static void wait_for(struct provider_call *call, enum phase phase, int64_t ms,
                     struct provider_step *ret)
{
    call->phase = phase;
    ret->verdict = PROVIDER_WAIT;
    ret->retry_after_ms = ms;
}

static void wait_to_poll(struct provider_call *call, struct provider_step *ret)
{
    int polls = call->scratch >> POLL_SHIFT;
    call->scratch += 1 << POLL_SHIFT;
    str_copy(ret->error, sizeof(ret->error), "daytona: a change is under way");
    wait_for(call, PHASE_POLL, polls < POLL_FAST_COUNT ? POLL_FAST_MS : POLL_SLOW_MS, ret);
}

/* Fails the step with the class and text of an unsuccessful answer. */
static void fail_response(const struct daytona *daytona, const struct provider_call *call,
                          const struct http_response *last, const char *what,
                          struct provider_step *ret)
{
    bool starting = call->phase == PHASE_CREATE || call->phase == PHASE_START_BOX;
    char text[180];
    daytona_error_text(daytona, last, text, sizeof(text));
    if (last->transport != HTTP_ANSWERED) {
        /* every request but the create may be repeated */
        step_fail(ret, OUTCOME_TRANSIENT, 0, "daytona %s: %s", what, text);
        return;
    }
    if (daytona_is_foreign(last)) {
        step_fail_foreign(ret, last, "daytona", what);
        return;
    }
    int64_t retry_after_ms = last->retry_after_ms;
    enum outcome outcome = daytona_classify(last->status, text, starting, &retry_after_ms);
    step_fail(ret, outcome, retry_after_ms, "daytona %s: HTTP %d%s%s", what, last->status,
              text[0] ? ": " : "", text);
    ret->http_status = last->status;
}

/* Fails a create with the reason that was stored before its remains were removed. */
static void fail_remembered(struct provider_call *call, struct provider_step *ret)
{
    call->scratch &= ~MAY_EXIST;
    step_fail(ret,
              call->scratch & FULL       ? OUTCOME_CAPACITY
              : call->scratch & FOR_GOOD ? OUTCOME_PERMANENT
                                         : OUTCOME_TRANSIENT,
              0, "%s", call->page.data);
    ret->http_status = call->scratch & REFUSED ? 400 : 200;
}

/* ---- requests -------------------------------------------------------------------------------- */

/* METHOD /sandbox/<id><suffix>, without a body */
static void send_box(const struct daytona *daytona, struct provider_call *call, enum phase phase,
                     const char *method, const char *id, const char *suffix,
                     struct http_request *request, struct provider_step *ret)
{
    if (!provider_is_id(id)) {
        step_fail(ret, OUTCOME_PERMANENT, 0, "daytona: malformed sandbox id");
        return;
    }
    daytona_api_request(daytona, method, request);
    strbuf_printf(&request->url, "/sandbox/%s%s", id, suffix);
    step_send(call, phase, request, "daytona", ret);
}

static void send_create(const struct daytona *daytona, struct provider_call *call,
                        struct http_request *request, struct provider_step *ret)
{
    cJSON *body = daytona_create_body(daytona, call);
    if (!body) {
        step_fail(ret, OUTCOME_PERMANENT, 0, "daytona create: the metadata is not a JSON object");
        return;
    }
    daytona_api_request(daytona, "POST", request);
    strbuf_puts(&request->url, "/sandbox");
    strbuf_puts(&request->headers, "Content-Type: application/json\n");
    json_print(body, &request->body);
    cJSON_Delete(body);
    request->has_body = true;
    request->once = true;
    call->scratch |= MAY_EXIST;
    step_send(call, PHASE_CREATE, request, "daytona", ret);
}

static void send_find(const struct daytona *daytona, struct provider_call *call,
                      struct http_request *request, struct provider_step *ret)
{
    send_box(daytona, call, PHASE_FIND, "GET", step_text(call->sandbox_id), "", request, ret);
}

static void send_poll(const struct daytona *daytona, struct provider_call *call,
                      struct http_request *request, struct provider_step *ret)
{
    send_box(daytona, call, PHASE_POLL, "GET", call->result.provider_sandbox_id, "", request, ret);
}

static void send_delete(const struct daytona *daytona, struct provider_call *call,
                        struct http_request *request, struct provider_step *ret)
{
    send_box(daytona, call, PHASE_DELETE, "DELETE", call->result.provider_sandbox_id, "", request,
             ret);
}

static void send_action(const struct daytona *daytona, struct provider_call *call, enum phase phase,
                        const char *suffix, struct http_request *request, struct provider_step *ret)
{
    send_box(daytona, call, phase, "POST", call->result.provider_sandbox_id, suffix, request, ret);
}

static void send_autostop(const struct daytona *daytona, struct provider_call *call,
                          struct http_request *request, struct provider_step *ret)
{
    char suffix[48];
    snprintf(suffix, sizeof(suffix), "/autostop/%lld", (long long)daytona_autostop_minutes(call));
    call->scratch |= AUTOSTOP_SET;
    send_action(daytona, call, PHASE_AUTOSTOP, suffix, request, ret);
}

/* ---- what a sandbox's state means for the operation ------------------------------------------ */

/* The sandbox runs: set its idle timer and read its toolbox URL, then end. */
static void box_started(const struct daytona *daytona, struct provider_call *call,
                        const struct daytona_box *box, struct http_request *request,
                        struct provider_step *ret)
{
    struct provider_result *result = &call->result;
    if (call->op != PROVIDER_GET && !(call->scratch & AUTOSTOP_SET) &&
        box->autostop_minutes != daytona_autostop_minutes(call)) {
        send_autostop(daytona, call, request, ret);
        return;
    }
    if (call->op != PROVIDER_GET) {
        result->expires_at_ms = call->now_ms + daytona_autostop_minutes(call) * 60000;
    }
    if (result->domain[0] == '\0' && (call->op == PROVIDER_CREATE || call->op == PROVIDER_RESUME)) {
        send_box(daytona, call, PHASE_TOOLBOX, "GET", result->provider_sandbox_id,
                 "/toolbox-proxy-url", request, ret);
        return;
    }
    step_done(call, ret, PROVIDER_STATE_RUNNING);
}

/* A create failed: stores the reason and removes its remains. */
static void clean_up(const struct daytona *daytona, struct provider_call *call, int how,
                     const char *what, const struct daytona_box *box, struct http_request *request,
                     struct provider_step *ret)
{
    if (!(call->scratch & REFUSED)) {
        strbuf_reset(&call->page);
        strbuf_printf(&call->page, "daytona create: %s%s%s", what, box->reason[0] ? ": " : "",
                      box->reason);
    }
    call->scratch |= CLEANUP | how;
    send_delete(daytona, call, request, ret);
}

static void box_failed(const struct daytona *daytona, struct provider_call *call,
                       const struct daytona_box *box, struct http_request *request,
                       struct provider_step *ret)
{
    bool build = strcmp(box->state, "build_failed") == 0;
    if (call->op == PROVIDER_CREATE) {
        clean_up(daytona, call, build ? FOR_GOOD : 0, build ? "the build failed" : "it failed", box,
                 request, ret);
    } else if (call->op == PROVIDER_RESUME && box->recoverable && !(call->scratch & RECOVERED)) {
        call->scratch |= RECOVERED;
        send_action(daytona, call, PHASE_RECOVER, "/recover", request, ret);
    } else if (call->op == PROVIDER_RESUME) {
        step_fail(ret, OUTCOME_PERMANENT, 0, "daytona: the sandbox is in state %s%s%s", box->state,
                  box->reason[0] ? ": " : "", box->reason);
        ret->http_status = 200;
    } else {
        step_done(call, ret,
                  PROVIDER_STATE_PAUSED); /* it does not run; a resume will report the reason */
    }
}

static void box_changing(const struct daytona *daytona, struct provider_call *call,
                         const struct daytona_box *box, struct http_request *request,
                         struct provider_step *ret)
{
    if (call->op == PROVIDER_CREATE && box->created_at_ms > 0 &&
        call->now_ms - provider_call_time(call, box->created_at_ms) >
            daytona->config.create_timeout_ms) {
        clean_up(daytona, call, 0, "it did not start in time", box, request, ret);
        return;
    }
    wait_to_poll(call, ret);
}

static void box_stop(const struct daytona *daytona, struct provider_call *call,
                     const struct daytona_box *box, struct http_request *request,
                     struct provider_step *ret)
{
    if (call->scratch & ASKED) {
        wait_to_poll(call, ret); /* the state does not yet show the accepted request */
    } else if (box->is_vm && !(call->scratch & NO_PAUSE)) {
        send_action(daytona, call, PHASE_PAUSE_BOX, "/pause", request, ret);
    } else {
        send_action(daytona, call, PHASE_STOP_BOX, "/stop?force=false", request, ret);
    }
}

/* Continues the operation, now that the sandbox's state is known. */
static void advance(const struct daytona *daytona, struct provider_call *call,
                    const struct daytona_box *box, struct http_request *request,
                    struct provider_step *ret)
{
    bool up = call->op == PROVIDER_CREATE || call->op == PROVIDER_RESUME;
    if (call->op == PROVIDER_DELETE) {
        if (box->kind == DAYTONA_GONE && strcmp(box->state, "destroyed") == 0) {
            step_done(call, ret, PROVIDER_STATE_ABSENT);
        } else if (box->kind == DAYTONA_GONE) {
            wait_to_poll(call, ret);
        } else {
            wait_for(call, PHASE_DELETE, DELETE_RETRY_MS, ret);
        }
        return;
    }
    switch (box->kind) {
    case DAYTONA_STARTED:
        if (call->op == PROVIDER_PAUSE) {
            box_stop(daytona, call, box, request, ret);
        } else {
            box_started(daytona, call, box, request, ret);
        }
        break;
    case DAYTONA_STOPPED:
        if (up && call->scratch & ASKED) {
            wait_to_poll(call, ret);
        } else if (up) {
            send_action(daytona, call, PHASE_START_BOX, "/start", request, ret);
        } else {
            step_done(call, ret, PROVIDER_STATE_PAUSED);
        }
        break;
    case DAYTONA_FAILED:
        box_failed(daytona, call, box, request, ret);
        break;
    case DAYTONA_GONE:
        if (call->op == PROVIDER_CREATE) {
            call->scratch &= ~MAY_EXIST;
            step_fail(ret, OUTCOME_TRANSIENT, 0, "daytona create: the sandbox was destroyed");
        } else {
            step_done(call, ret, PROVIDER_STATE_ABSENT);
        }
        break;
    case DAYTONA_UNKNOWN:
    case DAYTONA_CHANGING:
        box_changing(daytona, call, box, request, ret);
        break;
    }
}

/* Copies the answer's sandbox into the result. -1: the answer is unusable. */
static int take_box(struct provider_call *call, const struct http_response *last,
                    struct daytona_box *box)
{
    struct error ignored = ERROR_INIT; /* the caller turns -1 into an outcome */
    cJSON *root = last->body_bytes > 0 ? json_parse(last->body, last->body_bytes, &ignored) : NULL;
    int rc =
        daytona_box_take(root, step_text(call->deployment_id), step_text(call->sandbox_id), box);
    cJSON_Delete(root);
    return rc;
}

static void keep_box(struct provider_call *call, const struct daytona_box *box)
{
    struct provider_result *result = &call->result;
    str_copy(result->provider_sandbox_id, sizeof(result->provider_sandbox_id), box->id);
    if (box->toolbox_url[0]) {
        str_copy(result->domain, sizeof(result->domain), box->toolbox_url);
    }
}

/* ---- answers --------------------------------------------------------------------------------- */

static void after_create(const struct daytona *daytona, struct provider_call *call,
                         const struct http_response *last, struct http_request *request,
                         struct provider_step *ret)
{
    struct daytona_box box;
    if (last->transport == HTTP_NOT_SENT) {
        call->scratch &= ~MAY_EXIST;
        fail_response(daytona, call, last, "create", ret);
        return;
    }
    if (step_succeeded(last) && take_box(call, last, &box) == 0) {
        keep_box(call, &box);
        advance(daytona, call, &box, request, ret);
        return;
    }
    bool definite = last->transport == HTTP_ANSWERED && last->status >= 300 && last->status < 500 &&
                    last->status != 408 && last->status != 409;
    if (!definite) {
        /* the name tells whether it was created */
        if (step_answered(last, 409)) {
            call->scratch |= CONFLICT;
        }
        send_find(daytona, call, request, ret);
        return;
    }
    fail_response(daytona, call, last, "create", ret);
    if (last->status != 400 || daytona_is_foreign(last)) {
        call->scratch &= ~MAY_EXIST;
        return;
    }
    /* "failed to start" leaves a sandbox with our name; other refusals leave nothing */
    call->scratch |= REFUSED | (ret->outcome == OUTCOME_CAPACITY ? FULL : FOR_GOOD);
    strbuf_reset(&call->page);
    strbuf_puts(&call->page, ret->error);
    send_find(daytona, call, request, ret);
}

static void find_empty(const struct daytona *daytona, struct provider_call *call,
                       struct http_request *request, struct provider_step *ret)
{
    bool settles = call->op == PROVIDER_CREATE ? call->settle_only : call->maybe_sent;
    if (settles && call->now_ms < call->settle_until_ms) {
        step_fail_unsettled(ret, call, call->settle_until_ms,
                            "daytona: an earlier create may still appear");
    } else if (call->settle_only && !(call->scratch & PROVEN) &&
               call->now_ms < call->unproven_until_ms) {
        call->phase = PHASE_PROOF;
        daytona_list_step(daytona, call, NULL, request, ret);
    } else if (call->op != PROVIDER_CREATE || call->settle_only) {
        step_done(call, ret, PROVIDER_STATE_ABSENT);
    } else if (call->scratch & REFUSED) {
        fail_remembered(call, ret);
    } else if (call->scratch & CONFLICT) {
        step_fail(ret, OUTCOME_SNOOZE, CONFLICT_RETRY_MS,
                  "daytona create: the name is being freed");
    } else if (call->scratch & MAY_EXIST) {
        step_fail(ret, OUTCOME_AMBIGUOUS, 0, "daytona create: no answer, and no such sandbox yet");
        ret->looked = true;
    } else {
        send_create(daytona, call, request, ret);
    }
}

/* The not-found may be another organization's: it counts when the list shows a sandbox of ours and
 * the name is not found after it either. */
static void after_proof(const struct daytona *daytona, struct provider_call *call,
                        const struct http_response *last, struct http_request *request,
                        struct provider_step *ret)
{
    call->listed_count = 0;
    daytona_list_step(daytona, call, last, request, ret);
    if (ret->verdict == PROVIDER_FAILED ||
        (ret->verdict == PROVIDER_SEND && call->listed_count == 0)) {
        return;
    }
    if (call->listed_count == 0) {
        step_fail_unsettled(ret, call, call->unproven_until_ms,
                            "daytona: no list shows a sandbox of ours, so none proves that an "
                            "earlier create made nothing");
        return;
    }
    if (ret->verdict == PROVIDER_SEND) { /* of the next page, which is not needed */
        http_request_done(request);
        http_request_init(request);
    }
    call->scratch |= PROVEN;
    send_find(daytona, call, request, ret);
}

static void after_find(const struct daytona *daytona, struct provider_call *call,
                       const struct http_response *last, struct http_request *request,
                       struct provider_step *ret)
{
    struct daytona_box box;
    if (daytona_is_not_found(last)) {
        find_empty(daytona, call, request, ret);
        return;
    }
    if (!step_succeeded(last)) {
        fail_response(daytona, call, last, "get", ret);
        return;
    }
    if (take_box(call, last, &box) != 0) {
        step_fail_garbage(ret, OUTCOME_TRANSIENT, last, "daytona", "get");
        return;
    }
    if (box.kind == DAYTONA_GONE) {
        find_empty(daytona, call, request, ret);
        return;
    }
    if (!box.ours && call->op == PROVIDER_CREATE) {
        call->scratch &= ~MAY_EXIST;
        step_fail(ret, OUTCOME_PERMANENT, 0, "daytona create: the name belongs to another sandbox");
        ret->http_status = 409;
        return;
    }
    if (!box.ours) {
        step_done(call, ret, PROVIDER_STATE_ABSENT);
        return;
    }
    keep_box(call, &box);
    call->scratch |= MAY_EXIST;
    call->result.adopted = call->op == PROVIDER_CREATE;
    if (call->op == PROVIDER_DELETE) {
        send_delete(daytona, call, request, ret);
    } else {
        advance(daytona, call, &box, request, ret);
    }
}

static void after_poll(const struct daytona *daytona, struct provider_call *call,
                       const struct http_response *last, struct http_request *request,
                       struct provider_step *ret)
{
    struct daytona_box box;
    if (daytona_is_not_found(last)) {
        memset(&box, 0, sizeof(box));
        box.kind = DAYTONA_GONE;
        str_copy(box.state, sizeof(box.state), "destroyed");
    } else if (!step_succeeded(last)) {
        fail_response(daytona, call, last, "get", ret);
        return;
    } else if (take_box(call, last, &box) != 0) {
        step_fail_garbage(ret, OUTCOME_TRANSIENT, last, "daytona", "get");
        return;
    } else {
        keep_box(call, &box);
    }
    advance(daytona, call, &box, request, ret);
}

/* start, stop, pause and recover may be accepted, refused because of the state, or already under
 * way. Only a GET tells the state. */
static void after_action(const struct daytona *daytona, struct provider_call *call,
                         const struct http_response *last, const char *what,
                         struct http_request *request, struct provider_step *ret)
{
    if (step_succeeded(last)) {
        call->scratch |= ASKED;
        send_poll(daytona, call, request, ret);
    } else if (call->phase == PHASE_PAUSE_BOX && step_answered(last, 422)) {
        call->scratch |= NO_PAUSE;
        send_action(daytona, call, PHASE_STOP_BOX, "/stop?force=false", request, ret);
    } else if (daytona_is_not_found(last)) {
        send_poll(daytona, call, request, ret);
    } else if (step_answered(last, 409)) {
        wait_to_poll(call, ret);
    } else if (call->phase == PHASE_STOP_BOX && step_answered(last, 400)) {
        call->scratch |= ASKED; /* "not in a stoppable state": it may be stopped already */
        send_poll(daytona, call, request, ret);
    } else {
        fail_response(daytona, call, last, what, ret);
    }
}

static void after_autostop(const struct daytona *daytona, struct provider_call *call,
                           const struct http_response *last, struct http_request *request,
                           struct provider_step *ret)
{
    if (step_succeeded(last) && call->op == PROVIDER_TIMEOUT) {
        /* the idle time starts at the last activity, so report one now */
        send_action(daytona, call, PHASE_ACTIVITY, "/last-activity", request, ret);
    } else if (step_succeeded(last) || daytona_is_not_found(last)) {
        send_poll(daytona, call, request, ret);
    } else if (step_answered(last, 409)) {
        wait_for(call, PHASE_AUTOSTOP, POLL_SLOW_MS, ret);
    } else {
        fail_response(daytona, call, last, "autostop", ret);
    }
}

static void after_toolbox(const struct daytona *daytona, struct provider_call *call,
                          const struct http_response *last, struct provider_step *ret)
{
    struct error ignored = ERROR_INIT; /* NULL is answered below */
    char url[DOMAIN_BYTES];
    if (!step_succeeded(last)) {
        fail_response(daytona, call, last, "toolbox-proxy-url", ret);
        return;
    }
    cJSON *root = json_parse(last->body, last->body_bytes, &ignored);
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, "url");
    if (cJSON_IsString(item) && str_copy(url, sizeof(url), item->valuestring) == 0 &&
        provider_normalize_url(url)) {
        str_copy(call->result.domain, sizeof(call->result.domain), url);
        step_done(call, ret, PROVIDER_STATE_RUNNING);
    } else {
        step_fail_garbage(ret, OUTCOME_TRANSIENT, last, "daytona", "toolbox-proxy-url");
    }
    cJSON_Delete(root);
}

static void after_delete(const struct daytona *daytona, struct provider_call *call,
                         const struct http_response *last, struct http_request *request,
                         struct provider_step *ret)
{
    if (step_answered(last, 409)) {
        str_copy(ret->error, sizeof(ret->error), "daytona delete: a change is under way");
        wait_for(call, PHASE_DELETE, DELETE_RETRY_MS, ret);
    } else if (!step_succeeded(last) && !daytona_is_not_found(last)) {
        fail_response(daytona, call, last, "delete", ret);
    } else if (call->scratch & CLEANUP) {
        fail_remembered(call, ret); /* an accepted delete frees the name at once */
    } else if (daytona_is_not_found(last)) {
        step_done(call, ret, PROVIDER_STATE_ABSENT);
    } else {
        send_poll(daytona, call, request, ret);
    }
}

/* ---- the machine ----------------------------------------------------------------------------- */

static void begin(const struct daytona *daytona, struct provider_call *call,
                  struct http_request *request, struct provider_step *ret)
{
    const char *id = step_text(call->provider_sandbox_id);
    if (call->op == PROVIDER_CREATE) {
        if (call->maybe_sent) {
            send_find(daytona, call, request, ret);
        } else {
            send_create(daytona, call, request, ret);
        }
        return;
    }
    if (!id[0]) {
        if (call->op == PROVIDER_DELETE || call->op == PROVIDER_GET) {
            send_find(daytona, call, request, ret);
        } else {
            step_fail(ret, OUTCOME_PERMANENT, 0, "daytona: the sandbox has no provider id yet");
        }
        return;
    }
    str_copy(call->result.provider_sandbox_id, sizeof(call->result.provider_sandbox_id), id);
    if (call->op == PROVIDER_DELETE) {
        send_delete(daytona, call, request, ret);
    } else if (call->op == PROVIDER_TIMEOUT) {
        send_autostop(daytona, call, request, ret);
    } else {
        send_poll(daytona, call, request, ret);
    }
}

/* After a wait, sends the request that it was for. */
static void go_on(const struct daytona *daytona, struct provider_call *call,
                  struct http_request *request, struct provider_step *ret)
{
    if (call->phase == PHASE_DELETE) {
        send_delete(daytona, call, request, ret);
    } else if (call->phase == PHASE_AUTOSTOP) {
        send_autostop(daytona, call, request, ret);
    } else {
        send_poll(daytona, call, request, ret);
    }
}

static void take_answer(const struct daytona *daytona, struct provider_call *call,
                        const struct http_response *last, struct http_request *request,
                        struct provider_step *ret)
{
    switch ((enum phase)call->phase) {
    case PHASE_START:
    case PHASE_CREATE:
        after_create(daytona, call, last, request, ret);
        break;
    case PHASE_FIND:
        after_find(daytona, call, last, request, ret);
        break;
    case PHASE_PROOF:
        after_proof(daytona, call, last, request, ret);
        break;
    case PHASE_POLL:
        after_poll(daytona, call, last, request, ret);
        break;
    case PHASE_START_BOX:
        after_action(daytona, call, last, "start", request, ret);
        break;
    case PHASE_STOP_BOX:
        after_action(daytona, call, last, "stop", request, ret);
        break;
    case PHASE_PAUSE_BOX:
        after_action(daytona, call, last, "pause", request, ret);
        break;
    case PHASE_RECOVER:
        after_action(daytona, call, last, "recover", request, ret);
        break;
    case PHASE_AUTOSTOP:
        after_autostop(daytona, call, last, request, ret);
        break;
    case PHASE_ACTIVITY:
        if (step_succeeded(last) || daytona_is_not_found(last) || step_answered(last, 409)) {
            send_poll(daytona, call, request, ret);
        } else {
            fail_response(daytona, call, last, "last-activity", ret);
        }
        break;
    case PHASE_TOOLBOX:
        after_toolbox(daytona, call, last, ret);
        break;
    case PHASE_DELETE:
        after_delete(daytona, call, last, request, ret);
        break;
    }
}

void daytona_step(struct provider *provider, struct provider_call *call,
                  const struct http_response *last, struct http_request *request,
                  struct provider_step *ret)
{
    const struct daytona *daytona = self(provider);
    memset(ret, 0, sizeof(*ret));
    if (call->op == PROVIDER_LIST) {
        daytona_list_step(daytona, call, last, request, ret);
    } else if (last) {
        take_answer(daytona, call, last, request, ret);
    } else if (call->phase == PHASE_START) {
        begin(daytona, call, request, ret);
    } else {
        go_on(daytona, call, request, ret);
    }

    /* a create of an earlier attempt that was not looked up yet, or of this attempt */
    bool unproved = call->maybe_sent && (call->phase == PHASE_START || call->phase == PHASE_FIND ||
                                         call->phase == PHASE_PROOF);
    ret->may_exist = call->op == PROVIDER_CREATE && (unproved || call->scratch & MAY_EXIST);
    if (ret->verdict == PROVIDER_FAILED && ret->may_exist && ret->outcome != OUTCOME_SNOOZE &&
        ret->outcome != OUTCOME_AUTH && ret->outcome != OUTCOME_RATE_LIMITED) {
        ret->outcome = OUTCOME_AMBIGUOUS;
    }
}
