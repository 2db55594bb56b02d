/*
 * sandbox_tools - what the host brings into every sandbox under /.sandbox.
 *
 * Owns: copies in the state folder of the agent, of the libraries it needs (a template's userland
 * may lack them or have another libc) and of the commands that stand first in PATH (sudo).
 * Does not own: mounting them (bwrap_argv.h). Threads: sandbox_tools_init() at start, constant
 * afterwards.
 */
#ifndef SANDBOX_HOST_SANDBOX_TOOLS_H
#define SANDBOX_HOST_SANDBOX_TOOLS_H

#include "common/base/error.h"
#include "deploy/sandbox-host/config.h"

enum { SANDBOX_TOOLS_PATH_BYTES = 100, SANDBOX_TOOLS_NAME_BYTES = 64 };

struct sandbox_tools {
    char folder[SANDBOX_TOOLS_PATH_BYTES]; /* seen as /.sandbox: agent, bin/ (commands), lib/
                                              (libraries) */
    char loader[SANDBOX_TOOLS_NAME_BYTES]; /* in lib/, the dynamic loader; "" = the agent is static
                                            */
};

int sandbox_tools_init(const struct host_config *config, struct sandbox_tools *ret,
                       struct error *err) MUST_CHECK;

#endif
