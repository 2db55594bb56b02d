/*
 * e2b_sandboxes - E2B's API: create, get, kill, pause, resume, connect, timeout, refreshes.
 *
 * Every change is a job like those of the contract's calls. A deadline set here is absolute: at it
 * the sandbox is deleted, or paused with autoPause; connect and refreshes only extend it.
 */
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/domain/job_params.h"
#include "gateway/data/network_rules.h"
#include "gateway/data/port_urls.h"
#include "gateway/e2b/e2b_relay.h"
#include "gateway/e2b/e2b_view.h"
#include "gateway/http/bounds.h"
#include "gateway/http/handlers.h"
#include "gateway/work/idempotency.h"
#include "gateway/work/lifecycle.h"

enum {
    CREATE_TIMEOUT_S = 15, /* of E2B's API; its second version and its SDKs have the other */
    CREATE_V2_TIMEOUT_S = 300,
    REFRESH_S = 15,
    REFRESH_MAX_S = 3600,
    CONNECT_TRIES = 4,
};

/* ---- answers -----------------------------------------------------------------------------------
 */

static void respond_pending(struct request *request, const char *what)
{
    struct error err = ERROR_INIT;

    error_set(&err, ERR_TIMEOUT, "the sandbox did not %s within %lld s; it goes on", what,
              (long long)request->gateway->config->wait_s);
    respond_error(request, &err, 0);
}

/* What the provider refused is the caller's mistake here: a template that is not there, say. */
static void respond_failure(struct request *request, const struct job *job, struct error *err)
{
    static const struct {
        int status;
        enum error_code code;
    } refusals[] = {{400, ERR_INVALID}, {403, ERR_FORBIDDEN}, {404, ERR_NOT_FOUND}};

    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        if (job->outcome == OUTCOME_PERMANENT && err->code == ERR_PROVIDER &&
            job->provider_http_status == refusals[i].status) {
            err->code = refusals[i].code;
        }
    }
    respond_error(request, err, 0);
}

static void respond_sandbox(struct request *request, const char *sandbox_id, int status)
{
    struct error err = ERROR_INIT;
    struct sandbox sandbox;
    cJSON *tree;

    if (lifecycle_get(request, sandbox_id, &sandbox, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    if (e2b_view_sandbox(request, &sandbox, &tree, &err) < 0) {
        respond_error(request, &err, 0);
    } else {
        respond_json(request, status, tree, NULL);
    }
    sandbox_done(&sandbox);
}

/* ---- create ------------------------------------------------------------------------------------
 */

/* Absent, null and empty ask for nothing. */
static bool asks(const cJSON *field)
{
    return field != NULL && !cJSON_IsNull(field) &&
           !((cJSON_IsObject(field) || cJSON_IsArray(field)) && field->child == NULL);
}

/* What this server cannot keep is refused, never dropped. */
static int refuse_unsupported(const cJSON *body, struct error *err)
{
    static const char *const names[] = {"mcp", "iam", "volumeMounts"};
    bool memory;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (asks(cJSON_GetObjectItemCaseSensitive(body, names[i]))) {
            return error_set(err, ERR_NOT_IMPLEMENTED, "%s: this server does not support it",
                             names[i]);
        }
    }
    if (json_get_bool(body, "autoPauseMemory", true, &memory, err) < 0) {
        return -1;
    }
    return memory ? 0
                  : error_set(err, ERR_NOT_IMPLEMENTED,
                              "autoPauseMemory false: this server does not support it");
}

/* Where the sandbox may go. Providers that cannot keep it are left out. */
static int read_network(const struct request *request, struct job_params *params, struct error *err)
{
    const cJSON *network = cJSON_GetObjectItemCaseSensitive(request->body, "network");
    bool internet, is_public;

    if (json_get_bool(request->body, "allow_internet_access", true, &internet, err) < 0 ||
        (cJSON_IsObject(network) &&
         json_get_bool(network, "allowPublicTraffic", true, &is_public, err) < 0)) {
        return -1;
    }
    if (internet && !asks(network)) {
        return 0;
    }
    if (asks(network) && !cJSON_IsObject(network)) {
        return error_set(err, ERR_INVALID, "network must be an object");
    }
    params->no_internet = !internet;
    params->network = asks(network) ? cJSON_Duplicate(network, true) : NULL;
    if (network_rules_place(request->gateway->providers, params, err) < 0) {
        err->code = ERR_NOT_IMPLEMENTED; /* E2B has no answer for it */
        return -1;
    }
    return 0;
}

/* `base` is what E2B's clients ask for when they name no template: each provider's default, unless
 * SANDBOX_TEMPLATES has that name. */
static const char *template_of(const struct request *request, const char *name)
{
    const struct placement *placement = request->gateway->placement;

    if (strcmp(name, "base") != 0) {
        return name;
    }
    for (size_t i = 0; placement_name(placement, i) != NULL; i++) {
        if (strcmp(placement_name(placement, i), name) == 0) {
            return name;
        }
    }
    return "";
}

static int read_create(struct request *request, int64_t default_timeout_s, struct sandbox *sandbox,
                       struct job_params *params, struct error *err)
{
    const cJSON *metadata, *envs;
    const char *template_id;
    int64_t timeout_s;
    bool pauses, secure;

    if (json_get_string_req(request->body, "templateID", 1, TEMPLATE_BYTES - 1, &template_id, err) <
            0 ||
        json_get_int(request->body, "timeout", 1, TIMEOUT_MAX_S, default_timeout_s, &timeout_s,
                     err) < 0 ||
        json_get_bool(request->body, "autoPause", false, &pauses, err) < 0 ||
        json_get_bool(request->body, "secure", true, &secure, err) < 0 ||
        json_get_string_map(request->body, "metadata", METADATA_MAX, METADATA_KEY_BYTES,
                            METADATA_VALUE_BYTES, &metadata, err) < 0 ||
        json_get_string_map(request->body, "envVars", ENVS_MAX, ENV_NAME_BYTES, ENV_VALUE_BYTES,
                            &envs, err) < 0 ||
        bounds_check_env_names(envs, "envVars", err) < 0 ||
        refuse_unsupported(request->body, err) < 0 ||
        placement_choose(request->gateway->placement, template_of(request, template_id), NULL,
                         params, err) < 0 ||
        read_network(request, params, err) < 0) {
        return -1;
    }
    id_uuid(sandbox->id);
    str_copy(sandbox->owner, sizeof(sandbox->owner), request->principal.subject);
    str_copy(sandbox->user_id, sizeof(sandbox->user_id), request->principal.username);
    str_copy(sandbox->provider, sizeof(sandbox->provider), params->places[0].provider);
    str_copy(sandbox->template_id, sizeof(sandbox->template_id), params->places[0].template_id);
    sandbox->timeout_mode = TIMEOUT_ABSOLUTE;
    sandbox->timeout_ms = timeout_s * 1000;
    sandbox->paused_ttl_ms = request->gateway->config->paused_ttl_s * 1000;
    sandbox->on_timeout = pauses ? ON_TIMEOUT_PAUSE : ON_TIMEOUT_DELETE;
    params->timeout_ms = sandbox->timeout_ms;
    params->envs = envs != NULL ? cJSON_Duplicate(envs, true) : NULL;
    port_urls_close_provider(request->gateway, params);
    if (metadata != NULL) {
        struct strbuf text;

        strbuf_init(&text, (size_t)request->gateway->config->max_body_bytes * 6);
        json_print(metadata, &text);
        sandbox->metadata_json = strbuf_take(&text);
    }
    return 0;
}

/* At E2B whoever knows a sandbox's id reaches its ports, unless the create forbids it. Here the
 * ports of services, which run commands, stay private all the same. */
static int open_ports(struct request *request, const char *sandbox_id, struct error *err)
{
    const cJSON *network = cJSON_GetObjectItemCaseSensitive(request->body, "network");
    struct store_port every;
    bool is_public = true;

    if (cJSON_IsObject(network) &&
        json_get_bool(network, "allowPublicTraffic", true, &is_public, err) < 0) {
        return -1;
    }
    return is_public
               ? port_urls_expose(request->gateway, sandbox_id, 0, true, 0, false, &every, err)
               : 0;
}

static void create(struct request *request, int64_t default_timeout_s)
{
    struct error err = ERROR_INIT;
    struct sandbox sandbox = {.timeout_ms = 0};
    struct job_params params = {.timeout_ms = 0};
    char *params_json;
    struct job job;

    if (read_create(request, default_timeout_s, &sandbox, &params, &err) < 0 ||
        (!idempotency_joins(request) &&
         admission_check(&request->gateway->admission, request->gateway->config, JOB_CREATE, &err) <
             0)) {
        respond_error(request, &err, 0);
        sandbox_done(&sandbox);
        job_params_done(&params);
        return;
    }
    params_json = job_params_format(&params);
    switch (lifecycle_create(request, &sandbox, params_json, false, &job, &err)) {
    case LIFECYCLE_ENDED:
        if (open_ports(request, sandbox.id, &err) < 0) {
            respond_error(request, &err, 0);
        } else {
            respond_sandbox(request, sandbox.id, 201);
        }
        break;
    case LIFECYCLE_PENDING:
        respond_pending(request, "start");
        break;
    case LIFECYCLE_ERROR:
        respond_failure(request, &job, &err);
        break;
    }
    if (job.id[0] != '\0' || err.code == ERR_OK) {
        request_set_audit_target(request, sandbox.id);
    }
    job_done(&job);
    free(params_json);
    sandbox_done(&sandbox);
    job_params_done(&params);
}

void handle_e2b_create(struct request *request)
{
    create(request, CREATE_TIMEOUT_S);
}

void handle_e2b_create_v2(struct request *request)
{
    create(request, CREATE_V2_TIMEOUT_S);
}

/* ---- one sandbox -------------------------------------------------------------------------------
 */

void handle_e2b_get(struct request *request)
{
    struct error err = ERROR_INIT;
    struct sandbox sandbox;
    cJSON *tree, *sizes;

    if (e2b_get_visible(request, &sandbox, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    sizes = e2b_relay_sizes(request, &sandbox);
    if (e2b_view_detail(request, &sandbox, sizes, &tree, &err) < 0) {
        respond_error(request, &err, 0);
    } else {
        respond_json(request, 200, tree, NULL);
    }
    cJSON_Delete(sizes);
    sandbox_done(&sandbox);
}

/* Runs the job. False: it is answered. A conflict is left to the caller when `ret_conflict` is
 * given: the state moved meanwhile. */
static bool run_job(struct request *request, struct lifecycle_change *change,
                    const struct job_params *params, const char *what, bool *ret_conflict)
{
    struct error err = ERROR_INIT;
    char *params_json = job_params_format(params);
    struct job job;
    enum lifecycle_end end;

    change->sandbox_id = request->path_id;
    change->params_json = params_json;
    end = lifecycle_run(request, change, &job, &err);
    if (end == LIFECYCLE_PENDING) {
        respond_pending(request, what);
    } else if (end == LIFECYCLE_ERROR && err.code == ERR_CONFLICT && ret_conflict != NULL) {
        *ret_conflict = true;
    } else if (end == LIFECYCLE_ERROR) {
        respond_failure(request, &job, &err);
    }
    job_done(&job);
    free(params_json);
    return end == LIFECYCLE_ENDED;
}

void handle_e2b_kill(struct request *request)
{
    struct error err = ERROR_INIT;
    struct lifecycle_change change = {
        .sandbox_id = request->path_id, .op = JOB_DELETE, .join = true, .keyed = true};
    struct job job;

    /* a delete is never given up: what is not done yet will be */
    if (lifecycle_run(request, &change, &job, &err) == LIFECYCLE_ERROR) {
        respond_failure(request, &job, &err);
    } else {
        respond_empty(request, 204);
    }
    job_done(&job);
}

void handle_e2b_pause(struct request *request)
{
    struct error err = ERROR_INIT;
    struct lifecycle_change change = {.op = JOB_PAUSE, .join = true, .keyed = true};
    /* a paused sandbox of E2B's has no end */
    const struct job_params params = {.ends_deadline = true};
    struct sandbox sandbox;
    bool memory = true;

    if (!idempotency_joins(request)) {
        if ((request->body != NULL &&
             json_get_bool(request->body, "memory", true, &memory, &err) < 0) ||
            e2b_get_visible(request, &sandbox, &err) < 0) {
            respond_error(request, &err, 0);
            return;
        }
        if (!memory) {
            error_set(&err, ERR_NOT_IMPLEMENTED, "memory false: this server does not support it");
        } else if (sandbox.status != SANDBOX_RUNNING) {
            error_set(&err, ERR_CONFLICT, "the sandbox cannot be paused while it is %s",
                      sandbox_status_name(sandbox.status));
        }
        sandbox_done(&sandbox);
        if (err.code != ERR_OK) {
            respond_error(request, &err, 0);
            return;
        }
    }
    if (run_job(request, &change, &params, "pause", NULL)) {
        respond_empty(request, 204);
    }
}

/* ---- deadlines ---------------------------------------------------------------------------------
 */

static int read_seconds(const struct request *request, const char *field, int64_t fallback,
                        int64_t max, int64_t *ret_ms, struct error *err)
{
    int64_t seconds = fallback;
    int status;

    if (request->body == NULL) {
        status = fallback < 0 ? error_set(err, ERR_INVALID, "%s is required", field) : 0;
    } else {
        status = fallback < 0 ? json_get_int_req(request->body, field, 0, max, &seconds, err)
                              : json_get_int(request->body, field, 0, max, fallback, &seconds, err);
    }
    *ret_ms = seconds > 0 ? seconds * 1000 : 1; /* 0 is now */
    return status;
}

/* Only a running sandbox has an end that can be moved. */
static int check_running(struct request *request, struct error *err)
{
    struct sandbox sandbox;
    enum sandbox_status status;

    if (e2b_get_visible(request, &sandbox, err) < 0) {
        return -1;
    }
    status = sandbox.status;
    sandbox_done(&sandbox);
    return status == SANDBOX_RUNNING
               ? 0
               : error_set(err, ERR_SANDBOX_NOT_FOUND, "the sandbox is not running");
}

static void move_deadline(struct request *request, const struct job_params *params)
{
    struct lifecycle_change change = {.op = JOB_TIMEOUT, .keyed = true};
    struct error err = ERROR_INIT;

    if (!idempotency_joins(request) && check_running(request, &err) < 0) {
        respond_error(request, &err, 0);
    } else if (run_job(request, &change, params, "get its new timeout", NULL)) {
        respond_empty(request, 204);
    }
}

void handle_e2b_timeout(struct request *request)
{
    struct error err = ERROR_INIT;
    struct job_params params = {.timeout_ms = 0};

    if (read_seconds(request, "timeout", -1, TIMEOUT_MAX_S, &params.timeout_ms, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    move_deadline(request, &params);
}

void handle_e2b_refresh(struct request *request)
{
    struct error err = ERROR_INIT;
    struct job_params params = {.only_extend = true};

    if (read_seconds(request, "duration", REFRESH_S, REFRESH_MAX_S, &params.timeout_ms, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    if (params.timeout_ms < REFRESH_S * 1000) {
        params.timeout_ms = REFRESH_S * 1000;
    }
    move_deadline(request, &params);
}

/* ---- connect -----------------------------------------------------------------------------------
 */

/* Makes it run, with its deadline at least so far away. True when it does; *ret_resumed: it had to
 * be resumed. False: answered. */
static bool bring_up(struct request *request, const struct job_params *resume, bool *ret_resumed)
{
    const struct job_params extend = {.timeout_ms = resume->timeout_ms, .only_extend = true};
    struct error err = ERROR_INIT;
    bool keyed = true;

    for (int i = 0; i < CONNECT_TRIES; i++) {
        struct lifecycle_change change = {.op = JOB_TIMEOUT, .keyed = keyed};
        struct sandbox sandbox;
        bool conflict = false, runs;

        if (e2b_get_visible(request, &sandbox, &err) < 0 ||
            (sandbox.status == SANDBOX_RUNNING && lifecycle_confirm(request, &sandbox, &err) < 0)) {
            respond_error(request, &err, 0);
            return false;
        }
        runs = sandbox.status == SANDBOX_RUNNING;
        if (runs && sandbox.expires_at_ms >= sandbox.read_at_ms + resume->timeout_ms) {
            sandbox_done(&sandbox);
            return true;
        }
        sandbox_done(&sandbox);
        if (!runs) {
            change.op = JOB_RESUME;
            change.join = true;
        }
        if (run_job(request, &change, runs ? &extend : resume, "start", &conflict)) {
            *ret_resumed = *ret_resumed || !runs;
            if (runs) {
                return true;
            }
        } else if (!conflict) {
            return false;
        }
        /* resumed, maybe by another's job with another deadline; or its state moved: look again */
        keyed = false;
    }
    error_set(&err, ERR_CONFLICT, "the sandbox keeps changing its state");
    respond_error(request, &err, 0);
    return false;
}

static void connect_sandbox(struct request *request, const struct job_params *params)
{
    bool resumed = false;

    if (bring_up(request, params, &resumed)) {
        respond_sandbox(request, request->path_id, resumed ? 201 : 200);
    }
}

static void read_and_connect(struct request *request, int64_t default_timeout_s)
{
    struct error err = ERROR_INIT;
    struct job_params params = {.timeout_ms = 0};

    if (read_seconds(request, "timeout", default_timeout_s, TIMEOUT_MAX_S, &params.timeout_ms,
                     &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    connect_sandbox(request, &params);
}

void handle_e2b_connect(struct request *request)
{
    read_and_connect(request, -1);
}

void handle_e2b_connect_v2(struct request *request)
{
    read_and_connect(request, CREATE_V2_TIMEOUT_S);
}

void handle_e2b_resume(struct request *request)
{
    struct error err = ERROR_INIT;
    struct job_params params = {.timeout_ms = 0};
    struct sandbox sandbox;
    bool pauses;

    if (read_seconds(request, "timeout", CREATE_TIMEOUT_S, TIMEOUT_MAX_S, &params.timeout_ms,
                     &err) < 0 ||
        e2b_get_visible(request, &sandbox, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    if (sandbox.status == SANDBOX_RUNNING && !idempotency_joins(request)) {
        error_set(&err, ERR_CONFLICT, "Sandbox is already running");
    }
    sandbox_done(&sandbox);
    if (err.code == ERR_OK && request->body != NULL &&
        cJSON_HasObjectItem(request->body, "autoPause") &&
        json_get_bool(request->body, "autoPause", false, &pauses, &err) == 0) {
        params.has_on_timeout = true;
        params.on_timeout = pauses ? ON_TIMEOUT_PAUSE : ON_TIMEOUT_DELETE;
    }
    if (err.code != ERR_OK) {
        respond_error(request, &err, 0);
        return;
    }
    connect_sandbox(request, &params);
}

void handle_e2b_unsupported(struct request *request)
{
    struct error err = ERROR_INIT;

    error_set(&err, ERR_NOT_IMPLEMENTED, "this server has no snapshots, forks or template builds");
    respond_error(request, &err, 0);
}
