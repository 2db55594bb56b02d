/*
 * front - the one door of the host: API calls to the control plane, everything else into sandboxes.
 *
 * Owns: the listener, a thread per client connection, keep-alive, request heads and their time
 * limits, whether a request may go where it asks to. Does not own: where that is (route.h), the
 * copying (pass.h), the texts of refusals (refuse.h), what is behind it.
 * Threads: front_start() and front_stop() from one thread; connections have their own. Failure of
 * one connection ends that connection.
 */
#ifndef SANDBOX_HOST_FRONT_H
#define SANDBOX_HOST_FRONT_H

#include "common/base/error.h"
#include "deploy/sandbox-host/config.h"

struct front;
/* `api_port`: loopback port of the control plane. */
struct front *front_start(const struct host_config *config, int api_port,
                          struct error *err) MUST_CHECK;
/* Ends idle connections; those in use end with what they wait for. NULL-safe. */
void front_stop(struct front *front);

#endif
