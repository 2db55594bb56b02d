/*
 * egress - a sandbox's way out: slirp4netns, and where it must not lead.
 *
 * A sandbox has a network namespace of its own. Without egress it holds loopback alone. With it,
 * slirp4netns carries what leaves through this machine's network, as an ordinary user, in the
 * sandbox's cgroup. What must not be reached (this machine's own addresses, private and link-local
 * networks with their metadata services, what the create denied) is unreachable by routes in the
 * sandbox's namespace, which nothing in the sandbox has the right to change; this machine's
 * loopback is closed by slirp4netns itself. IPv6 does not leave.
 * A running sandbox's routes are replaced the same way: new ones first, so that at no time more is
 * open than before or after.
 * Owns: the plan, the routes, starting slirp4netns. Threads: any.
 */
#ifndef SANDBOX_HOST_EGRESS_H
#define SANDBOX_HOST_EGRESS_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/base/error.h"
#include "common/base/json.h"
#include "common/base/strbuf.h"
#include "deploy/sandbox-host/config.h"

struct egress_wish {
    bool internet;                     /* allow_internet_access */
    const cJSON *allow_out, *deny_out; /* arrays of networks, or NULL; allowed ones win */
};

struct egress_sandbox {
    const char *id;
    pid_t init_pid; /* its first process */
    int init_fd;    /* a pidfd of that: the number alone may be another process' by now */
    uid_t uid;
};

/* Checks the settings and whether this machine has slirp4netns. */
int egress_init(const struct host_config *config, struct error *err) MUST_CHECK;
bool egress_available(void);
/* Appends the networks to close; *ret_connected false = no way out at all. ERR_INVALID names a bad
 * entry (domain names are not supported). */
int egress_plan(const struct egress_wish *wish, struct strbuf *ret_closed, bool *ret_connected,
                struct error *err) MUST_CHECK;
/* Connects a sandbox, and waits until the way is open. */
int egress_start(const struct egress_sandbox *sandbox, const char *closed,
                 struct error *err) MUST_CHECK;

/* Makes a new plan true of a running sandbox, whose way out may have to be opened for it. A failure
 * leaves at most what the old or the new plan leaves open. */
int egress_change(const struct egress_sandbox *sandbox, const char *closed, bool connected,
                  struct error *err) MUST_CHECK;

/* In the warden's child that becomes slirp4netns, before it gives up root: closes the networks. */
int egress_prepare(const char *closed, struct error *err) MUST_CHECK;
/* In a child of the warden that does nothing else: closes these networks and opens what else was
 * closed, where there is a way out; answers on descriptor 3. */
int egress_replace(const char *closed, struct error *err) MUST_CHECK;

#endif
