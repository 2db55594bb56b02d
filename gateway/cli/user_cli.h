/*
 * user_cli - `sandbox-gateway user ...`: manages the user table.
 *
 *   add NAME [--role user|admin] [--password-stdin] [--if-absent]
 *   passwd NAME [--password-stdin]
 *   disable NAME | enable NAME | list
 *
 * The password comes from the first line of stdin (--password-stdin), else from
 * SANDBOX_USER_PASSWORD, else from the terminal, asked twice without echo. It never comes from an
 * argument, which `ps` would show. Disabling a user or setting a password ends the user's tokens.
 * Threads: one. Failure: -1 with a message for the operator; ERR_INVALID is a usage error.
 */
#ifndef GATEWAY_USER_CLI_H
#define GATEWAY_USER_CLI_H

#include "common/base/error.h"
#include "common/store/store.h"

/* argv may begin at the program's name, at "user" or at the command behind it. */
int user_cli_run(int argc, char **argv, struct store *store, struct error *err) MUST_CHECK;

#endif
