/*
 * download - what both directions of /files share, and the pure parts of a download.
 *
 * Owns: struct files_request, content types, Accept-Encoding. Does not own: sockets.
 * Threads: no shared state.
 */
#ifndef AGENT_DOWNLOAD_H
#define AGENT_DOWNLOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "common/httpd/httpd.h"
#include "common/httpd/range.h"
#include "deploy/sandbox-host/agent/agent.h"
#include "deploy/sandbox-host/agent/user.h"

struct files_request {
    struct http_exchange *exchange;
    const struct agent_config *config;
    struct user user;
    bool has_path;
    char path[PATH_MAX]; /* as given */
};

/* Reads path and username and checks access for "read" or "write". -1: answer *ret_status + err. */
int files_request_init(struct files_request *request, struct http_exchange *exchange,
                       const struct agent_config *config, const char *operation, int *ret_status,
                       struct error *err) MUST_CHECK;

/* Accept-Encoding: 1 = gzip, 0 = identity, -1 = the client takes neither. */
int download_encoding(const char *header);

/* By extension, else by the first bytes. */
const char *download_content_type(const char *path, const unsigned char *data, size_t length);

#define HTTP_DATE_BYTES 40
void download_format_date(time_t when, char out[HTTP_DATE_BYTES]);
/* 0 = ok, -1 = no HTTP date. */
int download_parse_date(const char *text, time_t *ret);

#endif
