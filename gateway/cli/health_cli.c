/* health_cli - see health_cli.h. */
#include "gateway/cli/health_cli.h"

#include <string.h>

#include "common/provider/http.h"

enum { ANSWER_MAX_BYTES = 65536, TIMEOUT_MS = 2500 };

int health_cli_run(const char *listen, struct error *err)
{
    const char *colon = strrchr(listen, ':');
    struct http_request request;
    struct http_response response;
    struct http_client *client;
    int status = 0;

    if (http_global_init(err) < 0) {
        return -1;
    }
    http_request_init(&request);
    strbuf_puts(&request.headers, "User-Agent: sandbox-gateway-health\n");
    strbuf_printf(&request.url, "http://127.0.0.1:%s/readyz", colon != NULL ? colon + 1 : listen);
    memcpy(request.method, "GET", sizeof("GET"));
    request.timeout_ms = TIMEOUT_MS;
    request.max_response_bytes = ANSWER_MAX_BYTES;
    client = http_client_new();
    http_client_perform(client, &request, &response);
    if (response.transport != HTTP_ANSWERED) {
        status = error_set(err, ERR_INTERNAL, "no answer: %s", response.error);
    } else if (response.status != 200) {
        status = error_set(err, ERR_INTERNAL, "not ready: %.*s", (int)response.body_bytes,
                           response.body);
    }
    http_client_free(client);
    http_request_done(&request);
    return status;
}
