/* sandbox_proxy - see sandbox_proxy.h. */
#include "gateway/data/sandbox_proxy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/provider/http_connect.h"
#include "common/proxy/error_answers.h"
#include "common/proxy/head.h"
#include "common/proxy/proxy.h"
#include "common/store/store_commands.h"
#include "gateway/data/sandbox_access.h"
#include "gateway/data/terminal.h"
#include "gateway/data/terminal_url.h"
#include "gateway/http/request_state.h"
#include "gateway/http/views.h"
#include "gateway/work/lifecycle.h"

enum {
    LISTEN_BYTES = 256,
    CONNECT_TIMEOUT_MS = 10000,
    STALL_TIMEOUT_MS = 120000,
    PATH_MAX_BYTES = 65536,
    LINES_MAX_BYTES = 16384,
    RETRY_AFTER_S = 2,
};

/* What would let the other side see a secret of ours. A server behind a port may have an X-API-Key
 * of its own. */
#define DROPPED_OF_PORTS "e2b-traffic-access-token,e2b-sandbox-id,e2b-sandbox-port"
#define DROPPED_OF_ENVD  "x-api-key,x-access-token," DROPPED_OF_PORTS

static struct metric relayed = {.name = "sandbox_gateway_relayed_total",
                                .help = "Requests relayed into sandboxes.",
                                .type = METRIC_COUNTER};

struct sandbox_proxy {
    struct gateway *gateway;
    struct proxy *proxy;
    struct terminals *terminals;
    char listen[LISTEN_BYTES];
};

/* Of one exchange that is relayed. */
struct exchange {
    char sandbox_id[UUID_BYTES];
    struct route_target route;
    bool is_terminal; /* it ends here, in `terminal`; the session is its activity */
    struct terminal_open terminal;
};

/* ---- bringing the sandbox up -------------------------------------------------------------------
 */

static void answer_later(struct strbuf *answer, const char *head, const struct error *err)
{
    if (err->code == ERR_QUOTA) {
        error_answer_plain(answer, head, 429, "Too Many Requests", "the owner's quota is used up");
        return;
    }
    error_answer_plain(answer, head, 503, "Service Unavailable\r\nRetry-After: 2",
                       "the sandbox is not running yet");
}

/* Resumes it as its owner would. The row is read again. */
static int resume(struct gateway *gateway, struct sandbox *sandbox, struct error *err)
{
    struct request_state state = {.status = 0};
    struct request request = {.gateway = gateway, .state = &state};
    char id[UUID_BYTES];
    int status;

    str_copy(id, sizeof(id), sandbox->id);
    str_copy(request.principal.subject, sizeof(request.principal.subject), sandbox->owner);
    id_uuid(request.request_id);
    state.user = user_share_hold(gateway->users, sandbox->owner);
    status = user_share_enter(gateway->users, state.user, err);
    if (status == 0) {
        status = lifecycle_get_running(&request, id, sandbox, err);
        user_share_leave(state.user);
    }
    user_share_release(gateway->users, state.user);
    log_context_clear();
    if (status == 0) {
        sandbox_done(sandbox);
        sandbox->metadata_json = NULL;
    }
    return status;
}

static bool bring_up(struct gateway *gateway, const char *head, struct sandbox_access *access,
                     struct strbuf *answer)
{
    struct error err = ERROR_INIT;

    if (access->sandbox.status == SANDBOX_RUNNING) {
        return true;
    }
    if (!access->is_probe && !service_draining() && resume(gateway, &access->sandbox, &err) == 0) {
        return true;
    }
    if (access->is_probe || err.code == ERR_SANDBOX_NOT_FOUND || err.code == ERR_SANDBOX_FAILED) {
        error_answer_sandbox(answer, head, &access->route, ERROR_ANSWER_NOT_FOUND);
    } else {
        answer_later(answer, head, &err);
    }
    return false;
}

/* ---- the way to the provider -------------------------------------------------------------------
 */

/* scheme://host:port of a URL; *ret_rest is what follows it. */
static int split_url(const char *url, struct proxy_target *target, const char **ret_rest)
{
    const char *host = strstr(url, "://");
    size_t length;

    if (host == NULL) {
        return -1;
    }
    host += strlen("://");
    length = strcspn(host, "/?");
    *ret_rest = host + length;
    if (length >= sizeof(target->host) || (size_t)(host - url) + length >= sizeof(target->key)) {
        return -1;
    }
    memcpy(target->host, host, length);
    target->host[length] = '\0';
    memcpy(target->key, url, (size_t)(host - url) + length);
    target->key[(size_t)(host - url) + length] = '\0';
    return 0;
}

/* The client's path and query behind the URL's path, and its query with the URL's. */
static void put_path(const char *head, const char *rest, struct strbuf *out)
{
    const size_t path_length = strcspn(rest, "?");
    char *path, *query;

    if (*rest == '\0') {
        return; /* the client's own will do */
    }
    path = xmalloc(HEAD_MAX_BYTES);
    query = xmalloc(HEAD_MAX_BYTES);
    if (head_target(head, path, HEAD_MAX_BYTES, query, HEAD_MAX_BYTES)) {
        strbuf_append(out, rest, path_length);
        strbuf_puts(out, path);
        if (*query != '\0' || rest[path_length] != '\0') {
            strbuf_printf(out, "?%s%s%s", query,
                          *query != '\0' && rest[path_length] != '\0' ? "&" : "",
                          rest[path_length] != '\0' ? rest + path_length + 1 : "");
        }
    }
    free(path);
    free(query);
}

/* "Name: value\n" lines with the line ends of HTTP. */
static void put_lines(struct strbuf *out, const char *lines)
{
    while (*lines != '\0') {
        size_t length = strcspn(lines, "\n");

        strbuf_append(out, lines, length);
        strbuf_puts(out, "\r\n");
        lines += length + (lines[length] == '\n');
    }
}

static int fill_target(struct gateway *gateway, const char *head, struct sandbox_access *access,
                       struct proxy_target *target, struct error *err)
{
    struct provider *provider = provider_set_find(gateway->providers, access->sandbox.provider);
    struct provider_target at = view_target(&access->sandbox);
    struct http_request request;
    struct http_client *client;
    const char *rest = "";
    int status;

    if (provider == NULL) {
        return error_set(err, ERR_PROVIDER_DOWN, "the sandbox's provider is not configured here");
    }
    if (access->is_envd && provider->ops->e2b_call == NULL) {
        return error_set(err, ERR_NOT_IMPLEMENTED, "the sandbox's provider has no envd");
    }
    client = client_pool_take(gateway->clients);
    http_request_init(&request);
    status =
        provider->ops->port_request(provider, client, &at, access->route.port, "", &request, err);
    client_pool_give(gateway->clients, client);
    if (status == 0 && split_url(request.url.data, target, &rest) < 0) {
        status = error_set(err, ERR_PROVIDER, "the provider's URL is malformed");
    }
    if (status == 0) {
        put_lines(&target->set_headers, request.headers.data);
        if (access->is_envd && access->sandbox.access_token[0] != '\0') {
            strbuf_printf(&target->set_headers, "X-Access-Token: %s\r\n",
                          access->sandbox.access_token);
        }
        if (access->path.length > 0) {
            strbuf_append(&target->path, rest, strcspn(rest, "?"));
            strbuf_puts(&target->path, access->path.data);
        } else {
            put_path(head, rest, &target->path);
        }
        target->drop_headers = access->is_envd ? DROPPED_OF_ENVD : DROPPED_OF_PORTS;
        target->cors = access->is_envd;
    }
    http_request_done(&request);
    return status;
}

/* ---- callbacks ---------------------------------------------------------------------------------
 */

static bool begin_exchange(struct gateway *gateway, const char *head, struct sandbox_access *access,
                           struct proxy_target *target, struct strbuf *answer)
{
    struct error err = ERROR_INIT;
    struct exchange *exchange;

    if (fill_target(gateway, head, access, target, &err) < 0) {
        if (err.code == ERR_NOT_IMPLEMENTED) {
            error_answer_plain(answer, head, 501, "Not Implemented", err.message);
        } else {
            log_error(LOG_WARN, "sandbox_proxy.no_target", &err);
            error_answer_plain(answer, head, 502, "Bad Gateway", "the provider cannot be reached");
        }
        return false;
    }
    if (activity_begin(gateway->activity, &access->sandbox, &err) < 0) {
        answer_later(answer, head, &err);
        return false;
    }
    exchange = xcalloc(1, sizeof(*exchange));
    memcpy(exchange->sandbox_id, access->sandbox_id, sizeof(exchange->sandbox_id));
    exchange->route = access->route;
    target->context = exchange;
    return true;
}

static void refuse_terminal(struct strbuf *answer, const char *head, const struct error *err)
{
    switch ((int)err->code) {
    case ERR_FORBIDDEN:
        error_answer_plain(answer, head, 403, "Forbidden", err->message);
        break;
    case ERR_INVALID:
        error_answer_plain(answer, head, 400, "Bad Request", err->message);
        break;
    case ERR_NOT_FOUND:
    case ERR_CONFLICT:
        error_answer_plain(answer, head, 404, "Not Found", "there is no such terminal");
        break;
    case ERR_QUOTA:
        error_answer_plain(answer, head, 429, "Too Many Requests", err->message);
        break;
    default:
        log_error(LOG_WARN, "sandbox_proxy.no_terminal", err);
        error_answer_plain(answer, head, 503, "Service Unavailable", "try again");
    }
}

static int find_terminal(struct gateway *gateway, const char *head, struct terminal_open *ret,
                         struct error *err)
{
    struct store_command command;
    struct terminal_url url;
    struct sandbox sandbox;

    if (terminal_url_check(gateway, head, &url, err) < 0) {
        return -1;
    }
    if (!head_lists(head, "Upgrade", "websocket") || !head_has(head, "Sec-WebSocket-Key")) {
        return error_set(err, ERR_INVALID, "a terminal is opened as a WebSocket");
    }
    if (store_command_get(gateway->store, url.command_id, &command, err) < 0) {
        return -1;
    }
    if (!command.tty || !command.kept) {
        return error_set(err, ERR_NOT_FOUND, "the command has no terminal");
    }
    if (store_sandbox_get(gateway->store, command.sandbox_id, "", true, &sandbox, err) < 0) {
        return -1;
    }
    *ret = (struct terminal_open){.after = url.after};
    memcpy(ret->command_id, command.id, sizeof(ret->command_id));
    memcpy(ret->sandbox_id, command.sandbox_id, sizeof(ret->sandbox_id));
    str_copy(ret->owner, sizeof(ret->owner), sandbox.owner);
    sandbox_done(&sandbox);
    return 0;
}

/* The URL is the right: no cookie is read, so a page of any origin may open one that it knows. */
static enum proxy_decision resolve_terminal(struct gateway *gateway, const char *head,
                                            struct proxy_target *target, struct strbuf *answer)
{
    struct exchange *exchange = xcalloc(1, sizeof(*exchange));
    struct error err = ERROR_INIT;

    exchange->is_terminal = true;
    if (find_terminal(gateway, head, &exchange->terminal, &err) < 0) {
        free(exchange);
        refuse_terminal(answer, head, &err);
        return PROXY_ANSWER;
    }
    target->context = exchange;
    return PROXY_RELAY;
}

static enum proxy_decision resolve(void *arg, const struct proxy_request *request,
                                   struct proxy_target *target, struct strbuf *answer)
{
    struct gateway *gateway = ((struct sandbox_proxy *)arg)->gateway;
    struct sandbox_access *access;
    bool relays;

    /* a page of another origin may ask for envd: the token decides, not the origin */
    if (error_answer_is_preflight(request->head)) {
        error_answer_preflight(answer, request->head);
        return PROXY_ANSWER;
    }
    if (terminal_url_is(request->head)) {
        return resolve_terminal(gateway, request->head, target, answer);
    }
    access = xcalloc(1, sizeof(*access));
    strbuf_init(&access->path, PATH_MAX_BYTES);
    relays = sandbox_access_check(gateway, request->head, access, answer) &&
             bring_up(gateway, request->head, access, answer) &&
             begin_exchange(gateway, request->head, access, target, answer);
    strbuf_done(&access->path);
    free(access);
    metric_add(&relayed, relays ? 1 : 0);
    return relays ? PROXY_RELAY : PROXY_ANSWER;
}

static int connect_upstream(void *arg, const struct proxy_request *request,
                            const struct proxy_target *target, struct strbuf *answer)
{
    struct sandbox_proxy *proxy = arg;
    const struct exchange *exchange = target->context;
    struct error err = ERROR_INIT;
    int fd;

    if (exchange->is_terminal) {
        fd = terminals_open(proxy->terminals, &exchange->terminal, &err);
        if (fd < 0) {
            refuse_terminal(answer, request->head, &err);
        }
        return fd;
    }
    if (http_connect(target->key, CONNECT_TIMEOUT_MS, &fd, &err) < 0) {
        log_error(LOG_WARN, "sandbox_proxy.not_connected", &err);
        error_answer_plain(answer, request->head, 502, "Bad Gateway",
                           "the provider cannot be reached");
        return -1;
    }
    return fd;
}

static void unanswered(void *arg, const struct proxy_request *request,
                       const struct proxy_target *target, struct strbuf *answer)
{
    (void)arg;
    (void)target;
    error_answer_plain(answer, request->head, 502, "Bad Gateway",
                       "the provider ended the connection");
}

static void ended(void *arg, struct proxy_target *target)
{
    struct sandbox_proxy *proxy = arg;
    struct exchange *exchange = target->context;

    if (!exchange->is_terminal) {
        activity_end(proxy->gateway->activity, exchange->sandbox_id);
    }
    free(exchange);
}

/* ---- life --------------------------------------------------------------------------------------
 */

static const char off[] = "off";

/* The API's address and the next port, unless configured; where the API takes any free port, so
 * does this. */
static int choose_listen(const struct gateway_config *config, char ret[LISTEN_BYTES],
                         struct error *err)
{
    const char *colon = strrchr(config->listen, ':');
    long port = strtol(colon != NULL ? colon + 1 : config->listen, NULL, 10);

    if (config->sandbox_listen != NULL) {
        str_copy(ret, LISTEN_BYTES, config->sandbox_listen);
        return 0;
    }
    if (port >= 65535) {
        return error_set(err, ERR_CONFIG,
                         "GATEWAY_SANDBOX_LISTEN: there is no port behind that of GATEWAY_LISTEN");
    }
    snprintf(ret, LISTEN_BYTES, "%.*s:%ld", colon != NULL ? (int)(colon - config->listen) : 7,
             colon != NULL ? config->listen : "0.0.0.0", port > 0 ? port + 1 : 0);
    return 0;
}

/* Whose URLs are handed out: the gateway's own need names that lead here, so they are the default
 * only where somebody has set SANDBOX_DOMAIN. */
static int choose_ports(struct gateway *gateway, bool is_served, struct error *err)
{
    const char *ports = gateway->config->sandbox_ports;

    gateway->own_ports = is_served && gateway->config->sandbox_domain != NULL;
    if (ports == NULL) {
        return 0;
    }
    gateway->own_ports = strcmp(ports, "gateway") == 0;
    if (!gateway->own_ports && strcmp(ports, "direct") != 0) {
        return error_set(err, ERR_CONFIG, "SANDBOX_PORTS must be gateway or direct");
    }
    return gateway->own_ports && !is_served
               ? error_set(err, ERR_CONFIG, "SANDBOX_PORTS: gateway needs GATEWAY_SANDBOX_LISTEN")
               : 0;
}

int sandbox_proxy_start(struct gateway *gateway, struct sandbox_proxy **ret, struct error *err)
{
    const bool is_off = gateway->config->sandbox_listen != NULL &&
                        strcmp(gateway->config->sandbox_listen, off) == 0;
    const struct gateway_config *config = gateway->config;
    struct sandbox_proxy *proxy;
    struct proxy_options options = {
        .listen_name = "GATEWAY_SANDBOX_LISTEN",
        .max_connections = config->connections,
        .head_timeout_ms = config->request_timeout_ms,
        .idle_timeout_ms = config->keep_alive_ms,
        .stall_timeout_ms = STALL_TIMEOUT_MS,
        .callbacks = {.resolve = resolve,
                      .connect = connect_upstream,
                      .unanswered = unanswered,
                      .ended = ended},
    };

    *ret = NULL;
    if (choose_ports(gateway, !is_off, err) < 0) {
        return -1;
    }
    if (is_off) {
        return 0;
    }
    proxy = xcalloc(1, sizeof(*proxy));
    proxy->gateway = gateway;
    proxy->terminals = terminals_new(gateway);
    options.listen = proxy->listen;
    options.arg = proxy;
    if (choose_listen(config, proxy->listen, err) < 0 ||
        (proxy->proxy = proxy_start(&options, err)) == NULL) {
        terminals_free(proxy->terminals);
        free(proxy);
        return -1;
    }
    metrics_register(&relayed);
    if (config->sandbox_domain != NULL) {
        str_copy(gateway->sandbox_domain, sizeof(gateway->sandbox_domain), config->sandbox_domain);
    } else {
        snprintf(gateway->sandbox_domain, sizeof(gateway->sandbox_domain), "localhost:%d",
                 proxy_port(proxy->proxy));
    }
    *ret = proxy;
    return 0;
}

int sandbox_proxy_port(const struct sandbox_proxy *proxy)
{
    return proxy != NULL ? proxy_port(proxy->proxy) : 0;
}

void sandbox_proxy_stop(struct sandbox_proxy *proxy)
{
    if (proxy != NULL) {
        terminals_stop(proxy->terminals);
        proxy_stop(proxy->proxy);
        terminals_free(proxy->terminals);
        free(proxy);
    }
}
