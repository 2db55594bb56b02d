/* start - see start.h. */
#include "lifecycle-worker/start.h"

#include "common/base/clock.h"
#include "common/base/log.h"

enum { START_MS = 5000, START_MIN_MS = 500 };

static bool due(const struct flight *flight, const struct provider_step *step)
{
    const enum job_op op = flight->claimed.job.op;

    return flight->worker->config->start_command != NULL && flight->kind == FLIGHT_JOB &&
           step->verdict == PROVIDER_DONE && flight->gate != NULL &&
           flight->call.result.state == PROVIDER_STATE_RUNNING &&
           (op == JOB_CREATE ||
            (op == JOB_RESUME && !flight->gate->provider->ops->pause_keeps_memory)) &&
           flight->attempt_end_ms - clock_mono_ms() >= START_MIN_MS;
}

/* As the answer gave it, else as the row has it. */
static struct provider_target target_of(const struct flight *flight)
{
    const struct provider_result *result = &flight->call.result;
    const struct sandbox *box = &flight->claimed.sandbox;

    return (struct provider_target){
        .provider_sandbox_id = result->provider_sandbox_id[0] != '\0' ? result->provider_sandbox_id
                                                                      : box->provider_sandbox_id,
        .domain = result->domain[0] != '\0' ? result->domain : box->domain,
        .access_token = result->access_token[0] != '\0' ? result->access_token : box->access_token,
        .traffic_token =
            result->traffic_token[0] != '\0' ? result->traffic_token : box->traffic_token,
        .agent_version =
            result->agent_version[0] != '\0' ? result->agent_version : box->agent_version,
    };
}

static void tell(const struct flight *flight, const struct error *err)
{
    const struct job *job = &flight->claimed.job;

    log_context(job->request_id, job->id, job->sandbox_id);
    log_error(LOG_WARN, "sandbox.start_command_failed", err);
    log_context_clear();
}

static void on_answer(void *arg, const struct http_response *response)
{
    struct flight *flight = arg;
    struct provider *provider = flight->gate->provider;
    const struct provider_target target = target_of(flight);
    struct error err = ERROR_INIT;

    if (provider->ops->start_check(provider, &target, response, &err) != 0) {
        tell(flight, &err);
    }
    drive_end(flight, &flight->ended);
}

bool start_begin(struct flight *flight, const struct provider_step *step)
{
    struct worker *worker = flight->worker;
    struct http_request request;
    struct error err = ERROR_INIT;
    int status;

    if (!due(flight, step)) {
        return false;
    }
    struct provider *provider = flight->gate->provider;
    const struct provider_target target = target_of(flight);
    const int64_t left_ms = flight->attempt_end_ms - clock_mono_ms();

    http_request_init(&request);
    status = provider->ops->start_request(provider, &target, worker->config->start_command,
                                          &request, &err);
    if (status == 0) {
        flight->ended = *step;
        request.timeout_ms = left_ms < START_MS ? left_ms : START_MS;
        worker->counters.requests++;
        http_multi_send(worker->http, &request, on_answer, flight);
    } else {
        tell(flight, &err);
    }
    http_request_done(&request);
    return status == 0;
}
