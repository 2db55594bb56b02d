/*
 * data_call - a call into a running sandbox: from the gateway to the provider directly.
 *
 * Owns: making the sandbox run first, its activity while the call lasts, an HTTP client for it, and
 * the second try when the provider's edge does not know a sandbox that should run: its row is then
 * corrected through the queue. Does not own: what the call does. Threads: the request's own.
 */
#ifndef GATEWAY_DATA_CALL_H
#define GATEWAY_DATA_CALL_H

#include "gateway/request.h"

enum { DATA_PATH_MAX_BYTES = 4096 };

struct data_call {
    struct request *request;
    struct provider *provider;
    struct provider_target target;
    struct http_client *client;
};

/* What one handler does with a running sandbox; -1 with err. Called again only after
 * ERR_SANDBOX_NOT_FOUND, which means that nothing was done. */
typedef int (*data_fn)(const struct data_call *call, void *arg, struct error *err);

int data_call_run(struct request *request, const char *sandbox_id, data_fn run, void *arg,
                  struct error *err) MUST_CHECK;

/* A path in a sandbox, from the body. */
int data_read_path(const cJSON *body, const char *field, const char **ret,
                   struct error *err) MUST_CHECK;

#endif
