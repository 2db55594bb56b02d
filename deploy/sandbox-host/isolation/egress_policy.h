/*
 * egress_policy - decides which IPv4 networks a sandbox cannot reach.
 *
 * A sandbox cannot reach this machine's addresses, private and link-local networks with their
 * metadata services (SANDBOX_HOST_EGRESS_DENY), and what its create denied.
 * Owns: merging the operator's lists with those of the create. Does not own: routes
 * (egress_routes.h). Threads: egress_policy_init() once; then any.
 */
#ifndef SANDBOX_HOST_EGRESS_POLICY_H
#define SANDBOX_HOST_EGRESS_POLICY_H

#include <stdbool.h>

#include "common/base/error.h"
#include "common/base/json.h"
#include "common/base/strbuf.h"
#include "deploy/sandbox-host/config.h"

struct egress_request {
    bool internet;                     /* allow_internet_access */
    const cJSON *allow_out, *deny_out; /* arrays of networks, or NULL; `allow_out` wins */
};

/* Checks the operator's lists and starts from them. ERR_CONFIG or ERR_INVALID names the setting. */
int egress_policy_init(const struct host_config *config, struct error *err) MUST_CHECK;
/* Appends the networks to close, each followed by a blank. `available`: this machine can connect
 * sandboxes. *ret_connected false: it cannot, or the request closes everything; nothing is
 * appended. ERR_INVALID names a bad entry; domain names are not supported. */
int egress_policy_plan(const struct egress_request *request, bool available,
                       struct strbuf *ret_closed, bool *ret_connected,
                       struct error *err) MUST_CHECK;

#endif
