/*
 * step - what the step machines of all backends say in the same way.
 *
 * Owns: the form of a verdict, the life of a call, our tags on what a create makes, the bytes of a
 * file. Does not own: which verdict it is, when. Threads: none shared; all is in the call.
 * Failure: as each says.
 */
#ifndef PROVIDER_STEP_H
#define PROVIDER_STEP_H

#include "common/provider/http.h"
#include "common/provider/provider.h"

/* The operation has failed, with these words (cut to what ret->error takes; free of secrets). */
void step_fail(struct provider_step *ret, enum outcome outcome, int64_t retry_after_ms,
               const char *format, ...) __attribute__((format(printf, 4, 5)));
/* A 2xx that says nothing usable to the operation `what` of the backend `name`. */
void step_fail_garbage(struct provider_step *ret, enum outcome outcome,
                       const struct http_response *last, const char *name, const char *what);
/* A refusal that is not the provider's own (step_is_foreign): tried again, whatever it says. */
void step_fail_foreign(struct provider_step *ret, const struct http_response *last,
                       const char *name, const char *what);
/* The operation is done, and this is the sandbox's state now. */
void step_done(struct provider_call *call, struct provider_step *ret, enum provider_state state);
/* `request` is to be sent, and its answer is the one of `phase`; OUTCOME_PERMANENT when it has
 * become too large. `name` is the backend's. */
void step_send(struct provider_call *call, int phase, const struct http_request *request,
               const char *name, struct provider_step *ret);

bool step_answered(const struct http_response *last, int status);
/* Answered with a 2xx. */
bool step_succeeded(const struct http_response *last);
/* Whether the provider itself refused: the body is its JSON error object, whose number `field`
 * repeats the HTTP status. A load balancer or a proxy answers with HTML, with nothing or with other
 * JSON. */
bool step_is_own_refusal(const struct http_response *last, const char *field);
/* Whether another answer of the same status would mean nothing: a 3xx or a 4xx that only a proxy
 * can have sent. Not asked for 401, 408, 413, 414, 429 and 431, whose meaning is the same from
 * both. */
bool step_is_foreign(const struct http_response *last, const char *field);

/* "" for NULL. */
const char *step_text(const char *text);

/* The user's metadata, then our tags (text.h), which it cannot override; the caller deletes. NULL:
 * the metadata is no JSON object. */
cJSON *step_tags(const struct provider_call *call);

/* One more to call->listed. Passed over unless both tags are there and say that it is this
 * deployment's. -1: `id` is unusable or there are more than list_max; nothing can be said. */
int step_list(struct provider_call *call, const char *deployment_id, const char *sandbox_id,
              const char *id, enum provider_state state) MUST_CHECK;

/* Of the data plane: performs a GET of a file's content with the Range that is wanted; *ret_stopped
 * = one of get's functions asked to end it. The answer's other meanings are the caller's. */
void step_file_get(struct http_client *client, struct http_request *request,
                   const struct file_get *get, int64_t idle_ms, struct http_response *ret,
                   bool *ret_stopped);

#endif
