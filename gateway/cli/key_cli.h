/*
 * key_cli - `sandbox-gateway key add|list|revoke|rotate`, for the operator.
 */
#ifndef GATEWAY_KEY_CLI_H
#define GATEWAY_KEY_CLI_H

#include "common/base/error.h"
#include "common/store/store.h"

/* argv[0] is the verb. Prints to stdout; a new key is printed once. `max_keys` of one user, 0 = no
 * limit. */
int key_cli_run(int argc, char **argv, struct store *store, int64_t max_keys,
                struct error *err) MUST_CHECK;

#endif
