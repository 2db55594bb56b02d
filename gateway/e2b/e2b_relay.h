/*
 * e2b_relay - calls of E2B's API that the sandbox's provider answers: metrics, logs, network.
 *
 * Owns: passing them on with our id in place of the provider's. Does not own: the provider's call
 * (provider.h). Threads: as request.h. Failure: ERR_NOT_IMPLEMENTED for a provider that has none.
 */
#ifndef GATEWAY_E2B_RELAY_H
#define GATEWAY_E2B_RELAY_H

#include "gateway/http/request.h"

/* The provider's own view of the sandbox, which tells its size; NULL when it does not say. */
cJSON *e2b_relay_sizes(struct request *request, const struct sandbox *sandbox);

#endif
