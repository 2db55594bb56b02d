/*
 * api_observe - metrics and logs of sandboxes.
 */
#ifndef SANDBOX_HOST_API_OBSERVE_H
#define SANDBOX_HOST_API_OBSERVE_H

#include "deploy/sandbox-host/api/api_call.h"

void api_metrics(struct call *call);
void api_metrics_of_many(struct call *call); /* GET /sandboxes/metrics */
void api_logs(struct call *call);
void api_logs_v2(struct call *call);

#endif
