/*
 * api_internal - what api.c and its parts (api_list.c, api_observe.c, api_template.c) share.
 */
#ifndef SANDBOX_HOST_API_INTERNAL_H
#define SANDBOX_HOST_API_INTERNAL_H

#include "common/base/json.h"
#include "common/httpd/httpd.h"
#include "deploy/sandbox-host/config.h"
#include "deploy/sandbox-host/sandbox/sandbox.h"
#include "deploy/sandbox-host/sandbox/template.h"

#define API_ENVD_VERSION "0.6.13"

struct call {
    const struct host_config *config;
    struct http_exchange *http;
    cJSON *body;           /* or NULL */
    char id[BOX_ID_BYTES]; /* of the path, or "" */
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
cJSON *api_basic_tree(const struct box_view *view);
/* The sandbox as a list has it. */
cJSON *api_listed_tree(const struct call *call, const struct box_view *view);

/* What create and connect answer. */
cJSON *api_sandbox_tree(const struct call *call, const struct box_view *view);
/* Reads a JSON body, where there is one, into call->body. */
int api_read_body(struct call *call, struct error *err) MUST_CHECK;

void api_list(struct call *call);    /* GET /sandboxes */
void api_list_v2(struct call *call); /* GET /v2/sandboxes */
void api_metrics(struct call *call);
void api_metrics_of_many(struct call *call); /* GET /sandboxes/metrics */
void api_logs(struct call *call);
void api_logs_v2(struct call *call);
void api_snapshot(struct call *call); /* POST /sandboxes/{id}/snapshots */
void api_fork(struct call *call);     /* POST /sandboxes/{id}/fork */
/* Whether the path is of templates or snapshots, which the next one answers whole. */
bool api_is_template_path(const char *path);
void api_templates(struct call *call);
/* Template builds: true when the call was one of theirs and is answered. `part` as api_template.c
 * cuts the path, without a version. */
bool api_build(struct call *call, const char *const *part, int count);
/* A PUT of a build's files brings no key but a token in its URL. */
bool api_upload_allowed(const struct call *call);
/* Names of tags in body.tags; *ret NULL when there are none and that is allowed. */
int api_read_tags(const cJSON *body, bool needed, const cJSON **ret, struct error *err) MUST_CHECK;
/* A name that can be given to a template; cut into name and tag. */
int api_check_name(const char *reference, char name[TEMPLATE_NAME_BYTES],
                   char tag[TEMPLATE_NAME_BYTES], struct error *err) MUST_CHECK;

#endif
