/*
 * notice - the page on code-server's port in a sandbox that has no code-server.
 *
 * /healthz answers 501 {"status":"not installed"}, which the gateway passes on as the service's
 * state. Every other path is a page for people that says how to get code-server.
 */
#ifndef TOOL_SERVER_NOTICE_H
#define TOOL_SERVER_NOTICE_H

#include "common/httpd/httpd.h"

/* httpd's handler; `arg` is not used. */
void notice_serve(void *arg, struct http_exchange *exchange);
void notice_bad_request(void *arg, const struct http_exchange *exchange, enum error_code code,
                        const char *message, struct strbuf *headers, struct strbuf *body);

#endif
