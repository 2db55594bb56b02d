/* connection_group - see connection_group.h. */
#include "common/proxy/connection_group.h"

#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"

enum {
    SERVERS_MAX = 256, /* idle connections to servers, of one loop */
    SERVERS_IDLE_MS = 10000,
};

static bool on_tick(void *arg)
{
    struct connection_group *group = arg;
    const int64_t now_ms = clock_mono_ms();
    const bool stopping = atomic_load(&group->shared->stopping);
    struct connection *connection = group->first;

    while (connection != NULL) {
        connection = connection_tick(connection, now_ms, stopping);
    }
    return servers_sweep(group->servers, now_ms) || group->first != NULL;
}

struct connection_group *connection_group_start(struct connection_shared *shared, struct error *err)
{
    struct connection_group *group = xcalloc(1, sizeof(*group));

    group->shared = shared;
    group->loop = loop_new(on_tick, group, err);
    if (group->loop == NULL) {
        free(group);
        return NULL;
    }
    group->servers = servers_new(group->loop, SERVERS_MAX, SERVERS_IDLE_MS);
    if (loop_start(group->loop, err) < 0) {
        servers_free(group->servers);
        loop_free(group->loop);
        free(group);
        return NULL;
    }
    return group;
}

void connection_group_stop(struct connection_group *group)
{
    if (group != NULL) {
        loop_stop(group->loop);
        servers_free(group->servers);
        loop_free(group->loop);
        relay_buffers_done(&group->buffers);
        free(group);
    }
}
