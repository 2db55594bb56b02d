/* e2b_relay - see e2b_relay.h. */
#include "gateway/e2b/e2b_relay.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/e2b/e2b_view.h"
#include "gateway/http/handlers.h"
#include "gateway/http/views.h"

enum { ANSWER_MAX_BYTES = 8 << 20, QUERY_MAX_BYTES = 2048, TEXT_MAX_BYTES = 257 };

static int call_provider(struct request *request, const struct sandbox *sandbox,
                         const struct provider_e2b_call *call, struct strbuf *ret,
                         struct error *err)
{
    struct gateway *gateway = request->gateway;
    struct provider *provider = view_provider(request, sandbox, err);
    struct provider_target target = view_target(sandbox);
    struct http_client *client;
    int status;

    if (provider == NULL) {
        return -1;
    }
    if (provider->ops->e2b_call == NULL) {
        return error_set(err, ERR_NOT_IMPLEMENTED, "provider %s does not have this call",
                         sandbox->provider);
    }
    if (!provider_share_take(&gateway->provider_shares, sandbox->provider)) {
        return error_set(err, ERR_OVERLOADED, "too many calls to %s are being served",
                         sandbox->provider);
    }
    client = client_pool_take(gateway->clients);
    status = provider->ops->e2b_call(provider, client, &target, call, ret, err);
    client_pool_give(gateway->clients, client);
    provider_share_give(&gateway->provider_shares, sandbox->provider);
    return status;
}

cJSON *e2b_relay_sizes(struct request *request, const struct sandbox *sandbox)
{
    const struct provider_e2b_call call = {.method = "GET", .version = "", .path = ""};
    struct error ignored = ERROR_INIT; /* the row has all but the sizes */
    struct strbuf text;
    cJSON *tree = NULL;

    strbuf_init(&text, ANSWER_MAX_BYTES);
    if (call_provider(request, sandbox, &call, &text, &ignored) == 0) {
        tree = json_parse(text.data, text.length, &ignored);
    }
    strbuf_done(&text);
    return tree;
}

/* ---- the caller's query, read and written anew --------------------------------------------------
 */

static void put_separator(struct strbuf *query)
{
    strbuf_putc(query, query->length == 0 ? '?' : '&');
}

static int put_number(const struct request *request, const char *name, struct strbuf *query,
                      struct error *err)
{
    char text[32], *end;
    bool given;
    long long number;

    if (request_query(request, name, text, sizeof(text), &given, err) < 0) {
        return -1;
    }
    if (!given) {
        return 0;
    }
    number = strtoll(text, &end, 10);
    if (*end != '\0' || number < 0) {
        return error_set(err, ERR_INVALID, "%s must be a whole number", name);
    }
    put_separator(query);
    return strbuf_printf(query, "%s=%lld", name, number);
}

static int put_text(const struct request *request, const char *name, struct strbuf *query,
                    struct error *err)
{
    char text[TEXT_MAX_BYTES];
    bool given;

    if (request_query(request, name, text, sizeof(text), &given, err) < 0) {
        return -1;
    }
    if (given) {
        put_separator(query);
        strbuf_printf(query, "%s=", name);
        strbuf_put_urlencoded(query, text, false);
    }
    return 0;
}

/* ---- calls -------------------------------------------------------------------------------------
 */

/* Our id where the provider wrote its own, which stands for nothing else in its answers. */
static void put_own_id(const struct sandbox *sandbox, const char *text, struct strbuf *out)
{
    const size_t length = strlen(sandbox->provider_sandbox_id);
    char id[UUID_PLAIN_BYTES];

    id_uuid_plain(sandbox->id, id);
    for (const char *at = text; *at != '\0';) {
        const char *found = length > 0 ? strstr(at, sandbox->provider_sandbox_id) : NULL;

        if (found == NULL) {
            strbuf_puts(out, at);
            return;
        }
        strbuf_append(out, at, (size_t)(found - at));
        strbuf_puts(out, id);
        at = found + length;
    }
}

/* GET of that path at the provider; its answer is ours. */
static void relay_read(struct request *request, const char *version, const char *path,
                       const struct strbuf *query)
{
    struct provider_e2b_call call = {.method = "GET", .version = version};
    struct strbuf whole, answer, own;
    struct error err = ERROR_INIT;
    struct sandbox sandbox;
    cJSON *tree = NULL;

    if (e2b_get_visible(request, &sandbox, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    strbuf_init(&whole, QUERY_MAX_BYTES);
    strbuf_init(&answer, ANSWER_MAX_BYTES);
    strbuf_init(&own, 2 * ANSWER_MAX_BYTES);
    strbuf_printf(&whole, "%s%s", path, query->data);
    call.path = whole.data;
    if (call_provider(request, &sandbox, &call, &answer, &err) == 0) {
        put_own_id(&sandbox, answer.data, &own);
        tree = json_parse(own.data, own.length, &err);
        if (tree == NULL) {
            error_set(&err, ERR_PROVIDER, "the provider's answer is no JSON");
        }
    }
    if (tree != NULL) {
        respond_json(request, 200, tree, NULL);
    } else {
        respond_error(request, &err, 0);
    }
    strbuf_done(&own);
    strbuf_done(&answer);
    strbuf_done(&whole);
    sandbox_done(&sandbox);
}

void handle_e2b_metrics(struct request *request)
{
    struct error err = ERROR_INIT;
    struct strbuf query;

    strbuf_init(&query, QUERY_MAX_BYTES);
    if (put_number(request, "start", &query, &err) < 0 ||
        put_number(request, "end", &query, &err) < 0) {
        respond_error(request, &err, 0);
    } else {
        relay_read(request, "", "/metrics", &query);
    }
    strbuf_done(&query);
}

void handle_e2b_logs(struct request *request)
{
    struct error err = ERROR_INIT;
    struct strbuf query;

    strbuf_init(&query, QUERY_MAX_BYTES);
    if (put_number(request, "start", &query, &err) < 0 ||
        put_number(request, "limit", &query, &err) < 0) {
        respond_error(request, &err, 0);
    } else {
        relay_read(request, "", "/logs", &query);
    }
    strbuf_done(&query);
}

void handle_e2b_logs_v2(struct request *request)
{
    struct error err = ERROR_INIT;
    struct strbuf query;

    strbuf_init(&query, QUERY_MAX_BYTES);
    if (put_number(request, "cursor", &query, &err) < 0 ||
        put_number(request, "limit", &query, &err) < 0 ||
        put_text(request, "direction", &query, &err) < 0 ||
        put_text(request, "level", &query, &err) < 0 ||
        put_text(request, "search", &query, &err) < 0) {
        respond_error(request, &err, 0);
    } else {
        relay_read(request, "/v2", "/logs", &query);
    }
    strbuf_done(&query);
}

void handle_e2b_network(struct request *request)
{
    struct provider_e2b_call call = {.method = "PUT", .version = "", .path = "/network"};
    struct strbuf text, answer;
    struct error err = ERROR_INIT;
    struct sandbox sandbox;

    if (e2b_get_visible(request, &sandbox, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    strbuf_init(&text, (size_t)request->gateway->config->max_body_bytes * 6);
    strbuf_init(&answer, ANSWER_MAX_BYTES);
    json_print(request->body, &text);
    call.body = text.data;
    if (call_provider(request, &sandbox, &call, &answer, &err) < 0) {
        respond_error(request, &err, 0);
    } else {
        respond_empty(request, 204);
    }
    strbuf_done(&answer);
    strbuf_done(&text);
    sandbox_done(&sandbox);
}
