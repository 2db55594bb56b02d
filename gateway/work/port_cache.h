/*
 * port_cache - exposed ports for a moment, so that traffic does not ask for one per request.
 *
 * An answer is at most PORT_CACHE_MS old, so a port revoked at another gateway closes here within
 * that time; port_cache_drop() forgets at once. Threads: any. Failure: the store's errors.
 */
#ifndef GATEWAY_PORT_CACHE_H
#define GATEWAY_PORT_CACHE_H

#include "common/store/store_ports.h"

enum { PORT_CACHE_MS = 200 };

struct port_cache;
struct port_cache *port_cache_new(struct store *store);
void port_cache_free(struct port_cache *cache); /* NULL-safe */
/* As store_port_find(), which it asks. */
int port_cache_find(struct port_cache *cache, const char *sandbox_id, int port, bool any_port,
                    struct store_port *ret, struct error *err) MUST_CHECK;
/* Forgets every port: they seldom change. */
void port_cache_drop(struct port_cache *cache);

#endif
