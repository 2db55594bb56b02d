/*
 * answers - the agent's answers in envd's shapes.
 *
 * Threads: no shared state. Source of codes: e2b-dev/infra spec/envd/envd.yaml.
 */
#ifndef AGENT_ANSWERS_H
#define AGENT_ANSWERS_H

#include "common/base/error.h"
#include "common/base/json.h"
#include "common/base/strbuf.h"
#include "common/httpd/httpd.h"

/* Deletes root. */
void answer_json(struct http_exchange *exchange, int status, cJSON *root);
/* {"code":status,"message":message} */
void answer_error(struct http_exchange *exchange, int status, const char *message);
/* struct httpd_options.bad_request */
void answer_bad_request(void *arg, const struct http_exchange *exchange, enum error_code code,
                        const char *message, struct strbuf *headers, struct strbuf *body);

#endif
