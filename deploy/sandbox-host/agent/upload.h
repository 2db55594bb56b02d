/*
 * upload - POST /files.
 *
 * Owns: metadata attributes, gzip and multipart bodies, streaming from socket to disk through
 * buffers of a fixed size. Does not own: multipart syntax (multipart.h), access (access.h).
 * Threads: httpd's.
 */
#ifndef AGENT_UPLOAD_H
#define AGENT_UPLOAD_H

#include "common/httpd/httpd.h"
#include "deploy/sandbox-host/agent/agent.h"

void upload_serve(struct http_exchange *exchange, const struct agent_config *config);

#endif
