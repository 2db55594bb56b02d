/*
 * routes - the agent's HTTP surface: envd's paths, its access token, its error bodies.
 *
 * Owns: dispatch, the X-Access-Token check, /health /metrics /envs. Does not own: RPCs (rpc), files
 * (files). Threads: httpd's. Source of paths and codes: e2b-dev/infra spec/envd/envd.yaml.
 */
#ifndef AGENT_ROUTES_H
#define AGENT_ROUTES_H

#include "common/base/strbuf.h"
#include "common/httpd/httpd.h"
#include "deploy/sandbox-host/agent/agent.h"

/* struct httpd_options.handler and .bad_request; arg is the const struct agent_config. */
void routes_serve(void *arg, struct http_exchange *exchange);
void routes_bad_request(void *arg, const struct http_exchange *exchange, enum error_code code,
                        const char *message, struct strbuf *headers, struct strbuf *body);

/* {"code":status,"message":message} */
void routes_respond_error(struct http_exchange *exchange, int status, const char *message);
/* Constant-time. A NULL header is "" */
bool routes_token_matches(const struct agent_config *config, const char *header);

#endif
