/*
 * front - the one door of the host: API calls to the control plane, everything else into sandboxes.
 *
 * Owns: the listener, a thread per client connection, request heads, routing by host name
 * ({port}-{id}.<domain>) or by the headers E2b-Sandbox-Id / E2b-Sandbox-Port, the relay, E2B's 502
 * bodies. Does not own: what is behind it.
 * One exchange a connection: the head is passed on with `Connection: close` (but for upgrades), so
 * that a later request on the same connection cannot end up in the wrong sandbox. Bodies stream
 * through a bounded buffer in both directions.
 */
#ifndef SANDBOX_HOST_FRONT_H
#define SANDBOX_HOST_FRONT_H

#include "common/base/error.h"
#include "deploy/sandbox-host/config.h"

struct front;
/* `api_port`: loopback port of the control plane. */
struct front *front_start(const struct host_config *config, int api_port,
                          struct error *err) MUST_CHECK;
void front_stop(struct front *front);

/* Where a request goes. Pure. */
enum front_route { FRONT_API, FRONT_SANDBOX, FRONT_BAD };
struct front_target {
    char id[32];
    int port;
};
/* Any of host, id_header, port_header may be NULL. */
enum front_route front_route(const char *domain, const char *host, const char *id_header,
                             const char *port_header, struct front_target *ret);

#endif
