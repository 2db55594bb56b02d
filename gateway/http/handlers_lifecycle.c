/* handlers_lifecycle - create, connect, pause, delete, schedule-timeout (all through the queue),
 * and reads of rows. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/alloc.h"
#include "common/domain/job_params.h"
#include "gateway/data/network_rules.h"
#include "gateway/data/port_urls.h"
#include "gateway/data/services.h"
#include "gateway/http/bounds.h"
#include "gateway/http/handlers.h"
#include "gateway/http/views.h"
#include "gateway/work/idempotency.h"
#include "gateway/work/lifecycle.h"

enum {
    RETRY_LATE_S = 15,
    STATUS_MESSAGE_BYTES = 2 * REASON_BYTES,
};

#define CURSOR_MAX_US INT64_C(253402300799999999) /* year 9999, the largest time of a row */

/* Answers 202: the job continues without the caller. */
static void respond_pending(struct request *request, const char *sandbox_id, const char *message)
{
    struct error err = ERROR_INIT;
    struct sandbox sandbox = {.status = SANDBOX_DELETED};

    /* deleted meanwhile; the job's end will say what that means */
    if (lifecycle_get(request, sandbox_id, &sandbox, &err) < 0 &&
        err.code != ERR_SANDBOX_NOT_FOUND) {
        respond_error(request, &err, 0);
        return;
    }
    respond_data(request, 202,
                 view_status(sandbox_id, sandbox_status_name(sandbox.status), message));
    sandbox_done(&sandbox);
}

/* Answers with the error of a finished job; provider_status is the provider's HTTP status. */
static void respond_job_error(struct request *request, const struct job *job,
                              const struct error *err, const char *sandbox_id)
{
    bool short_of_something =
        job->outcome == OUTCOME_CAPACITY || job->outcome == OUTCOME_RATE_LIMITED;
    cJSON *details = cJSON_CreateObject();

    if (sandbox_id != NULL) {
        cJSON_AddStringToObject(details, "sandbox_id", sandbox_id);
    }
    if (job->provider_http_status != 0) {
        cJSON_AddNumberToObject(details, "provider_status", job->provider_http_status);
    }
    respond_error_details(request, err, short_of_something ? RETRY_LATE_S : 0, details, NULL);
}

static int read_on_timeout(const cJSON *body, enum on_timeout fallback, enum on_timeout *ret,
                           bool *ret_given, struct error *err)
{
    const char *name;

    if (json_get_string(body, "on_timeout", 16, NULL, &name, err) < 0) {
        return -1;
    }
    *ret_given = name != NULL;
    *ret = fallback;
    if (name != NULL && on_timeout_parse(name, ret) < 0) {
        return error_set(err, ERR_INVALID, "on_timeout must be pause or delete");
    }
    return 0;
}

/* Fills the new sandbox and the create's parameters from the body. */
static int read_create(struct request *request, struct sandbox *sandbox, struct job_params *params,
                       struct error *err)
{
    const struct gateway *gateway = request->gateway;
    const char *user_id, *template_id, *provider_name;
    const cJSON *metadata, *envs, *env;
    bool given;
    int64_t timeout_s, paused_ttl_s;

    if (json_get_string_req(request->body, "user_id", 1, LABEL_BYTES - 1, &user_id, err) < 0 ||
        json_get_string(request->body, "sandbox_template_id", TEMPLATE_BYTES - 1, "", &template_id,
                        err) < 0 ||
        json_get_string(request->body, "provider", PROVIDER_BYTES - 1, NULL, &provider_name, err) <
            0 ||
        json_get_int(request->body, "timeout_seconds", 1, TIMEOUT_MAX_S,
                     gateway->config->idle_timeout_s, &timeout_s, err) < 0 ||
        json_get_int(request->body, "paused_ttl_seconds", PAUSED_TTL_MIN_S, PAUSED_TTL_MAX_S,
                     gateway->config->paused_ttl_s, &paused_ttl_s, err) < 0 ||
        read_on_timeout(request->body, ON_TIMEOUT_PAUSE, &sandbox->on_timeout, &given, err) < 0 ||
        json_get_string_map(request->body, "metadata", METADATA_MAX, METADATA_KEY_BYTES,
                            METADATA_VALUE_BYTES, &metadata, err) < 0 ||
        json_get_string_map(request->body, "envs", ENVS_MAX, ENV_NAME_BYTES, ENV_VALUE_BYTES, &envs,
                            err) < 0) {
        return -1;
    }
    cJSON_ArrayForEach(env, envs)
    {
        if (strchr(env->string, '=') != NULL) {
            return error_set(err, ERR_INVALID, "envs has a name with '=' in it");
        }
    }
    if (placement_choose(gateway->placement, template_id, provider_name, params, err) < 0 ||
        network_rules_read(request->body, params, err) < 0 ||
        network_rules_place(gateway->providers, params, err) < 0) {
        return -1;
    }
    id_uuid(sandbox->id);
    str_copy(sandbox->owner, sizeof(sandbox->owner), request->principal.subject);
    str_copy(sandbox->user_id, sizeof(sandbox->user_id), user_id);
    str_copy(sandbox->provider, sizeof(sandbox->provider), params->places[0].provider);
    str_copy(sandbox->template_id, sizeof(sandbox->template_id), params->places[0].template_id);
    sandbox->timeout_ms = timeout_s * 1000;
    sandbox->paused_ttl_ms = paused_ttl_s * 1000;
    params->timeout_ms = sandbox->timeout_ms;
    params->envs = envs != NULL ? cJSON_Duplicate(envs, true) : NULL;
    port_urls_close_provider(gateway, params);
    if (metadata != NULL) {
        struct strbuf text;

        strbuf_init(&text, (size_t)request->gateway->config->max_body_bytes * 6);
        json_print(metadata, &text);
        sandbox->metadata_json = strbuf_take(&text);
    }
    return 0;
}

static void respond_created(struct request *request, const char *sandbox_id, const char *message)
{
    struct error err = ERROR_INIT;
    struct sandbox sandbox;
    cJSON *data, *services;

    if (lifecycle_get(request, sandbox_id, &sandbox, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    data = view_created(request, &sandbox, message);
    services = services_await(request, &sandbox);
    if (services != NULL) {
        cJSON_AddItemToObject(data, "services", services);
    }
    respond_data(request, 200, data);
    sandbox_done(&sandbox);
}

void handle_create(struct request *request)
{
    struct error err = ERROR_INIT;
    struct sandbox sandbox = {.timeout_mode = TIMEOUT_IDLE};
    struct job_params params = {.timeout_ms = 0};
    char *params_json;
    struct job job;

    if (read_create(request, &sandbox, &params, &err) < 0 ||
        (!idempotency_joins(request) &&
         admission_check(&request->gateway->admission, request->gateway->config, JOB_CREATE, &err) <
             0)) {
        respond_error(request, &err, 0);
        sandbox_done(&sandbox);
        job_params_done(&params);
        return;
    }
    params_json = job_params_format(&params);
    switch (lifecycle_create(request, &sandbox, params_json, request_wants_async(request), &job,
                             &err)) {
    case LIFECYCLE_ENDED:
        respond_created(request, sandbox.id, "Sandbox created successfully");
        break;
    case LIFECYCLE_PENDING:
        respond_pending(request, sandbox.id, "The sandbox is being created");
        break;
    case LIFECYCLE_ERROR:
        respond_job_error(request, &job, &err, job.id[0] != '\0' ? sandbox.id : NULL);
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

/* Answers a job that has ended. */
typedef void (*ended_fn)(struct request *request, const char *sandbox_id, const struct job *job);

/* Runs the job. Answers with its end, or with `pending` if it has not ended yet. */
static void run_job(struct request *request, struct lifecycle_change *change, const char *pending,
                    ended_fn respond_ended)
{
    struct error err = ERROR_INIT;
    struct job job;

    change->no_wait = request_wants_async(request);
    switch (lifecycle_run(request, change, &job, &err)) {
    case LIFECYCLE_ENDED:
        respond_ended(request, change->sandbox_id, &job);
        break;
    case LIFECYCLE_PENDING:
        respond_pending(request, change->sandbox_id, pending);
        break;
    case LIFECYCLE_ERROR:
        respond_job_error(request, &job, &err, NULL);
        break;
    }
    job_done(&job);
}

static void respond_connected(struct request *request, const char *sandbox_id,
                              const struct job *job)
{
    (void)job; /* everything is in the sandbox's row */
    respond_created(request, sandbox_id, "Connected");
}

/* Answers a connect that needs no job. False: it needs one. */
static bool connect_at_once(struct request *request, const char *sandbox_id)
{
    struct error err = ERROR_INIT;
    struct sandbox sandbox;
    enum sandbox_status status;

    if (lifecycle_get(request, sandbox_id, &sandbox, &err) < 0) {
        respond_error(request, &err, 0);
        return true;
    }
    if (sandbox.status == SANDBOX_RUNNING && lifecycle_confirm(request, &sandbox, &err) < 0) {
        respond_error(request, &err, 0);
        sandbox_done(&sandbox);
        return true;
    }
    status = sandbox.status;
    if (status == SANDBOX_RUNNING) {
        /* connecting is activity, which moves an idle deadline */
        if (activity_begin(request->gateway->activity, &sandbox, &err) == 0) {
            activity_end(request->gateway->activity, sandbox.id);
            respond_data(request, 200, view_created(request, &sandbox, "Connected"));
        } else {
            respond_error(request, &err, 0);
        }
    } else if (status == SANDBOX_FAILED) {
        error_set(&err, ERR_SANDBOX_FAILED, "the sandbox could not be created");
        respond_error(request, &err, 0);
    }
    sandbox_done(&sandbox);
    return status == SANDBOX_RUNNING || status == SANDBOX_FAILED;
}

void handle_connect(struct request *request)
{
    struct error err = ERROR_INIT;
    char sandbox_id[UUID_BYTES];
    struct lifecycle_change change = {
        .sandbox_id = sandbox_id, .op = JOB_RESUME, .join = true, .keyed = true};

    if (request_sandbox_id(request, sandbox_id, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    /* a key bound to a job is answered by that job, whatever the sandbox's state is now */
    if (!idempotency_joins(request) && connect_at_once(request, sandbox_id)) {
        return;
    }
    run_job(request, &change, "The sandbox is being resumed", respond_connected);
}

/* Says what the provider keeps of a paused sandbox, which differs. */
static void respond_paused(struct request *request, const char *sandbox_id, const struct job *job)
{
    struct error err = ERROR_INIT;
    struct sandbox sandbox;
    struct provider *provider;
    bool memory;
    cJSON *data;

    (void)job; /* a pause has no result */
    if (lifecycle_get(request, sandbox_id, &sandbox, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    provider = provider_set_find(request->gateway->providers, sandbox.provider);
    memory = provider != NULL && provider->ops->pause_keeps_memory;
    data =
        view_status(sandbox.id, "paused",
                    memory ? "Sandbox paused"
                           : "Sandbox paused: its disk is kept, its processes and memory are not");
    cJSON_AddStringToObject(data, "keeps", memory ? "memory" : "disk");
    respond_data(request, 200, data);
    sandbox_done(&sandbox);
}

void handle_pause(struct request *request)
{
    struct error err = ERROR_INIT;
    struct job_params params = {.timeout_ms = 0};
    struct lifecycle_change change = {
        .sandbox_id = request->path_id, .op = JOB_PAUSE, .join = true, .keyed = true};
    char *params_json;

    if (http_query_param(request->http, "reason", params.reason, sizeof(params.reason)) < 0) {
        error_set(&err, ERR_INVALID, "reason is malformed or longer than %zu bytes",
                  sizeof(params.reason) - 1);
        respond_error(request, &err, 0);
        return;
    }
    params_json = job_params_format(&params);
    change.params_json = params_json;
    run_job(request, &change, "The sandbox is being paused", respond_paused);
    free(params_json);
}

void handle_delete(struct request *request)
{
    struct error err = ERROR_INIT;
    struct lifecycle_change change = {
        .sandbox_id = request->path_id, .op = JOB_DELETE, .join = true, .keyed = true};
    struct job job;

    change.no_wait = request_wants_async(request);
    switch (lifecycle_run(request, &change, &job, &err)) {
    case LIFECYCLE_ENDED:
        respond_data(request, 200, view_status(request->path_id, "deleted", "Sandbox deleted"));
        break;
    case LIFECYCLE_PENDING:
        respond_data(request, 202,
                     view_status(request->path_id, "deleting", "The sandbox is being deleted"));
        break;
    case LIFECYCLE_ERROR:
        respond_job_error(request, &job, &err, NULL);
        break;
    }
    job_done(&job);
}

/* Answers with expires_at_ms and clamped of the job's result. */
static void respond_scheduled(struct request *request, const char *sandbox_id,
                              const struct job *job)
{
    struct error err = ERROR_INIT;
    struct sandbox sandbox;
    cJSON *data, *result = NULL;
    bool clamped = false;

    if (lifecycle_get(request, sandbox_id, &sandbox, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    if (job->result_json != NULL) {
        result = json_parse(job->result_json, strlen(job->result_json), &err);
    }
    if (result != NULL && json_get_bool(result, "clamped", false, &clamped, &err) < 0) {
        clamped = false;
    }
    cJSON_Delete(result);
    data = cJSON_CreateObject();
    cJSON_AddTrueToObject(data, "success");
    cJSON_AddStringToObject(data, "sandbox_id", sandbox_id);
    json_add_time(data, "expires_at", sandbox.expires_at_ms);
    cJSON_AddStringToObject(data, "on_timeout", on_timeout_name(sandbox.on_timeout));
    cJSON_AddBoolToObject(data, "clamped", clamped);
    cJSON_AddStringToObject(data, "message",
                            clamped ? "Timeout scheduled, shortened to what the provider grants"
                                    : "Timeout scheduled");
    respond_data(request, 200, data);
    sandbox_done(&sandbox);
}

void handle_schedule_timeout(struct request *request)
{
    struct error err = ERROR_INIT;
    char sandbox_id[UUID_BYTES];
    struct lifecycle_change change = {.sandbox_id = sandbox_id, .op = JOB_TIMEOUT, .keyed = true};
    struct job_params params = {.timeout_ms = 0};
    int64_t timeout_s;
    char *params_json;

    if (request_sandbox_id(request, sandbox_id, &err) < 0 ||
        json_get_int_req(request->body, "timeout_seconds", 1, TIMEOUT_MAX_S, &timeout_s, &err) <
            0 ||
        read_on_timeout(request->body, ON_TIMEOUT_PAUSE, &params.on_timeout, &params.has_on_timeout,
                        &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    params.timeout_ms = timeout_s * 1000;
    params_json = job_params_format(&params);
    change.params_json = params_json;
    run_job(request, &change, "The timeout is being scheduled", respond_scheduled);
    free(params_json);
}

/* ---- reads ------------------------------------------------------------------------------------
 */

/* Writes the status as a sentence. status_reason is a word for programs (`client`, `timeout`), or
 * the sentence of a provider that failed. */
static void put_status_message(const struct sandbox *sandbox, struct strbuf *out)
{
    static const struct {
        const char *reason, *words;
    } reasons[] = {
        {"timeout", "because its time was over"},
        {"provider_lifetime", "because its lifetime at the provider came to its end"},
        {"provider_lost", "because the provider no longer has it"},
        {"seen_at_provider", "as was seen at the provider"},
        {"missing_at_provider", "though the provider says that it does not know it"},
    };
    const char *reason = view_status_reason(sandbox);

    if (sandbox->status == SANDBOX_FAILED) {
        strbuf_puts(out, "The sandbox could not be created");
    } else {
        strbuf_printf(out, "The sandbox is %s", sandbox_status_name(sandbox->status));
    }
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (strcmp(reason, reasons[i].reason) == 0) {
            strbuf_printf(out, ", %s", reasons[i].words);
        }
    }
    if (strchr(reason, ' ') != NULL) {
        strbuf_printf(out, ": %s", reason);
    }
}

void handle_status(struct request *request)
{
    struct error err = ERROR_INIT;
    struct sandbox sandbox;
    struct strbuf message;
    cJSON *data;

    if (lifecycle_get(request, request->path_id, &sandbox, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    strbuf_init(&message, STATUS_MESSAGE_BYTES);
    put_status_message(&sandbox, &message);
    data = view_status(sandbox.id, sandbox_status_name(sandbox.status), message.data);
    strbuf_done(&message);
    json_add_string_or_null(data, "provider_sandbox_id", sandbox.provider_sandbox_id);
    respond_data(request, 200, data);
    sandbox_done(&sandbox);
}

void handle_info(struct request *request)
{
    struct error err = ERROR_INIT;
    struct sandbox sandbox;

    if (lifecycle_get(request, request->path_id, &sandbox, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    respond_data(request, 200, view_info(&sandbox));
    sandbox_done(&sandbox);
}

void handle_urls(struct request *request)
{
    struct error err = ERROR_INIT;
    struct sandbox sandbox;
    cJSON *data;

    if (lifecycle_get(request, request->path_id, &sandbox, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    data = cJSON_CreateObject();
    cJSON_AddTrueToObject(data, "success");
    cJSON_AddStringToObject(data, "sandbox_id", sandbox.id);
    view_add_urls(request, &sandbox, data);
    respond_data(request, 200, data);
    sandbox_done(&sandbox);
}

static int read_list_filter(struct request *request, struct store_list_filter *filter,
                            char label[LABEL_BYTES], char cursor[128], struct error *err)
{
    char text[64];
    bool given;

    *filter = (struct store_list_filter){.status = -1};
    if (!request->principal.admin) {
        filter->owner = request->principal.subject;
    }
    if (request_query(request, "status", text, sizeof(text), &given, err) < 0) {
        return -1;
    }
    if (given) {
        enum sandbox_status status;

        if (sandbox_status_parse(text, &status) < 0) {
            return error_set(err, ERR_INVALID, "status is none of the statuses");
        }
        filter->status = (int)status;
    }
    if (request_query(request, "user_id", label, LABEL_BYTES, &given, err) < 0) {
        return -1;
    }
    filter->user_id = given ? label : NULL;
    if (request_page_limit(request, &filter->limit, err) < 0) {
        return -1;
    }
    if (request_query(request, "cursor", cursor, 128, &given, err) < 0) {
        return -1;
    }
    if (given) {
        char *end;

        filter->before_created_us = strtoll(cursor, &end, 10);
        if (*end != '_' || filter->before_created_us <= 0 ||
            filter->before_created_us > CURSOR_MAX_US || !id_is_uuid_lower(end + 1)) {
            return error_set(err, ERR_INVALID, "cursor is not one that was given out");
        }
        filter->before_id = end + 1;
    }
    return 0;
}

void handle_list(struct request *request)
{
    struct error err = ERROR_INIT;
    struct store_list_filter filter;
    char label[LABEL_BYTES], cursor[128];
    struct sandbox *rows;
    size_t count;
    int64_t next_us;
    cJSON *data, *items;

    if (read_list_filter(request, &filter, label, cursor, &err) < 0 ||
        store_sandbox_list(request->gateway->store, &filter, &rows, &count, &next_us, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    data = cJSON_CreateObject();
    cJSON_AddTrueToObject(data, "success");
    items = cJSON_AddArrayToObject(data, "items");
    cursor[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        cJSON_AddItemToArray(items, view_info(&rows[i]));
        if (i + 1 == count && next_us > 0) {
            snprintf(cursor, sizeof(cursor), "%lld_%s", (long long)next_us, rows[i].id);
        }
        sandbox_done(&rows[i]);
    }
    free(rows);
    json_add_string_or_null(data, "next_cursor", cursor);
    respond_data(request, 200, data);
}
