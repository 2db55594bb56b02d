/*
 * kit - what the host brings into every sandbox under /.sandbox.
 *
 * Owns: copies in the state folder of the agent, of the libraries it needs (a template's userland
 * may lack them or have another libc) and of the commands that stand first in PATH (sudo).
 * Does not own: mounting them (view.h). Threads: kit_init() at start, constant afterwards.
 */
#ifndef SANDBOX_HOST_KIT_H
#define SANDBOX_HOST_KIT_H

#include "common/base/error.h"
#include "deploy/sandbox-host/config.h"

enum { KIT_PATH_BYTES = 100, KIT_NAME_BYTES = 64 };

struct kit {
    char folder[KIT_PATH_BYTES]; /* seen as /.sandbox: agent, bin/ (commands), lib/ (libraries) */
    char loader[KIT_NAME_BYTES]; /* in lib/, the dynamic loader; "" = the agent is static */
};

int kit_init(const struct host_config *config, struct kit *ret, struct error *err) MUST_CHECK;

#endif
