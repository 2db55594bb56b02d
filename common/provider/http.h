/*
 * http - the only user of libcurl: a blocking client and a driver for many exchanges.
 *
 * Owns: connections, TLS verification (on), limits and timeouts, the map from CURLcode to enum
 * http_transport. Does not own: what an answer means.
 */
#ifndef PROVIDER_HTTP_H
#define PROVIDER_HTTP_H

#include "common/provider/provider.h"

int http_global_init(struct error *err) MUST_CHECK; /* once, before threads */

/* ---- blocking client: one per thread at a time, keeps its connections alive -------------------
 */

struct http_client;
struct http_client *http_client_new(void);
void http_client_free(struct http_client *client);
/* Performs the request. The client owns the response body until the next call. A transport failure
 * is in ret->transport; it is not an error. */
void http_client_perform(struct http_client *client, const struct http_request *request,
                         struct http_response *ret);
/* Streamed both ways: body bytes of a 2xx go to on_data, after on_head (optional) had the answer's
 * status and headers, which is called for an empty body, too. A non-zero return of either stops,
 * transport becomes HTTP_AMBIGUOUS. Other statuses collect into ret->body (bounded). read_body
 * non-NULL supplies the request body (chunked unless body_bytes >= 0). idle_ms: longest silence
 * before giving up (0 = only request->timeout_ms, itself 0 = unlimited). */
struct http_stream {
    int (*on_head)(void *arg, const struct http_response *response);
    int (*on_data)(void *arg, const void *data, size_t bytes);
    long (*read_body)(void *arg, void *buf, size_t bytes);
    /* called about once a second; may be NULL. Non-zero stops, as for on_data. */
    int (*on_tick)(void *arg);
    void *arg;
    int64_t body_bytes;
    int64_t idle_ms;
};
void http_client_stream(struct http_client *client, const struct http_request *request,
                        const struct http_stream *stream, struct http_response *ret);
/* Calls is_over(arg) at least once a second while http_client_stream() runs. When it returns true,
 * the stream is stopped, and is_over is not called again for this client. NULL removes it. */
void http_client_watch(struct http_client *client, bool (*is_over)(void *arg), void *arg);
/* Calls is_over() now, unless it has returned true before; for a long call made of short requests.
 */
bool http_client_over(struct http_client *client);
/* Runs a whole step machine to its end with this client. Returns the final step. */
void http_client_drive(struct http_client *client, struct provider *provider,
                       struct provider_call *call, struct provider_step *ret);

/* ---- multi driver: the worker's event loop ------------------------------------------------------
 */

struct http_multi;
struct http_multi *http_multi_new(int max_connections);
void http_multi_free(struct http_multi *multi); /* abandons the exchanges in flight */
/* Copies the request; on_done runs inside http_multi_run(). The response is valid during on_done.
 */
void http_multi_send(struct http_multi *multi, const struct http_request *request,
                     void (*on_done)(void *arg, const struct http_response *response), void *arg);
int http_multi_in_flight(const struct http_multi *multi);
/* Waits at most timeout_ms for transfers or for one of extra_fds (POLLIN) to become readable, then
 * runs completions. ret_ready[i] tells which extra fds are readable. The loop's single wait point.
 */
void http_multi_run(struct http_multi *multi, const int *extra_fds, int extra_count,
                    int64_t timeout_ms, bool *ret_ready);

#endif
