/* process_selector - see process_selector.h. */
#include "deploy/sandbox-host/agent/process_selector.h"

#include <string.h>

bool process_selector_matches(const struct process_selector *selector, pid_t pid, const char *tag)
{
    if (selector->pid != 0) {
        return pid == (pid_t)selector->pid;
    }
    return selector->tag != NULL && tag != NULL && strcmp(tag, selector->tag) == 0;
}

int process_selector_not_found(const struct process_selector *selector, struct connect_error *err)
{
    if (selector->pid != 0) {
        return connect_fail(err, CONNECT_NOT_FOUND, "process with pid %lu not found",
                            (unsigned long)selector->pid);
    }
    return connect_fail(err, CONNECT_NOT_FOUND, "process with tag %.200s not found",
                        selector->tag != NULL ? selector->tag : "");
}
