/*
 * health_cli - `sandbox-gateway health`: asks the running gateway's /readyz, for container health
 * checks in images without curl.
 */
#ifndef GATEWAY_HEALTH_CLI_H
#define GATEWAY_HEALTH_CLI_H

#include "common/base/error.h"

/* `listen` is GATEWAY_LISTEN; asks over loopback. -1 unless /readyz answers 200. */
int health_cli_run(const char *listen, struct error *err) MUST_CHECK;

#endif
