/* client_pool - see client_pool.h. */
#include "gateway/data/client_pool.h"

#include <pthread.h>
#include <stdlib.h>

#include "common/base/alloc.h"

enum { IDLE_MAX = 64 };

struct client_pool {
    pthread_mutex_t lock;
    int count;
    struct http_client *idle[IDLE_MAX];
};

struct client_pool *client_pool_new(void)
{
    struct client_pool *pool = xcalloc(1, sizeof(*pool));

    pthread_mutex_init(&pool->lock, NULL);
    return pool;
}

void client_pool_free(struct client_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    for (int i = 0; i < pool->count; i++) {
        http_client_free(pool->idle[i]);
    }
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

struct http_client *client_pool_take(struct client_pool *pool)
{
    struct http_client *client = NULL;

    pthread_mutex_lock(&pool->lock);
    if (pool->count > 0) {
        client = pool->idle[--pool->count];
    }
    pthread_mutex_unlock(&pool->lock);
    return client != NULL ? client : http_client_new();
}

void client_pool_give(struct client_pool *pool, struct http_client *client)
{
    pthread_mutex_lock(&pool->lock);
    if (pool->count < IDLE_MAX) {
        pool->idle[pool->count++] = client;
        client = NULL;
    }
    pthread_mutex_unlock(&pool->lock);
    if (client != NULL) {
        http_client_free(client);
    }
}
