/*
 * client_pool - blocking HTTP clients of the data plane, reused so that their connections live on.
 *
 * Owns: the idle ones; the most recently used is taken first, so that as few as possible hold
 * memory and connections. Threads: any; a client taken belongs to its taker until it is given back.
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
