/* answers - see answers.h. */
#include "deploy/sandbox-host/agent/answers.h"

void answer_json(struct http_exchange *exchange, int status, cJSON *root)
{
    struct strbuf text;

    strbuf_init(&text, 4u << 20);
    if (json_print(root, &text) != 0) {
        strbuf_reset(&text);
        status = 500;
    }
    cJSON_Delete(root);
    http_respond(exchange, status, "application/json", "", text.data, text.length);
    strbuf_done(&text);
}

static cJSON *error_json(int status, const char *message)
{
    cJSON *root = cJSON_CreateObject();

    cJSON_AddNumberToObject(root, "code", status);
    cJSON_AddStringToObject(root, "message", message);
    return root;
}

void answer_error(struct http_exchange *exchange, int status, const char *message)
{
    answer_json(exchange, status, error_json(status, message));
}

void answer_bad_request(void *arg, const struct http_exchange *exchange, enum error_code code,
                        const char *message, struct strbuf *headers, struct strbuf *body)
{
    cJSON *root = error_json(error_code_http_status(code), message);

    (void)arg;
    (void)exchange;
    (void)headers;
    (void)json_print(root, body);
    cJSON_Delete(root);
}
