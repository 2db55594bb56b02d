/*
 * services - probes the services of a sandbox after a create or a resume.
 *
 * Owns: which services a sandbox should have, probing them, waiting for them. Does not own: the
 * ports' URLs (views.h), starting anything. Threads: the request's own. Failure: none; the answer
 * says which service does not run, and the create stands.
 *
 * The gateway probes only sandboxes whose template is listed (SANDBOX_SERVICES,
 * SANDBOX_SERVICES_TEMPLATES), so other creates do not wait.
 */
#ifndef GATEWAY_SERVICES_H
#define GATEWAY_SERVICES_H

#include "gateway/http/request.h"

/* ERR_CONFIG: SANDBOX_SERVICES names an unknown service. */
int services_check(const struct gateway_config *config, struct error *err) MUST_CHECK;
/*
 * Waits at most SANDBOX_SERVICES_WAIT_MS until all services answer. Returns {"mcp": "ready", ...},
 * or NULL when no service is expected in the sandbox:
 *
 *  ready        it answers
 *  starting     it does not answer yet
 *  unavailable  it cannot be reached: no URL for its port, a refusal, or no connection
 */
cJSON *services_await(const struct request *request, const struct sandbox *sandbox);

#endif
