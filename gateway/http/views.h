/* views - a sandbox as JSON in answers. No view contains secrets (tokens, envs). */
#ifndef GATEWAY_VIEWS_H
#define GATEWAY_VIEWS_H

#include "gateway/http/request.h"

/* The reason of the sandbox's status; missing_at_provider has priority. */
const char *view_status_reason(const struct sandbox *sandbox);
/* The answer of GET info, and an item of the list. */
cJSON *view_info(const struct sandbox *sandbox);
/* The answer of create and connect. */
cJSON *view_created(const struct request *request, const struct sandbox *sandbox,
                    const char *message);
/* Adds mcp_url and vscode_url; null while there is nothing at the provider. */
void view_add_urls(const struct request *request, const struct sandbox *sandbox, cJSON *data);
/* URL of one port. */
int view_port_url(const struct request *request, const struct sandbox *sandbox, int port,
                  struct strbuf *ret, struct error *err) MUST_CHECK;
/* {success, message}, to which the caller may add members. */
cJSON *view_done(const char *message);
/* {success, sandbox_id, status, message} */
cJSON *view_status(const char *sandbox_id, const char *status, const char *message);

/* The sandbox's provider, if it is still configured. */
struct provider *view_provider(const struct request *request, const struct sandbox *sandbox,
                               struct error *err);
struct provider_target view_target(const struct sandbox *sandbox);

#endif
