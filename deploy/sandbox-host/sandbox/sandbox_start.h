/*
 * sandbox_start - a sandbox's processes come up: isolation, then the template's command.
 *
 * Does not own: states, the table. Threads: the sandbox is starting, or its transition lock is
 * held.
 */
#ifndef SANDBOX_HOST_SANDBOX_START_H
#define SANDBOX_HOST_SANDBOX_START_H

#include "deploy/sandbox-host/sandbox/sandbox_table.h"
#include "deploy/sandbox-host/sandbox/template.h"

/* Starts its processes and the template's command. On failure they are killed. `disk`: as in
 * spawn_request. */
int sandbox_start_processes(struct sandbox *sandbox, const struct template *template,
                            const char *disk, const char *closed, bool connected,
                            struct error *err) MUST_CHECK;
/* What the sandbox may reach, from what was asked for. */
int sandbox_start_plan_network(enum sandbox_internet internet, const cJSON *network,
                               struct strbuf *closed, bool *ret_connected,
                               struct error *err) MUST_CHECK;

#endif
