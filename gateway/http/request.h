/*
 * request - one API call: its fields, and the two forms of an answer.
 *
 * Owns: the envelope, error bodies, reading fields with errors that name them, request ids. Does
 * not own: routing (router.c), what a call does (handlers_*.c). Threads: a request belongs to its
 * thread.
 */
#ifndef GATEWAY_REQUEST_H
#define GATEWAY_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/json.h"
#include "common/httpd/httpd.h"
#include "gateway/gateway.h"

struct request_state;

/* Longest body of a call without a token, in bytes. */
enum { OPEN_BODY_MAX_BYTES = 4096 };

/* One API call, as its handler sees it. */
struct request {
    struct gateway *gateway;
    struct http_exchange *http;
    struct principal principal; /* the caller; empty on an OPEN route */
    char request_id[UUID_BYTES];
    char path_id[UUID_BYTES];    /* {id} of the path, or "" */
    char command_id[UUID_BYTES]; /* {command_id} of the path, or "" */
    cJSON *body;                 /* owned by the router; NULL when the route has none */
    struct request_state *state; /* request_state.h; not for handlers */
};

/* The envelope of a success. Takes ownership of `data`. */
cJSON *request_envelope(int status, cJSON *data);
/* Answers 200 or 202 with the envelope. Takes ownership of `data`. */
void respond_data(struct request *request, int status, cJSON *data);
/* Answers with the failure envelope for err. retry_after_s > 0 adds Retry-After; 503 always has
 * one. */
void respond_error(struct request *request, const struct error *err, int retry_after_s);
/* The same with more members in `error`. Takes ownership of `details` (an object or NULL). */
void respond_error_details(struct request *request, const struct error *err, int retry_after_s,
                           cJSON *details, const char *headers);
/* Answers with any JSON, without the envelope. Takes ownership of `tree`. */
void respond_json(struct request *request, int status, cJSON *tree, const char *headers);

/* Answers with the stored answer of an earlier request with the same Idempotency-Key. */
void respond_stored(struct request *request, int status, const struct strbuf *body);

/* Answers with a success that has no body. */
void respond_empty(struct request *request, int status);

/* Answers with any text. `headers`: more header lines, or NULL. */
void respond_text(struct request *request, int status, const char *content_type,
                  const struct strbuf *text, const char *headers);

/* Begins an answer of known or unknown (-1) length; write it with http_stream_write(). -1: the
 * client has gone. */
int respond_stream(struct request *request, const char *content_type, const char *headers,
                   int64_t length);
/* The same with another status of success. */
int respond_stream_status(struct request *request, int status, const char *content_type,
                          const char *headers, int64_t length);
/* {type, detail} of an error that happens after the answer has begun. Logs it like an answer. */
cJSON *request_error_json(struct request *request, const struct error *err);

/* Reads the body's sandbox_id: a UUID in either case; lower-cases it. */
int request_sandbox_id(const struct request *request, char ret[UUID_BYTES],
                       struct error *err) MUST_CHECK;
/* Reads an optional query parameter. *ret_given: it was sent and is not empty. */
int request_query(const struct request *request, const char *name, char *out, size_t size,
                  bool *ret_given, struct error *err) MUST_CHECK;
enum { REQUEST_PAGE_DEFAULT = 50, REQUEST_PAGE_MAX = 200 };
/* Reads `limit`, the items of one page: 1 to 200, default 50. */
int request_page_limit(const struct request *request, int *ret, struct error *err) MUST_CHECK;
/* Takes bytes of the gateway's and of the caller's buffers until the request ends. ERR_OVERLOADED
 * or ERR_QUOTA: nothing was taken. */
int request_take_bytes(struct request *request, int64_t bytes, struct error *err) MUST_CHECK;
/* Gives back bytes before the request ends. */
void request_give_bytes(struct request *request, int64_t bytes);
/* Names what the call changes, for the audit log, where neither path nor sandbox_id names it. A
 * name longer than LABEL_BYTES - 1 is cut. */
void request_set_audit_target(struct request *request, const char *target);
/* True when the client sent an Idempotency-Key. */
bool request_is_keyed(const struct request *request);
/* Counts bytes of a streamed body, for the log. */
void request_count_sent(struct request *request, size_t bytes);
/* True when the client sent `Prefer: respond-async`. */
bool request_wants_async(const struct request *request);
/* N of `Prefer: wait=N` in seconds, at most `max`; 0 = not sent, or no number. */
int64_t request_wait_s(const struct request *request, int64_t max);

#endif
