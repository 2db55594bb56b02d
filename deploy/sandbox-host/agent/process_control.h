/*
 * process_control - lists processes, signals them, writes their input, resizes their terminals.
 *
 * Threads: any.
 */
#ifndef AGENT_PROCESS_CONTROL_H
#define AGENT_PROCESS_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/json.h"
#include "deploy/sandbox-host/agent/process_selector.h"

/* Array of ProcessInfo of the running processes. */
cJSON *process_list(void);
/* not_found unless it runs. */
int process_check(const struct process_selector *selector, struct connect_error *err) MUST_CHECK;
int process_signal(const struct process_selector *selector, int signal,
                   struct connect_error *err) MUST_CHECK;
/* Writes all bytes; blocks at most wait_ms while the command does not read. */
int process_write(const struct process_selector *selector, bool pty, const char *data,
                  size_t length, int64_t wait_ms, struct connect_error *err) MUST_CHECK;
int process_close_stdin(const struct process_selector *selector,
                        struct connect_error *err) MUST_CHECK;
int process_resize(const struct process_selector *selector, unsigned columns, unsigned rows,
                   struct connect_error *err) MUST_CHECK;

#endif
