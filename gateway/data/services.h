/*
 * services - what a template brings up in a sandbox, asked for after a create or a resume.
 *
 * Owns: which services a sandbox is expected to have, asking them, waiting for them. Does not own:
 * the ports' URLs (views.h), starting anything. Threads: the request's own. Failure: none; a
 * service that does not answer is told in the answer, and the create stands.
 *
 * Only sandboxes that are said to have services (SANDBOX_SERVICES, SANDBOX_SERVICES_TEMPLATES) are
 * asked: no other create takes a moment longer.
 */
#ifndef GATEWAY_SERVICES_H
#define GATEWAY_SERVICES_H

#include "gateway/http/request.h"

/* ERR_CONFIG when SANDBOX_SERVICES names what is none. */
int services_check(const struct gateway_config *config, struct error *err) MUST_CHECK;
/* Waits at most SANDBOX_SERVICES_WAIT_MS until all answer. {"mcp": "ready", ...}, or NULL when the
 * sandbox is not expected to have any:
 *   ready        it answers
 *   starting     it does not yet
 *   unavailable  it cannot be reached: no URL for its port, a refusal, no way there */
cJSON *services_await(const struct request *request, const struct sandbox *sandbox);

#endif
