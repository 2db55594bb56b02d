/*
 * port_urls - the gateway's own URLs for ports of sandboxes.
 *
 * {port}-{id}-{token}.{SANDBOX_DOMAIN} for a private port, {port}-{id}.{SANDBOX_DOMAIN} for a
 * public one. Owns: their form, which ports may have one. Does not own: the rows (store_ports.h),
 * the traffic (sandbox_proxy.h). Threads: any. Failure: the store's errors, ERR_QUOTA, ERR_INVALID.
 */
#ifndef GATEWAY_PORT_URLS_H
#define GATEWAY_PORT_URLS_H

#include "common/domain/job_params.h"
#include "common/store/store_ports.h"
#include "gateway/gateway.h"

/* Exposes the port, or moves its end and visibility. `keep`: an exposed one is left as it is. */
int port_urls_expose(struct gateway *gateway, const char *sandbox_id, int port, bool is_public,
                     int64_t ttl_ms, bool keep, struct store_port *ret,
                     struct error *err) MUST_CHECK;
int port_urls_remove(struct gateway *gateway, const char *sandbox_id, int port,
                     struct error *err) MUST_CHECK;
/* Appends the URL of an exposed port. */
void port_urls_put(const struct gateway *gateway, const char *sandbox_id,
                   const struct store_port *port, struct strbuf *out);
/* Does the domain lead to this machine? Then it needs no certificate; every other is behind HTTPS.
 */
bool port_urls_is_local(const struct gateway *gateway);
/* The port is that of a service in the sandbox, which runs commands for whoever reaches it. */
bool port_urls_is_service(const struct gateway *gateway, int port);
/* Of a new sandbox: where the URLs are the gateway's, the provider's own open nothing. */
void port_urls_close_provider(const struct gateway *gateway, struct job_params *params);

#endif
