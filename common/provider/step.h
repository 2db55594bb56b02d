/*
 * step - helpers shared by the step machines of all backends.
 *
 * Owns: the form of a verdict, the tags on a new sandbox, the bytes of a file.
 * Does not own: which verdict is given, and when. Threads: no shared state; everything is in the
 * call. Failure: documented per function.
 */
#ifndef PROVIDER_STEP_H
#define PROVIDER_STEP_H

#include "common/provider/http.h"
#include "common/provider/provider.h"

/* Fails the operation with this text, which has no secrets and is cut to the size of ret->error. */
void step_fail(struct provider_step *ret, enum outcome outcome, int64_t retry_after_ms,
               const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Fails the operation `what` of the backend `name`: a 2xx without a usable body. */
void step_fail_garbage(struct provider_step *ret, enum outcome outcome,
                       const struct http_response *last, const char *name, const char *what);
/* Fails with OUTCOME_TRANSIENT for a refusal that is not the provider's own (step_is_foreign). */
void step_fail_foreign(struct provider_step *ret, const struct http_response *last,
                       const char *name, const char *what);
/* Fails for now, with this text: an earlier create is looked for again, at until_ms at the latest.
 */
void step_fail_unsettled(struct provider_step *ret, const struct provider_call *call,
                         int64_t until_ms, const char *text);
/* Ends the operation with the sandbox's current state. */
void step_done(struct provider_call *call, struct provider_step *ret, enum provider_state state);
/* Sends `request`; its answer belongs to `phase`. OUTCOME_PERMANENT: the request is too large.
 * `name`: the backend. */
void step_send(struct provider_call *call, int phase, const struct http_request *request,
               const char *name, struct provider_step *ret);

bool step_answered(const struct http_response *last, int status);
/* True for an answer with a 2xx. */
bool step_succeeded(const struct http_response *last);
/* True when the provider itself refused: the body is its JSON error object, whose number `field`
 * repeats the HTTP status. A load balancer or proxy sends HTML, nothing, or other JSON. */
bool step_is_own_refusal(const struct http_response *last, const char *field);
/* Whether another answer of the same status would mean nothing: a 3xx or a 4xx that only a proxy
 * can have sent. Not asked for 401, 408, 413, 414, 429 and 431, whose meaning is the same from
 * both. */
bool step_is_foreign(const struct http_response *last, const char *field);

/* Returns text, or "" for NULL. */
const char *step_text(const char *text);

/* The user's metadata, then our tags (text.h), which it cannot override; the caller deletes. NULL:
 * the metadata is no JSON object. */
cJSON *step_tags(const struct provider_call *call);

/* One more to call->listed. Passed over unless both tags are there and say that it is this
 * deployment's. -1: `id` is unusable; nothing can be said. */
int step_list(struct provider_call *call, const char *deployment_id, const char *sandbox_id,
              const char *id, enum provider_state state) MUST_CHECK;

/* Of the data plane: performs a GET of a file's content with the Range that is wanted; *ret_stopped
 * = one of get's functions asked to end it. The answer's other meanings are the caller's. */
void step_file_get(struct http_client *client, struct http_request *request,
                   const struct file_get *get, int64_t idle_ms, struct http_response *ret,
                   bool *ret_stopped);

#endif
