/*
 * e2b_relay - calls of E2B's API that are passed on as they are: metrics, logs, network.
 *
 * Owns: the request with the team's key, and what a refusal means. Does not own: which calls there
 * are. Threads: a client belongs to its caller. Failure: texts carry neither key nor token.
 */
#include <string.h>

#include "common/base/alloc.h"
#include "common/provider/e2b.h"
#include "common/provider/http.h"

enum { ANSWER_MAX_BYTES = 8 * 1024 * 1024 };

static int refused(const struct e2b *e2b, const struct http_response *response, struct error *err)
{
    const char *const secrets[] = {e2b->config.api_key};
    struct error ignored = ERROR_INIT; /* then there is no message in it */
    cJSON *tree = json_parse(response->body, response->body_bytes, &ignored);
    const char *told = tree != NULL ? json_text(tree, "message") : "";
    char text[180];

    provider_clean_text(text, sizeof(text), told, strlen(told), secrets, 1);
    cJSON_Delete(tree);
    switch (response->status) {
    case 400:
    case 409:
        return error_set(err, response->status == 400 ? ERR_INVALID : ERR_CONFLICT, "%s", text);
    case 404:
        return error_set(err, ERR_SANDBOX_NOT_FOUND, "no such sandbox");
    case 429:
        return error_set(err, ERR_PROVIDER_DOWN, "the provider asks for fewer calls");
    default:
        return error_set(err, response->status >= 500 ? ERR_PROVIDER_DOWN : ERR_PROVIDER,
                         "the provider answered %d: %s", response->status, text);
    }
}

int e2b_call(struct provider *provider, struct http_client *client,
             const struct provider_target *target, const struct provider_e2b_call *call,
             struct strbuf *ret, struct error *err)
{
    const struct e2b *e2b = (struct e2b *)provider;
    struct http_request request;
    struct http_response response;
    int status;

    if (!provider_is_id(target->provider_sandbox_id)) {
        return error_set(err, ERR_INVALID, "the sandbox's provider data is malformed");
    }
    http_request_init(&request);
    str_copy(request.method, sizeof(request.method), call->method);
    strbuf_printf(&request.url, "%s%s/sandboxes/%s%s", e2b->api_base, call->version,
                  target->provider_sandbox_id, call->path);
    strbuf_printf(&request.headers, "X-API-Key: %s\n", e2b->config.api_key);
    if (call->body != NULL) {
        strbuf_puts(&request.headers, "Content-Type: application/json\n");
        strbuf_puts(&request.body, call->body);
        request.has_body = true;
    }
    request.timeout_ms = e2b->config.request_timeout_ms;
    request.max_response_bytes = ANSWER_MAX_BYTES;
    http_client_perform(client, &request, &response);
    http_request_done(&request);
    if (response.transport != HTTP_ANSWERED) {
        return error_set(err, ERR_PROVIDER_DOWN, "the provider could not be reached");
    }
    status = response.status >= 200 && response.status < 300 ? 0 : refused(e2b, &response, err);
    if (status == 0 && strbuf_append(ret, response.body, response.body_bytes) < 0) {
        status = error_set(err, ERR_PROVIDER, "the provider's answer is too large");
    }
    return status;
}
