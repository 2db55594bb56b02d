/*
 * Fuzz target: E2B's step machines fed with arbitrary answers. Whatever the control plane says, a
 * machine ends, stays within its buffers, never shows the key, and never takes an unusable id.
 *
 * Input: byte 0 the operation and its flags, then answers, each 4 bytes (status, flags, length)
 * and its body.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/provider/e2b.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char key[] = "e2b_5ec2e75ec2e75ec2e7";

static struct provider *open_once(void)
{
    static struct provider *provider;
    struct error err = ERROR_INIT;
    if (!provider) {
        setenv("E2B_API_KEY", key, 1);
        provider = e2b_provider_ops.open(&err);
        if (!provider)
            abort();
    }
    return provider;
}

static void check_end(const struct provider_call *call, const struct provider_step *step)
{
    if (strstr(step->error, key) || !memchr(step->error, '\0', sizeof(step->error)))
        abort();
    if (step->verdict == PROVIDER_FAILED && step->outcome == OUTCOME_OK)
        abort();
    if (step->verdict == PROVIDER_DONE && call->result.state == PROVIDER_STATE_RUNNING &&
        !provider_is_id(call->result.provider_sandbox_id))
        abort();
    if (!e2b_is_domain(call->result.domain) || !provider_is_header_value(call->result.access_token) ||
        !provider_is_header_value(call->result.traffic_token))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int statuses[] = {200, 201, 204, 302, 400, 401, 403, 404,
                                   408, 409, 429, 500, 502, 503, 504, 999};
    struct provider *provider = open_once();
    struct provider_call call;
    struct provider_step step;
    struct http_request request;
    struct http_response response;
    if (size < 1)
        return 0;
    provider_call_init(&call);
    call.op = (enum provider_op)(data[0] % 6);
    call.deployment_id = "d";
    call.sandbox_id = "s";
    call.job_id = "j";
    call.provider_sandbox_id = data[0] & 0x40 ? "iabc" : "";
    call.template_id = "";
    call.timeout_ms = 60000;
    call.maybe_sent = data[0] & 0x80;
    call.now_ms = 1700000000000;
    data++;
    size--;
    const struct http_response *last = NULL;
    for (int steps = 0; steps < 100; steps++) {
        http_request_init(&request);
        provider->ops->step(provider, &call, last, &request, &step);
        if (step.verdict == PROVIDER_SEND &&
            (request.url.overflow || request.headers.overflow || request.method[0] == '\0'))
            abort();
        http_request_done(&request);
        if (step.verdict != PROVIDER_SEND) {
            check_end(&call, &step);
            break;
        }
        if (size < 4)
            break;
        memset(&response, 0, sizeof(response));
        response.transport = data[1] & 1   ? HTTP_NOT_SENT
                             : data[1] & 2 ? HTTP_AMBIGUOUS
                                           : HTTP_ANSWERED;
        response.status = statuses[data[0] % 16];
        response.retry_after_ms = data[1] & 4 ? 5000 : 0;
        if (data[1] & 8)
            memcpy(response.next_token, "next", 5);
        response.next_token[0] = data[1] & 8 ? (char)('a' + steps % 26) : '\0';
        size_t bytes = (size_t)data[2] << 8 | data[3];
        data += 4;
        size -= 4;
        bytes = bytes < size ? bytes : size;
        response.body = (const char *)data;
        response.body_bytes = bytes;
        data += bytes;
        size -= bytes;
        last = &response;
    }
    provider_call_done(&call);
    return 0;
}
