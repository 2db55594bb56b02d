/*
 * egress - connects a sandbox to networks outside it: starts slirp4netns and changes what it
 * reaches.
 *
 * A sandbox has a network namespace of its own. Without egress the namespace has only loopback.
 * With egress, slirp4netns relays its connections through this machine's network. slirp4netns runs
 * as an ordinary user in the sandbox's cgroup, and closes this machine's loopback itself
 * (--disable-host-loopback). Routes in the namespace close other networks (egress_routes.h). IPv6
 * is not relayed. A change of a running sandbox adds the new routes before it removes old ones, so
 * that nothing is open in between that was closed before and after. Owns: slirp4netns. Does not
 * own: which networks are closed (egress_policy.h), forking (warden.h). Threads: egress_init()
 * once; then any.
 */
#ifndef SANDBOX_HOST_EGRESS_H
#define SANDBOX_HOST_EGRESS_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/base/error.h"
#include "common/base/strbuf.h"
#include "deploy/sandbox-host/config.h"
#include "deploy/sandbox-host/isolation/egress_policy.h"

struct egress_sandbox {
    const char *id;
    pid_t init_pid; /* its first process */
    int init_fd;    /* its pidfd: the kernel may have given the number to another process */
    uid_t uid;
};

/* Checks the settings and whether this machine has slirp4netns. */
int egress_init(const struct host_config *config, struct error *err) MUST_CHECK;
bool egress_available(void);
/* egress_policy_plan() for this machine. */
int egress_plan(const struct egress_request *request, struct strbuf *ret_closed,
                bool *ret_connected, struct error *err) MUST_CHECK;
/* Connects a sandbox and waits until slirp4netns is ready. */
int egress_start(const struct egress_sandbox *sandbox, const char *closed,
                 struct error *err) MUST_CHECK;

/* Applies a new plan to a running sandbox; starts slirp4netns where the sandbox has none. After a
 * failure nothing is open that both the old and the new plan close. */
int egress_change(const struct egress_sandbox *sandbox, const char *closed, bool connected,
                  struct error *err) MUST_CHECK;

#endif
