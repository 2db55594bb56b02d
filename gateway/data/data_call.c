/* data_call - see data_call.h. */
#include "gateway/data/data_call.h"

#include <string.h>

#include "common/base/encode.h"
#include "gateway/http/request_state.h"
#include "gateway/http/views.h"
#include "gateway/work/lifecycle.h"

struct watch {
    const struct request *request;
    bool ended; /* the caller's right has ended, and the call was stopped */
};

static bool has_ended(void *arg)
{
    struct watch *watch = arg;

    watch->ended = auth_ended(watch->request->gateway->auth, &watch->request->principal);
    return watch->ended;
}

/* Runs the call, and stops it when the caller's token ends. */
static int run_watched(const struct data_call *call, data_fn run, void *arg, struct error *err)
{
    struct watch watch = {.request = call->request};
    int status;

    http_client_watch(call->client, has_ended, &watch);
    status = run(call, arg, err);
    if (watch.ended) {
        status = error_set(err, ERR_TOKEN_REVOKED, TOKEN_REFUSED_MESSAGE);
    }
    http_client_watch(call->client, NULL, NULL);
    return status;
}

struct work {
    data_fn run;
    void *arg;
    bool shares; /* it takes a part of the provider's share */
};

static int call_in(struct data_call *call, const struct sandbox *sandbox, const struct work *work,
                   struct error *err)
{
    struct request *request = call->request;
    struct gateway *gateway = request->gateway;
    int status = activity_begin(gateway->activity, sandbox, err);

    if (status == 0) {
        call->client = client_pool_take(gateway->clients);
        call->pauses = activity_pauses(gateway->activity, sandbox->id);
        call->files = (struct sandbox_files){call->provider, call->client, &call->target};
        request->state->idempotency.started = true;
        status = run_watched(call, work->run, work->arg, err);
        if (status < 0 && err->code == ERR_SANDBOX_NOT_FOUND) {
            request->state->idempotency.started = false; /* the call had no effect */
        }
        client_pool_give(gateway->clients, call->client);
        activity_end(gateway->activity, sandbox->id);
    }
    return status;
}

static int call_once(struct request *request, const struct sandbox *sandbox,
                     const struct work *work, struct error *err)
{
    struct data_call call = {.request = request};
    struct provider_shares *shares = &request->gateway->provider_shares;
    int status;

    call.provider = view_provider(request, sandbox, err);
    call.target = view_target(sandbox);
    if (call.provider == NULL) {
        return -1;
    }
    if (!work->shares) {
        return call_in(&call, sandbox, work, err);
    }
    if (!provider_share_take(shares, sandbox->provider)) {
        return error_set(err, ERR_OVERLOADED,
                         "%d calls into sandboxes at %s are being served, "
                         "which is all at once",
                         shares->max, sandbox->provider);
    }
    status = call_in(&call, sandbox, work, err);
    provider_share_give(shares, sandbox->provider);
    return status;
}

static int run_twice(struct request *request, const char *sandbox_id, const struct work *work,
                     struct error *err)
{
    struct sandbox sandbox;
    int status;

    if (lifecycle_get_running(request, sandbox_id, &sandbox, err) < 0) {
        return -1;
    }
    status = call_once(request, &sandbox, work, err);
    sandbox_done(&sandbox);
    if (status < 0) {
        idempotency_spend(request, err);
    }
    if (status == 0 || err->code != ERR_SANDBOX_NOT_FOUND) {
        return status;
    }
    /* the provider's proxy answers alike for a deleted and for a paused sandbox */
    if (lifecycle_reconcile(request, sandbox_id, err) < 0 ||
        lifecycle_get_running(request, sandbox_id, &sandbox, err) < 0) {
        return -1;
    }
    status = sandbox.missing_since_ms > 0
                 ? error_set(err, ERR_PROVIDER_DOWN,
                             "the provider does not know the sandbox at the moment")
                 : call_once(request, &sandbox, work, err);
    sandbox_done(&sandbox);
    if (status < 0) {
        idempotency_spend(request, err);
    }
    if (status < 0 && err->code == ERR_SANDBOX_NOT_FOUND) {
        return error_set(err, ERR_PROVIDER,
                         "the provider lists the sandbox as running but does not reach it");
    }
    return status;
}

int data_call_run(struct request *request, const char *sandbox_id, data_fn run, void *arg,
                  struct error *err)
{
    return run_twice(request, sandbox_id, &(struct work){run, arg, true}, err);
}

int data_call_attend(struct request *request, const char *sandbox_id, data_fn run, void *arg,
                     struct error *err)
{
    return run_twice(request, sandbox_id, &(struct work){run, arg, false}, err);
}

bool data_call_paused(const struct data_call *call, const char *sandbox_id, bool failed)
{
    struct gateway *gateway = call->request->gateway;
    struct error ignored = ERROR_INIT; /* on failure the sandbox counts as not paused */
    struct sandbox sandbox;
    bool paused;

    if (!failed) {
        return activity_pauses(gateway->activity, sandbox_id) != call->pauses;
    }
    if (store_sandbox_get(gateway->store, sandbox_id, "", true, &sandbox, &ignored) < 0) {
        return false;
    }
    paused = sandbox.status == SANDBOX_PAUSED || sandbox.status == SANDBOX_PAUSING;
    sandbox_done(&sandbox);
    return paused;
}

/* Accepts base64, for a path that is not UTF-8. */
static int decode_path(cJSON *body, const char *path_field, const char **path, struct error *err)
{
    struct strbuf decoded;
    int status = -1;

    strbuf_init(&decoded, DATA_PATH_MAX_BYTES);
    if (decode_base64(&decoded, *path, strlen(*path), err) < 0) {
        error_set(err, ERR_INVALID, "%s is not valid base64, or too long", path_field);
    } else if (decoded.length == 0 || strlen(decoded.data) != decoded.length) {
        error_set(err, ERR_INVALID, "%s is empty or has a NUL byte", path_field);
    } else {
        cJSON *item = cJSON_CreateString(decoded.data);
        *path = item->valuestring;
        cJSON_ReplaceItemInObjectCaseSensitive(body, path_field, item);
        status = 0;
    }
    strbuf_done(&decoded);
    return status;
}

int data_read_target(const struct request *request, const char *path_field,
                     char ret_sandbox_id[UUID_BYTES], const char **ret_path, struct error *err)
{
    const char *encoding;

    if (request_sandbox_id(request, ret_sandbox_id, err) < 0 ||
        json_get_string_req(request->body, path_field, 1, 2 * DATA_PATH_MAX_BYTES, ret_path, err) <
            0 ||
        json_get_string(request->body, "path_encoding", 16, "utf-8", &encoding, err) < 0) {
        return -1;
    }
    if (strcmp(encoding, "base64") == 0) {
        return decode_path(request->body, path_field, ret_path, err);
    }
    if (strcmp(encoding, "utf-8") != 0) {
        return error_set(err, ERR_INVALID, "path_encoding must be utf-8 or base64");
    }
    return strlen(*ret_path) <= DATA_PATH_MAX_BYTES
               ? 0
               : error_set(err, ERR_INVALID, "%s: longer than %d bytes", path_field,
                           DATA_PATH_MAX_BYTES);
}
