/*
 * client_pool - HTTP clients for calls into sandboxes, reused to keep their connections.
 *
 * Owns: the idle clients. The most recently used is taken first, so that few hold memory and
 * connections. Threads: any; a client belongs to its taker until it is given back.
 */
#ifndef GATEWAY_CLIENT_POOL_H
#define GATEWAY_CLIENT_POOL_H

#include "common/provider/http.h"

struct client_pool;
struct client_pool *client_pool_new(void);
void client_pool_free(struct client_pool *pool);
struct http_client *client_pool_take(struct client_pool *pool);
void client_pool_give(struct client_pool *pool, struct http_client *client);

#endif
