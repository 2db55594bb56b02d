/*
 * api - E2B's control plane over the sandboxes of this host (E2B openapi: /sandboxes,
 * /v2/sandboxes).
 *
 * Owns: requests, answers, status codes and error bodies `{"code","message"}` as E2B gives them.
 */
#ifndef SANDBOX_HOST_API_H
#define SANDBOX_HOST_API_H

#include "common/httpd/httpd.h"
#include "deploy/sandbox-host/config.h"

/* httpd's handler and bad_request; arg is the struct host_config. */
void api_handle(void *arg, struct http_exchange *exchange);
void api_bad_request(void *arg, const struct http_exchange *exchange, enum error_code code,
                     const char *message, struct strbuf *headers, struct strbuf *body);

#endif
