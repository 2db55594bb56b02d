/*
 * data_call - runs a call into a sandbox, directly from the gateway to the provider.
 *
 * Owns: resuming the sandbox first, its activity during the call, an HTTP client, and one second
 * attempt when the provider's proxy does not know a sandbox that should run: a reconcile job then
 * corrects the row. Does not own: the call itself. Threads: the request's own.
 */
#ifndef GATEWAY_DATA_CALL_H
#define GATEWAY_DATA_CALL_H

#include "common/provider/sandbox_files.h"
#include "gateway/http/request.h"

enum { DATA_PATH_MAX_BYTES = FILES_PATH_MAX_BYTES };

struct data_call {
    struct request *request;
    struct provider *provider;
    struct provider_target target;
    struct http_client *client;
    unsigned pauses;            /* activity_pauses() at the start */
    struct sandbox_files files; /* provider, client and target, for sandbox_files.h */
};

/* One handler's work in a running sandbox; -1 with err. It is called a second time only after
 * ERR_SANDBOX_NOT_FOUND, which says that it had no effect. */
typedef int (*data_fn)(const struct data_call *call, void *arg, struct error *err);

/* -1 with the error of `run` or of lifecycle_get_running(). ERR_PROVIDER: the provider lists the
 * sandbox as running, but could not reach it in either attempt. */
int data_call_run(struct request *request, const char *sandbox_id, data_fn run, void *arg,
                  struct error *err) MUST_CHECK;

/* The same for a session that may last for hours: it takes no part of the provider's share of
 * calls. Bound their number. */
int data_call_attend(struct request *request, const char *sandbox_id, data_fn run, void *arg,
                     struct error *err) MUST_CHECK;

/* True when the sandbox was paused after the call began, or is being paused. `failed`: the call
 * lost its sandbox, so read the row now instead of waiting for activity_watch(). */
bool data_call_paused(const struct data_call *call, const char *sandbox_id, bool failed);

/* Reads sandbox_id and the path in `path_field`. *ret_path belongs to the body. ERR_INVALID. */
/* Reads sandbox_id and the path in `path_field`, which is base64 if path_encoding says so.
 * *ret_path belongs to the body. ERR_INVALID. */
int data_read_target(const struct request *request, const char *path_field,
                     char ret_sandbox_id[UUID_BYTES], const char **ret_path,
                     struct error *err) MUST_CHECK;

#endif
