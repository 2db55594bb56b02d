/*
 * download - GET /files.
 *
 * Owns: ranges, conditions, Accept-Encoding and gzip, content types, streaming from disk to socket
 * through buffers of a fixed size. Does not own: access (access.h). Threads: httpd's.
 */
#ifndef AGENT_DOWNLOAD_H
#define AGENT_DOWNLOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "common/httpd/httpd.h"
#include "common/httpd/range.h"
#include "deploy/sandbox-host/agent/agent.h"

void download_serve(struct http_exchange *exchange, const struct agent_config *config);

/* ---- pure parts ---- */

/* Accept-Encoding: 1 = gzip, 0 = identity, -1 = the client takes neither. */
int download_encoding(const char *header);

/* By extension, else by the first bytes. */
const char *download_content_type(const char *path, const unsigned char *data, size_t length);

#define HTTP_DATE_BYTES 40
void download_format_date(time_t when, char out[HTTP_DATE_BYTES]);
/* 0 = ok, -1 = no HTTP date. */
int download_parse_date(const char *text, time_t *ret);

#endif
