/*
 * connection - one client's connection, from its first byte to its end.
 *
 * Owns: TLS or not, reading heads within their time, asking the program (proxy.h) where a request
 * goes, keep-alive, the end of the connection. Does not own: accepting, the loop and its list of
 * connections (connection_group.h), the copying (relay.h).
 * Threads: connection_open() from any; the rest runs on the loop's thread.
 */
#ifndef PROXY_CONNECTION_H
#define PROXY_CONNECTION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/proxy/loop.h"
#include "common/proxy/proxy.h"
#include "common/proxy/relay.h"
#include "common/proxy/servers.h"
#include "common/proxy/workers.h"

/* What the connections of one proxy share. */
struct connection_shared {
    struct proxy_options options;
    struct workers *workers;
    atomic_int count;     /* connections of clients */
    atomic_bool stopping; /* connections end as soon as they wait for a request */
};

/* What the connections of one loop share. */
struct connection_group {
    struct connection_shared *shared;
    struct loop *loop;
    struct servers *servers;
    struct relay_buffers buffers;
    struct connection *first;
};

/* Takes over `fd`, which shared->count counts already. `refused`: it is only to be answered 503. */
void connection_open(struct connection_group *group, int fd, const char *peer, bool refused);
/* Ends what is due; returns the next of the group's list, NULL = none. */
struct connection *connection_tick(struct connection *connection, int64_t now_ms, bool stopping);

#endif
