/*
 * process - starts commands in the sandbox.
 *
 * Does not own: fork and exec (spawn.h), the table (process_table.h), output and deadlines
 * (process_loop.h), who listens (process_subscriber.h), signals and input (process_control.h), the
 * wire (rpc_process.h). Threads: any.
 */
#ifndef AGENT_PROCESS_H
#define AGENT_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/json.h"
#include "deploy/sandbox-host/agent/process_subscriber.h"
#include "deploy/sandbox-host/agent/spawn.h"

/*
 * Starts a command and subscribes to it before its first byte. `description` is the ProcessConfig
 * that List shows; its ownership moves. timeout_ms < 0 = no timeout; the returned subscriber gets
 * PROCESS_EXPIRED.
 */
int process_start(const struct spawn_spec *spec, cJSON *description, const char *tag,
                  int64_t timeout_ms, struct process_sub **ret_sub, uint32_t *ret_pid,
                  struct connect_error *err) MUST_CHECK;
/* Kills every process, when the agent ends. */
void process_kill_all(void);
/* Whether a process runs. */
bool process_any(void);

#endif
