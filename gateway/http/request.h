/*
 * request - one API call: what was asked, checked, and the two shapes of an answer.
 *
 * Owns: the envelope, error bodies, reading fields with problems named, request ids.
 * Does not own: routing (router.c) or what a call does (handlers_*.c).
 * Threads: a request belongs to its thread.
 */
#ifndef GATEWAY_REQUEST_H
#define GATEWAY_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/json.h"
#include "common/httpd/httpd.h"
#include "gateway/gateway.h"
#include "gateway/work/idempotency.h"

struct route;

/* Longest body of a call that needs no token. */
enum { OPEN_BODY_MAX_BYTES = 4096 };

struct request {
    struct gateway *gateway;
    struct http_exchange *http;
    const struct route *route;
    struct principal principal;
    char request_id[UUID_BYTES];
    char traceparent[TRACEPARENT_BYTES]; /* "" = none, or not of the W3C's form */
    char path_id[UUID_BYTES];            /* {id} of the path, or "" */
    cJSON *body;                         /* owned; NULL when the route has none */
    struct idempotency idempotency;
    struct budget_share buffers;
    struct user_share *user; /* the caller's; NULL before it is known */
    bool user_working;       /* counted in it */
    bool over_share;         /* not counted: it may begin work, but not wait for it */
    bool working;            /* counted in gateway.working */
    int status;              /* answered with, for log and metrics; 0 = not yet */
    size_t sent_bytes;
    char audit_target[LABEL_BYTES]; /* where neither path nor sandbox_id names it; "" = not noted */
    char refusal_headers[256];      /* whole lines that go with a refusal by the router */
    const char *error_type;         /* answered with, for the log; NULL = none */
};

/* The envelope of a success. Takes `data`. */
cJSON *request_envelope(int status, cJSON *data);
/* 200 (or 202) with the envelope. Takes `data`. */
void respond_data(struct request *request, int status, cJSON *data);
/* The failure envelope for err. retry_after_s > 0 adds Retry-After (503 always has one). */
void respond_error(struct request *request, const struct error *err, int retry_after_s);
/* The same with more members in `error`; takes `details` (an object or NULL). */
void respond_error_details(struct request *request, const struct error *err, int retry_after_s,
                           cJSON *details, const char *headers);
/* Any JSON, without the envelope. Takes `tree`. */
void respond_json(struct request *request, int status, cJSON *tree, const char *headers);

/* An answer kept from an earlier request of the same Idempotency-Key. */
void respond_stored(struct request *request, int status, const struct strbuf *body);

/* Any text; `headers`: more lines, or NULL. */
void respond_text(struct request *request, int status, const char *content_type,
                  const struct strbuf *text, const char *headers);

/* Begins an answer of unknown (-1) or known length, to be written with http_stream_write(). -1: the
 * client is gone. */
int respond_stream(struct request *request, const char *content_type, const char *headers,
                   int64_t length);
/* The same with another status of success. */
int respond_stream_status(struct request *request, int status, const char *content_type,
                          const char *headers, int64_t length);
/* {type, detail} for an error that comes when the answer has begun; logs it as an answer would. */
cJSON *request_error_json(struct request *request, const struct error *err);

/* sandbox_id of the body: a UUID in either case, lower-cased. */
int request_sandbox_id(const struct request *request, char ret[UUID_BYTES],
                       struct error *err) MUST_CHECK;
/* An optional query parameter; *ret_given tells whether it was there and not empty. */
int request_query(const struct request *request, const char *name, char *out, size_t size,
                  bool *ret_given, struct error *err) MUST_CHECK;
enum { REQUEST_PAGE_DEFAULT = 50, REQUEST_PAGE_MAX = 200 };
/* `limit` of the query: items of one page, 1 to 200, by default 50. */
int request_page_limit(const struct request *request, int *ret, struct error *err) MUST_CHECK;
/* True when the client sent `Prefer: respond-async`. */
bool request_wants_async(const struct request *request);
/* N of `Prefer: wait=N` in seconds, at most `max`; 0 = not sent, or no number. */
int64_t request_wait_s(const struct request *request, int64_t max);

#endif
