/*
 * compose - POST /files/compose: joins files into one.
 *
 * Owns: reading the request, the order of copying, the unfinished file. Threads: httpd's.
 */
#ifndef AGENT_COMPOSE_H
#define AGENT_COMPOSE_H

#include "common/httpd/httpd.h"
#include "deploy/sandbox-host/agent/agent.h"

void compose_serve(struct http_exchange *exchange, const struct agent_config *config);

#endif
