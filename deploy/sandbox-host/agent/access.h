/*
 * access - who may use the agent: the access token, or the signature of a file URL.
 *
 * Owns: both checks, the user and path that a request for a file names. Threads: no shared state.
 */
#ifndef AGENT_ACCESS_H
#define AGENT_ACCESS_H

#include <limits.h>
#include <stdbool.h>

#include "common/base/error.h"
#include "common/httpd/httpd.h"
#include "deploy/sandbox-host/agent/agent.h"
#include "deploy/sandbox-host/agent/user.h"

/* Constant-time. false for a NULL header. */
bool access_token_matches(const struct agent_config *config, const char *header);

struct access_request {
    struct http_exchange *exchange;
    const struct agent_config *config;
    struct user user;
    bool has_path;
    char path[PATH_MAX]; /* as given */
};

/* Reads path and username and checks access for "read" or "write". -1: answer *ret_status + err. */
int access_request_init(struct access_request *request, struct http_exchange *exchange,
                        const struct agent_config *config, const char *operation, int *ret_status,
                        struct error *err) MUST_CHECK;

#endif
