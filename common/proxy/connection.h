/*
 * connection - one client's connection to the proxy, from its first byte to its end.
 *
 * Owns: TLS or not, reading heads within their time, asking the program (proxy.h) where a request
 * goes, keep-alive, the end of the connection. Does not own: accepting, the copying (relay.h).
 * Threads: connection_run() blocks its thread until the connection is over.
 */
#ifndef PROXY_CONNECTION_H
#define PROXY_CONNECTION_H

#include <stdbool.h>

#include "common/proxy/proxy.h"

struct connection {
    const struct proxy_options *options;
    int fd;                         /* closed by connection_run() */
    int stop_fd;                    /* readable once the proxy stops */
    const _Atomic int *connections; /* of the proxy, now */
    char peer[PROXY_PEER_BYTES];
    bool refused; /* above the limit: answered 503 */
};

void connection_run(struct connection *connection);

#endif
