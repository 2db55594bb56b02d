/* upstream - see upstream.h. */
#include "deploy/sandbox-host/api/upstream.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/proxy/error_answers.h"
#include "common/proxy/head.h"
#include "common/proxy/route.h"
#include "deploy/sandbox-host/isolation/spawn.h"
#include "deploy/sandbox-host/sandbox/sandbox.h"
#include "deploy/sandbox-host/sandbox/sandbox_query.h"

/* ---- the sandbox ---- */

/* The sandbox whose token signed a file URL. */
static bool find_signer(const struct route_signed *url, struct route_target *ret)
{
    struct sandbox_view *sandboxes = NULL;
    size_t count = 0;
    bool found = false;

    sandbox_list(&sandboxes, &count);
    for (size_t i = 0; i < count; i++) {
        if (!found && sandboxes[i].token[0] != '\0' &&
            route_signed_matches(url, sandboxes[i].token)) {
            found = true;
            snprintf(ret->id, sizeof(ret->id), "%s", sandboxes[i].id);
            ret->port = ROUTE_ENVD_PORT;
        }
        sandbox_view_done(&sandboxes[i]);
    }
    free(sandboxes);
    return found;
}

/* A request that names no sandbox goes to the API, unless it is a signed file URL. ROUTE_BAD: no
 * sandbox has that signature. */
static enum route_kind find_nameless(const char *head, struct route_target *ret)
{
    enum route_kind kind = ROUTE_API;

    if (strstr(head, "signature=") == NULL) {
        return kind;
    }
    struct route_signed *url = xmalloc(sizeof(*url));
    char *path = xmalloc(HEAD_MAX_BYTES), *query = xmalloc(HEAD_MAX_BYTES);
    const char *method = head_method_is(head, "POST")   ? "POST"
                         : head_method_is(head, "GET")  ? "GET"
                         : head_method_is(head, "HEAD") ? "HEAD"
                                                        : "";
    if (head_target(head, path, HEAD_MAX_BYTES, query, HEAD_MAX_BYTES) &&
        route_signed_parse(method, path, query, url)) {
        kind = find_signer(url, ret) ? ROUTE_SANDBOX : ROUTE_BAD;
    }
    free(url);
    free(path);
    free(query);
    return kind;
}

/* ROUTE_BAD: `answer` is filled. */
static enum route_kind find_route(const char *head, struct route_target *ret, struct strbuf *answer)
{
    char host[256], id[64], port[16];
    const bool has_host = head_value(head, "Host", host, sizeof(host));
    const bool has_id = head_value(head, "E2b-Sandbox-Id", id, sizeof(id));
    const bool has_port = head_value(head, "E2b-Sandbox-Port", port, sizeof(port));
    enum route_kind kind =
        route_request(has_host ? host : NULL, has_id ? id : NULL, has_port ? port : NULL, ret);

    if (kind == ROUTE_BAD) {
        error_answer_plain(answer, head, 400, "Bad Request", "invalid sandbox routing headers");
    } else if (kind == ROUTE_API) {
        kind = find_nameless(head, ret);
        if (kind == ROUTE_BAD) {
            error_answer_plain(answer, head, 401, "Unauthorized", "invalid signature");
        }
    }
    return kind;
}

/* Fills target->host, or `answer`. PROXY_LATER: a paused sandbox would have to be resumed. */
static enum proxy_decision admit(const char *head, const struct route_target *route,
                                 struct proxy_target *target, bool may_wait, struct strbuf *answer)
{
    char access[128], traffic[128];
    const bool has_access = head_value(head, "X-Access-Token", access, sizeof(access));
    const bool has_traffic = head_value(head, ERROR_ANSWER_TOKEN_HEADER, traffic, sizeof(traffic));
    struct error err = ERROR_INIT;

    if (sandbox_admit(route->id, route->port, has_access ? access : NULL,
                      has_traffic ? traffic : NULL, may_wait, target->host, &err) == 0) {
        return PROXY_RELAY;
    }
    if (err.code == ERR_CONFLICT && !may_wait) {
        return PROXY_LATER;
    }
    error_answer_sandbox(answer, head, route,
                         err.code == ERR_TOKEN_MISSING     ? ERROR_ANSWER_TOKEN_MISSING
                         : err.code == ERR_TOKEN_SIGNATURE ? ERROR_ANSWER_TOKEN_WRONG
                                                           : ERROR_ANSWER_NOT_FOUND);
    return PROXY_ANSWER;
}

/* ---- callbacks ---- */

/*
 * Connections to the API and to agents are kept for the next exchange: both are ours. A server of
 * the sandbox's owner that serves one connection at a time would be blocked by an idle one.
 */
static void keep_connection(const struct route_target *route, struct proxy_target *target)
{
    if (route == NULL) {
        snprintf(target->key, sizeof(target->key), "api");
    } else if (route->port == ROUTE_ENVD_PORT) {
        snprintf(target->key, sizeof(target->key), "%s", route->id);
    }
}

static enum proxy_decision decide(const struct proxy_request *request, struct proxy_target *target,
                                  bool may_wait, struct strbuf *answer)
{
    struct route_target route = {.port = 0};
    const enum route_kind kind = find_route(request->head, &route, answer);
    enum proxy_decision decision;

    if (kind == ROUTE_BAD) {
        return PROXY_ANSWER;
    }
    /* E2B's API and envd let pages of every origin call them */
    target->cors = kind == ROUTE_API || route.port == ROUTE_ENVD_PORT;
    if (target->cors && error_answer_is_preflight(request->head)) {
        error_answer_preflight(answer, request->head);
        return PROXY_ANSWER;
    }
    if (kind == ROUTE_API) {
        keep_connection(NULL, target);
        return PROXY_RELAY;
    }
    decision = admit(request->head, &route, target, may_wait, answer);
    if (decision == PROXY_RELAY) {
        keep_connection(&route, target);
        target->context = xmalloc(sizeof(route));
        memcpy(target->context, &route, sizeof(route));
    }
    return decision;
}

static enum proxy_decision resolve(void *arg, const struct proxy_request *request,
                                   struct proxy_target *target, struct strbuf *answer)
{
    (void)arg;
    return decide(request, target, true, answer);
}

static enum proxy_decision resolve_quick(void *arg, const struct proxy_request *request,
                                         struct proxy_target *target, struct strbuf *answer)
{
    (void)arg;
    /* a signed URL is compared with every sandbox's token */
    return strstr(request->head, "signature=") != NULL ? PROXY_LATER
                                                       : decide(request, target, false, answer);
}

static void answer_stopping(struct strbuf *answer, const char *head)
{
    error_answer_plain(answer, head, 503, "Service Unavailable", "stopping");
}

static int connect_api(const struct upstream *upstream)
{
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)upstream->api_port),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        close(fd);
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

static int connect_upstream(void *arg, const struct proxy_request *request,
                            const struct proxy_target *target, struct strbuf *answer)
{
    const struct route_target *route = target->context;
    struct error err = ERROR_INIT;
    int fd;

    if (route == NULL) {
        fd = connect_api(arg);
        if (fd < 0) {
            answer_stopping(answer, request->head);
        }
        return fd;
    }
    fd = spawn_connect(route->id, route->port, &err);
    if (fd < 0) {
        error_answer_sandbox(answer, request->head, route,
                             err.code == ERR_CONFLICT ? ERROR_ANSWER_PORT_CLOSED
                                                      : ERROR_ANSWER_NOT_FOUND);
    }
    return fd;
}

/* Either the sandbox ended, or the server in it. */
static void unanswered(void *arg, const struct proxy_request *request,
                       const struct proxy_target *target, struct strbuf *answer)
{
    const struct route_target *route = target->context;
    struct error err = ERROR_INIT;
    struct sandbox_view view;

    (void)arg;
    if (route == NULL) {
        answer_stopping(answer, request->head);
        return;
    }
    const bool exists = sandbox_get(route->id, &view, &err) == 0;
    error_answer_sandbox(answer, request->head, route,
                         exists && view.state == SANDBOX_RUNNING ? ERROR_ANSWER_PORT_CLOSED
                                                                 : ERROR_ANSWER_NOT_FOUND);
    if (exists) {
        sandbox_view_done(&view);
    }
}

static void ended(void *arg, struct proxy_target *target)
{
    (void)arg;
    free(target->context);
}

const struct proxy_callbacks upstream_callbacks = {.resolve = resolve,
                                                   .resolve_quick = resolve_quick,
                                                   .connect = connect_upstream,
                                                   .unanswered = unanswered,
                                                   .ended = ended};
