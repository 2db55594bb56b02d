/*
 * files - GET and POST /files, POST /files/compose.
 *
 * Owns: signed URLs, ranges, gzip, metadata attributes, streaming between disk and socket with
 * buffers of a fixed size, joining files (compose). Does not own: multipart syntax (multipart).
 * Threads: httpd's.
 */
#ifndef AGENT_FILES_H
#define AGENT_FILES_H

#include "common/httpd/httpd.h"
#include "deploy/sandbox-host/agent/agent.h"

void files_get(struct http_exchange *exchange, const struct agent_config *config);
void files_post(struct http_exchange *exchange, const struct agent_config *config);
void files_compose(struct http_exchange *exchange, const struct agent_config *config);

#endif
