/*
 * step_machine - feeds a provider's step machines with arbitrary answers, for one fuzz target a
 * backend. Whatever the control plane says, a machine ends, stays within its buffers, never shows
 * the key, and never takes an unusable id.
 *
 * Input: byte 0 the operation (all of 0x38 set: the list) and its flags, then answers, each 4 bytes
 * (status, flags, length) and its body.
 */
#ifndef TESTS_FUZZ_STEP_MACHINE_H
#define TESTS_FUZZ_STEP_MACHINE_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/provider/provider.h"
#include "common/provider/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct step_target {
    const struct provider_ops *ops;
    const char *key_variable, *key;
    bool (*domain_is_good)(const char *domain);
};

enum { STEPS_MAX = 100, ANSWER_HEAD_BYTES = 4, LIST_OP = 0x38 };

static struct provider *step_open(const struct step_target *target)
{
    static struct provider *provider;
    struct error err = ERROR_INIT;

    if (provider == NULL) {
        setenv(target->key_variable, target->key, 1);
        provider = target->ops->open(&err);
        if (provider == NULL) {
            abort();
        }
    }
    return provider;
}

static void step_check_end(const struct step_target *target, const struct provider_call *call,
                           const struct provider_step *step)
{
    if (memchr(step->error, '\0', sizeof(step->error)) == NULL ||
        strstr(step->error, target->key) != NULL) {
        abort();
    }
    if (step->verdict == PROVIDER_FAILED && step->outcome == OUTCOME_OK) {
        abort();
    }
    if (step->verdict == PROVIDER_DONE && call->result.state == PROVIDER_STATE_RUNNING &&
        !provider_is_id(call->result.provider_sandbox_id)) {
        abort();
    }
    for (size_t i = 0; i < call->listed_count; i++) {
        if (!provider_is_id(call->listed[i].provider_sandbox_id) ||
            !id_is_uuid_lower(call->listed[i].sandbox_id)) {
            abort();
        }
    }
    if (!target->domain_is_good(call->result.domain) ||
        !provider_is_header_value(call->result.access_token) ||
        !provider_is_header_value(call->result.traffic_token)) {
        abort();
    }
}

/* Takes one answer off the input; false when there is none left. */
static bool step_answer(const uint8_t **data, size_t *size, int step, struct http_response *ret)
{
    static const int statuses[] = {200, 201, 204, 302, 400, 401, 403, 404,
                                   408, 409, 429, 500, 502, 503, 504, 999};
    const uint8_t *head = *data;
    size_t bytes;

    if (*size < ANSWER_HEAD_BYTES) {
        return false;
    }
    memset(ret, 0, sizeof(*ret));
    ret->transport = (head[1] & 1) != 0   ? HTTP_NOT_SENT
                     : (head[1] & 2) != 0 ? HTTP_AMBIGUOUS
                                          : HTTP_ANSWERED;
    ret->status = statuses[head[0] % (sizeof(statuses) / sizeof(statuses[0]))];
    ret->retry_after_ms = (head[1] & 4) != 0 ? 5000 : 0;
    if ((head[1] & 8) != 0) {
        memcpy(ret->next_token, "next", 5);
        ret->next_token[0] = (char)('a' + step % 26);
    }
    bytes = (size_t)head[2] << 8 | head[3];
    *data += ANSWER_HEAD_BYTES;
    *size -= ANSWER_HEAD_BYTES;
    bytes = bytes < *size ? bytes : *size;
    ret->body = (const char *)*data;
    ret->body_bytes = bytes;
    *data += bytes;
    *size -= bytes;
    return true;
}

static int step_fuzz(const struct step_target *target, const uint8_t *data, size_t size)
{
    struct provider *provider = step_open(target);
    const struct http_response *last = NULL;
    struct http_response response;
    struct provider_call call;

    if (size < 1) {
        return 0;
    }
    provider_call_init(&call);
    call.op = (data[0] & LIST_OP) == LIST_OP ? PROVIDER_LIST : (enum provider_op)(data[0] % 6);
    call.deployment_id = "d";
    call.sandbox_id = "s";
    call.job_id = "j";
    call.provider_sandbox_id = (data[0] & 0x40) != 0 ? "iabc" : "";
    call.template_id = "";
    call.timeout_ms = 60000;
    call.maybe_sent = (data[0] & 0x80) != 0;
    call.now_ms = 1700000000000;
    data++;
    size--;
    for (int steps = 0; steps < STEPS_MAX; steps++) {
        struct http_request request;
        struct provider_step step;

        http_request_init(&request);
        provider->ops->step(provider, &call, last, &request, &step);
        if (step.verdict == PROVIDER_SEND &&
            (request.url.overflow || request.headers.overflow || request.method[0] == '\0')) {
            abort();
        }
        http_request_done(&request);
        if (step.verdict == PROVIDER_WAIT) {
            call.now_ms += step.retry_after_ms;
            last = NULL;
            continue;
        }
        if (step.verdict != PROVIDER_SEND) {
            step_check_end(target, &call, &step);
            break;
        }
        if (!step_answer(&data, &size, steps, &response)) {
            break;
        }
        last = &response;
    }
    provider_call_done(&call);
    return 0;
}

#endif
