/*
 * connection_group - an event loop and the connections that it carries.
 *
 * Owns: the loop, the idle connections to servers, deadlines. Does not own: what a connection does
 * (connection.h). Threads: start and stop from one thread.
 */
#ifndef PROXY_CONNECTION_GROUP_H
#define PROXY_CONNECTION_GROUP_H

#include "common/base/error.h"
#include "common/proxy/connection.h"

struct connection_group *connection_group_start(struct connection_shared *shared,
                                                struct error *err) MUST_CHECK;
/* Once shared->count is 0. NULL-safe. */
void connection_group_stop(struct connection_group *group);

#endif
