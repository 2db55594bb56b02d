/*
 * sandbox_proxy - the gateway's listener for traffic into sandboxes: envd's protocol and ports.
 *
 * A request is let in by our token (sandbox_access.h), its sandbox is resumed if it is paused, and
 * it is relayed as a stream to the sandbox's provider with the provider's tokens in place of ours.
 * An exchange is activity from its head to its end. Owns: the listener, the way to the provider.
 * Does not own: the relay itself (proxy.h). Threads: those of proxy.h. Failure: one exchange's
 * fault is its answer.
 */
#ifndef GATEWAY_SANDBOX_PROXY_H
#define GATEWAY_SANDBOX_PROXY_H

#include "gateway/gateway.h"

struct sandbox_proxy;
/* Sets gateway->sandbox_domain. *ret is NULL when GATEWAY_SANDBOX_LISTEN is off. */
int sandbox_proxy_start(struct gateway *gateway, struct sandbox_proxy **ret,
                        struct error *err) MUST_CHECK;
int sandbox_proxy_port(const struct sandbox_proxy *proxy); /* 0 = off */
void sandbox_proxy_stop(struct sandbox_proxy *proxy);      /* NULL-safe */

#endif
