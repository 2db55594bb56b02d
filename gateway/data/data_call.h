/*
 * data_call - a call into a running sandbox: from the gateway to the provider directly.
 *
 * Owns: making the sandbox run first, its activity while the call lasts, an HTTP client for it, and
 * the second try when the provider's edge does not know a sandbox that should run: its row is then
 * corrected through the queue. Does not own: what the call does. Threads: the request's own.
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
    unsigned pauses;            /* activity_pauses() at the begin */
    struct sandbox_files files; /* the same three, as sandbox_files.h takes them */
};

/* What one handler does with a running sandbox; -1 with err. Called again only after
 * ERR_SANDBOX_NOT_FOUND, which means that nothing was done. */
typedef int (*data_fn)(const struct data_call *call, void *arg, struct error *err);

/* -1 with what `run` or lifecycle_get_running() (lifecycle.h) failed with; ERR_PROVIDER when the
 * provider says that the sandbox runs and reaches it neither time. */
int data_call_run(struct request *request, const char *sandbox_id, data_fn run, void *arg,
                  struct error *err) MUST_CHECK;

/* The sandbox was paused, or is being paused, since the call began. `failed`: the call has lost its
 * sandbox, so ask the database instead of waiting for the next look at it. */
bool data_call_paused(const struct data_call *call, const char *sandbox_id, bool failed);

/* The body's sandbox_id, and the path in that sandbox in its field `path_field`. *ret_path belongs
 * to the body. ERR_INVALID. */
/* The body's sandbox_id, and the path in that sandbox in its field `path_field`, which is base64
 * when its field path_encoding says so. *ret_path belongs to the body. ERR_INVALID. */
int data_read_target(const struct request *request, const char *path_field,
                     char ret_sandbox_id[UUID_BYTES], const char **ret_path,
                     struct error *err) MUST_CHECK;

#endif
