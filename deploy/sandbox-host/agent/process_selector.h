/*
 * process_selector - how a request names a process: by pid, or by the tag of its start.
 */
#ifndef AGENT_PROCESS_SELECTOR_H
#define AGENT_PROCESS_SELECTOR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "deploy/sandbox-host/agent/connect.h"

struct process_selector {
    uint32_t pid; /* 0: by tag */
    const char *tag;
};

/* `tag` may be NULL. */
bool process_selector_matches(const struct process_selector *selector, pid_t pid, const char *tag);
/* Sets not_found; returns -1. */
int process_selector_not_found(const struct process_selector *selector,
                               struct connect_error *err) MUST_CHECK;

#endif
