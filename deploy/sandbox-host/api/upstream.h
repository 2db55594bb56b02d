/*
 * upstream - where the proxy sends each request: to the API, or to a port of a sandbox.
 *
 * Owns: the callbacks of common/proxy for this host, who may reach a port, the sandbox that a
 * signed file URL belongs to. Does not own: names and headers (common/proxy/route.h), sandboxes.
 * Threads: any.
 */
#ifndef SANDBOX_HOST_API_UPSTREAM_H
#define SANDBOX_HOST_API_UPSTREAM_H

#include "common/proxy/proxy.h"

struct upstream {
    int api_port; /* loopback port of the API */
};

/* Callbacks whose `arg` is a struct upstream. */
extern const struct proxy_callbacks upstream_callbacks;

#endif
