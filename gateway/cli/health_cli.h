/* health_cli - `sandbox-gateway health`: queries /readyz of the running gateway, for container
 * health checks in images without curl. */
#ifndef GATEWAY_HEALTH_CLI_H
#define GATEWAY_HEALTH_CLI_H

#include "common/base/error.h"

/* listen: GATEWAY_LISTEN; connects over loopback. -1 unless /readyz answers 200. */
int health_cli_run(const char *listen, struct error *err) MUST_CHECK;

#endif
