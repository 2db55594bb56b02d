/*
 * routes - the agent's HTTP surface: envd's paths.
 *
 * Owns: dispatch, the check of X-Access-Token, /health /metrics /envs. Does not own: RPCs (rpc.h),
 * files (upload.h, download.h, compose.h). Threads: httpd's. Source of paths and codes:
 * e2b-dev/infra spec/envd/envd.yaml.
 */
#ifndef AGENT_ROUTES_H
#define AGENT_ROUTES_H

#include "common/httpd/httpd.h"
#include "deploy/sandbox-host/agent/agent.h"

/* struct httpd_options.handler; arg is the const struct agent_config. */
void routes_serve(void *arg, struct http_exchange *exchange);

#endif
