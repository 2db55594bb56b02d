/* start - see start.h. */
#include "lifecycle-worker/start.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "lifecycle-worker/worker_state.h"

enum { START_MS = 5000, START_MIN_MS = 500 };

static bool is_due(const struct flight *flight, const struct provider_step *step)
{
    const enum provider_op op = flight->call.op;

    return flight->worker->config->start_command != NULL && flight->kind == FLIGHT_JOB &&
           step->verdict == PROVIDER_DONE && flight->gate != NULL &&
           flight->call.result.state == PROVIDER_STATE_RUNNING &&
           (op == PROVIDER_CREATE ||
            (op == PROVIDER_RESUME && !flight->gate->provider->ops->pause_keeps_memory)) &&
           flight->attempt_end_ms - clock_mono_ms() >= START_MIN_MS;
}

/* Takes each value from the answer, or from the row where the answer has none. */
static struct provider_target target_of(const struct flight *flight)
{
    const struct provider_result *result = &flight->call.result;
    const struct sandbox *box = flight_sandbox(flight);

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

static void log_failed(const struct flight *flight, const struct error *err)
{
    flight_log_context(flight);
    log_error(LOG_WARN, "sandbox.start_command_failed", err);
    log_context_clear();
}

bool start_request(const struct flight *flight, const struct provider_step *step,
                   struct http_request *ret_request)
{
    struct error err = ERROR_INIT;

    if (!is_due(flight, step)) {
        return false;
    }
    struct provider *provider = flight->gate->provider;
    const struct provider_target target = target_of(flight);
    const int64_t left_ms = flight->attempt_end_ms - clock_mono_ms();

    if (provider->ops->start_request(provider, &target, flight->worker->config->start_command,
                                     ret_request, &err) != 0) {
        log_failed(flight, &err);
        return false;
    }
    ret_request->timeout_ms = left_ms < START_MS ? left_ms : START_MS;
    return true;
}

void start_answered(const struct flight *flight, const struct http_response *response)
{
    struct provider *provider = flight->gate->provider;
    const struct provider_target target = target_of(flight);
    struct error err = ERROR_INIT;

    if (provider->ops->start_check(provider, &target, response, &err) != 0) {
        log_failed(flight, &err);
    }
}
