/*
 * api_call - one call of the API: what a handler gets, reads and answers.
 *
 * Owns: JSON answers and errors in E2B's shapes, bodies, numbers of the query. Does not own: routes
 * (api.h). Threads: a call belongs to its thread.
 */
#ifndef SANDBOX_HOST_API_CALL_H
#define SANDBOX_HOST_API_CALL_H

#include "common/base/json.h"
#include "common/httpd/httpd.h"
#include "deploy/sandbox-host/config.h"
#include "deploy/sandbox-host/sandbox/sandbox.h"

#define API_ENVD_VERSION "0.6.13"

struct call {
    const struct host_config *config;
    struct http_exchange *http;
    cJSON *body;               /* or NULL */
    char id[SANDBOX_ID_BYTES]; /* of the path, or "" */
};

/* Answers with the tree, which it frees. `headers` as for http_respond. */
void api_send_tree(struct http_exchange *http, int status, const char *headers, cJSON *tree);
void api_send_error(struct http_exchange *http, int status, const char *message);
/* The status E2B answers an error with. */
void api_send_failure(struct http_exchange *http, const struct error *err);
/* A number of the query, or `fallback`; ERR_INVALID names the parameter. */
int api_query_number(const struct call *call, const char *name, int64_t fallback, int64_t min,
                     int64_t max, int64_t *ret, struct error *err) MUST_CHECK;

/* templateID, alias, sandboxID, clientID, envdVersion. */
cJSON *api_basic_tree(const struct sandbox_view *view);
/* The sandbox as a list has it. */
cJSON *api_listed_tree(const struct call *call, const struct sandbox_view *view);

/* What create and connect answer. */
cJSON *api_sandbox_tree(const struct call *call, const struct sandbox_view *view);
/* Reads a JSON body, where there is one, into call->body. */
int api_read_body(struct call *call, struct error *err) MUST_CHECK;

#endif
