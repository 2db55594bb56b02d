/*
 * http - configures curl's handles; the blocking client.
 *
 * Owns: options of an easy handle, capture and bounds of the answer, the map from CURLcode to enum
 * http_transport, driving a step machine to its end. Does not own: what an answer means, the
 * worker's loop (http_multi.c). Threads: a client belongs to one thread at a time. Failure: always
 * in the response (enum http_transport), never an error.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/provider/http_internal.h"

enum {
    CONNECT_TIMEOUT_MS = 3000,
    URL_MAX_BYTES = 8192,
    HEADERS_MAX_BYTES = 32 * 1024,
    DEFAULT_RESPONSE_BYTES = 1024 * 1024,
    RETRY_AFTER_MAX_MS = 3600 * 1000,
    DRIVE_MAX_STEPS = 1000,
    TICK_MS = 900, /* curl calls the progress function once a second when nothing moves */
};
#define BODY_MAX_BYTES ((size_t)16 * 1024 * 1024) /* E2B's own bound on a request body */

void http_request_init(struct http_request *request)
{
    memset(request, 0, sizeof(*request));
    strbuf_init(&request->url, URL_MAX_BYTES);
    strbuf_init(&request->headers, HEADERS_MAX_BYTES);
    strbuf_init(&request->body, BODY_MAX_BYTES);
}

void http_request_done(struct http_request *request)
{
    strbuf_done(&request->url);
    strbuf_done(&request->headers);
    strbuf_done(&request->body);
}

int http_global_init(struct error *err)
{
    CURLcode code = curl_global_init(CURL_GLOBAL_DEFAULT);
    if (code != CURLE_OK) {
        return error_set(err, ERR_INTERNAL, "libcurl: %s", curl_easy_strerror(code));
    }
    return 0;
}

/* ---- one exchange ---------------------------------------------------------------------------- */

static bool is_success(long status)
{
    return status >= 200 && status < 300;
}

static int64_t bound_retry_ms(int64_t ms)
{
    if (ms < 1) { /* a Retry-After of 0 was still sent, so return at least 1 */
        return 1;
    }
    return ms > RETRY_AFTER_MAX_MS ? RETRY_AFTER_MAX_MS : ms;
}

/* Parses a wait in ms, or a date into *ret_at_ms. */
static int64_t parse_retry_after(const char *value, int64_t *ret_at_ms)
{
    char *end = NULL;
    long long seconds = strtoll(value, &end, 10);
    int64_t ms;
    if (end != value && *end == '\0') {
        if (seconds < 0) {
            return 0;
        }
        ms = seconds > RETRY_AFTER_MAX_MS / 1000 ? RETRY_AFTER_MAX_MS : (int64_t)seconds * 1000;
    } else {
        time_t when = curl_getdate(value, NULL);
        if (when == (time_t)-1) {
            return 0;
        }
        *ret_at_ms = (int64_t)when * 1000;
        return 0;
    }
    return bound_retry_ms(ms);
}

/* Retry-After, Retry-After-Ms, and one Retry-After-<throttler> per limit that was hit (Daytona). */
static void note_retry_after(struct http_exchange *x, const char *name, const char *value)
{
    struct http_response *response = &x->response;
    int64_t ms, at_ms = 0;
    if (strcasecmp(name, "Retry-After-Ms") == 0) {
        long long given = strtoll(value, NULL, 10);
        ms = given < 0 ? 0 : given > RETRY_AFTER_MAX_MS ? RETRY_AFTER_MAX_MS : given;
    } else {
        ms = parse_retry_after(value, &at_ms);
    }
    if (at_ms > x->retry_at_ms) {
        x->retry_at_ms = at_ms;
    }
    if (ms > response->retry_after_ms) {
        response->retry_after_ms = ms;
    }
}

/* Converts a Retry-After that is a date: it refers to the server's clock, known from its Date. */
static void apply_retry_date(struct http_exchange *x)
{
    struct http_response *response = &x->response;
    if (x->retry_at_ms > 0) {
        int64_t now_ms = clock_wall_ms();
        int64_t ahead_ms = http_clock_ahead_ms(response, now_ms);
        int64_t ms = bound_retry_ms(x->retry_at_ms - ahead_ms - now_ms);
        response->retry_after_ms = ms > response->retry_after_ms ? ms : response->retry_after_ms;
    }
    x->retry_at_ms = 0;
}

static size_t on_header(char *data, size_t size, size_t count, void *arg)
{
    struct http_exchange *x = arg;
    size_t bytes = size * count;
    char line[1536];
    if (bytes >= 5 &&
        memcmp(data, "HTTP/", 5) == 0) { /* a new head, for example after 100 Continue */
        x->response.retry_after_ms = x->response.date_ms = x->retry_at_ms = 0;
        x->response.next_token[0] = '\0';
        x->response.content_type[0] = '\0';
        x->response.content_length = -1;
        return bytes;
    }
    if (bytes >= sizeof(line)) { /* no header that we use is that long, so ignore a cut one */
        return bytes;
    }
    memcpy(line, data, bytes);
    line[bytes] = '\0';
    char *colon = strchr(line, ':');
    if (!colon) {
        return bytes;
    }
    *colon = '\0';
    char *value = colon + 1;
    value += strspn(value, " \t");
    size_t length = strlen(value);
    while (length > 0 && strchr(" \t\r\n", value[length - 1])) {
        value[--length] = '\0';
    }
    if (strncasecmp(line, "Retry-After", 11) == 0 && (line[11] == '\0' || line[11] == '-')) {
        note_retry_after(x, line, value);
    } else if (strcasecmp(line, "X-Next-Token") == 0 && length < sizeof(x->response.next_token)) {
        str_copy(x->response.next_token, sizeof(x->response.next_token), value);
    } else if (strcasecmp(line, "Date") == 0) {
        time_t when = curl_getdate(value, NULL);
        x->response.date_ms = when > 0 ? (int64_t)when * 1000 : 0;
    } else if (strcasecmp(line, "Content-Length") == 0 && length > 0 && length < 19 &&
               strspn(value, "0123456789") == length) {
        x->response.content_length = strtoll(value, NULL, 10);
    } else if (strcasecmp(line, "Content-Type") == 0) {
        str_copy(x->response.content_type, sizeof(x->response.content_type), value);
    }
    return bytes;
}

/* Reports the head to the stream. -1: the caller stops. */
static int tell_head(struct http_exchange *x, long status)
{
    if (x->head_told || !x->stream->on_head) {
        return 0;
    }
    x->head_told = true;
    x->response.status = (int)status;
    if (x->stream->on_head(x->stream->arg, &x->response) != 0) {
        x->stopped = true;
        return -1;
    }
    return 0;
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
    struct http_exchange *x = arg;
    size_t bytes = size * count;
    if (bytes == 0) {
        return 0;
    }
    if (x->stream) {
        long status = 0;
        curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &status);
        if (is_success(status)) {
            if (tell_head(x, status) != 0) {
                return 0;
            }
            if (x->stream->on_data && x->stream->on_data(x->stream->arg, data, bytes) != 0) {
                x->stopped = true;
                return 0;
            }
            return bytes;
        }
        /* an error text may be cut */
        size_t space = x->max_response_bytes - x->body.length;
        strbuf_append(&x->body, data, bytes < space ? bytes : space);
        return bytes;
    }
    if (bytes > x->max_response_bytes - x->body.length) {
        x->too_large = true;
        return 0;
    }
    strbuf_append(&x->body, data, bytes);
    return bytes;
}

static size_t on_read(char *buf, size_t size, size_t count, void *arg)
{
    struct http_exchange *x = arg;
    size_t space = size * count;
    int64_t total = x->stream->body_bytes;
    if (total >= 0 && (int64_t)space > total - x->sent) {
        space = (size_t)(total - x->sent);
    }
    if (space == 0) {
        return 0;
    }
    long got = x->stream->read_body(x->stream->arg, buf, space);
    if (got < 0 || (size_t)got > space || (got == 0 && total >= 0)) {
        x->stopped = true; /* the source failed, or ended before its announced length */
        return CURL_READFUNC_ABORT;
    }
    x->sent += got;
    return (size_t)got;
}

static bool ask_whether_over(struct http_exchange *x)
{
    if (x->is_over != NULL && x->is_over(x->is_over_arg)) {
        x->is_over = NULL;
        x->over = true;
        return true;
    }
    return false;
}

static int on_progress(void *arg, curl_off_t dl_total, curl_off_t dl_now, curl_off_t ul_total,
                       curl_off_t ul_now)
{
    struct http_exchange *x = arg;
    (void)dl_total;
    (void)ul_total;
    int64_t now_ms = clock_mono_ms();
    if (ask_whether_over(x)) {
        x->stopped = true;
        return 1;
    }
    if (x->stream->on_tick && now_ms - x->tick_ms >= TICK_MS) {
        x->tick_ms = now_ms;
        if (x->stream->on_tick(x->stream->arg) != 0) {
            x->stopped = true;
            return 1;
        }
    }
    if (dl_now + ul_now != x->moved) {
        x->moved = dl_now + ul_now;
        x->moved_ms = now_ms;
    } else if (x->stream->idle_ms > 0 && now_ms - x->moved_ms >= x->stream->idle_ms) {
        x->stalled = true;
        return 1;
    }
    return 0;
}

void http_exchange_init(struct http_exchange *x)
{
    memset(x, 0, sizeof(*x));
    x->easy = curl_easy_init();
    if (!x->easy) {
        abort(); /* fails only without memory */
    }
    strbuf_init(&x->body, DEFAULT_RESPONSE_BYTES);
}

void http_exchange_done(struct http_exchange *x)
{
    if (x->easy) {
        curl_easy_cleanup(x->easy);
    }
    x->easy = NULL;
    curl_slist_free_all(x->headers);
    x->headers = NULL;
    strbuf_done(&x->body);
}

static void add_header(struct http_exchange *x, const char *line)
{
    struct curl_slist *list = curl_slist_append(x->headers, line);
    if (!list) {
        abort(); /* fails only without memory */
    }
    x->headers = list;
}

/* "Name: value\n" lines into curl's list. -1 for a line that could smuggle another one. */
static int add_headers(struct http_exchange *x, const struct http_request *request)
{
    const char *at = request->headers.data;
    while (*at) {
        const char *end = strchr(at, '\n');
        if (!end) {
            end = at + strlen(at);
        }
        for (const char *c = at; c < end; c++) {
            if ((unsigned char)*c < 0x20 || *c == 0x7f) {
                return -1;
            }
        }
        char *line = xstrndup(at, (size_t)(end - at));
        char *colon = strchr(line, ':');
        if (!colon || colon == line) {
            free(line);
            return -1;
        }
        add_header(x, line);
        free(line);
        at = *end ? end + 1 : end;
    }
    if (strlen(request->headers.data) != request->headers.length) {
        return -1; /* an embedded NUL */
    }
    add_header(x, "Expect:");
    return 0;
}

/* A proxy from the environment must not swallow calls to this machine. */
static bool is_loopback_url(const char *url)
{
    const char *host = strstr(url, "://");
    if (!host) {
        return false;
    }
    host += 3;
    size_t length = strcspn(host, "/?#");
    const char *colon = memchr(host, ':', length);
    if (colon) {
        length = (size_t)(colon - host);
    }
    return (length > 4 && strncmp(host, "127.", 4) == 0) || strncmp(host, "[::1]", 5) == 0 ||
           (length >= 9 && strncasecmp(host + length - 9, "localhost", 9) == 0);
}

static void set_body(struct http_exchange *x, const struct http_request *request)
{
    CURL *easy = x->easy;
    if (x->stream && x->stream->read_body) {
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
        curl_easy_setopt(easy, CURLOPT_READDATA, x);
        if (x->stream->body_bytes >= 0) {
            curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)x->stream->body_bytes);
        } else {
            add_header(x, "Transfer-Encoding: chunked");
        }
        if (strcmp(request->method, "POST") != 0) {
            curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
        }
    } else if (strcmp(request->method, "GET") == 0) {
        curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
    } else if (request->has_body || strcmp(request->method, "POST") == 0) {
        /* the size first: COPYPOSTFIELDS copies that many bytes */
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                         (curl_off_t)(request->has_body ? request->body.length : 0));
        curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, request->has_body ? request->body.data : "");
        if (!request->has_body) {
            add_header(x, "Content-Type:"); /* not curl's form type on an empty body */
        }
        if (strcmp(request->method, "POST") != 0) {
            curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
        }
    } else {
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
    }
}

/* curl asks for a socket to one address of the host; it goes on with the next one if refused. */
static curl_socket_t open_guarded(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct http_exchange *x = arg;
    if (purpose != CURLSOCKTYPE_IPCXN || !egress_guard_allows(x->guard, &address->addr)) {
        x->refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

void http_connection_options(CURL *easy, const char *url)
{
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
}

int http_exchange_prepare(struct http_exchange *x, const struct http_request *request,
                          const struct http_stream *stream)
{
    CURL *easy = x->easy;
    curl_easy_reset(easy);
    curl_slist_free_all(x->headers);
    x->headers = NULL;
    memset(&x->response, 0, sizeof(x->response));
    x->curl_error[0] = '\0';
    x->response.content_length = -1;
    x->too_large = x->stopped = x->stalled = x->head_told = x->refused = false;
    x->guard = request->guard;
    x->stream = stream;
    x->sent = 0;
    x->moved = 0;
    x->started_ms = x->moved_ms = x->tick_ms = clock_mono_ms();
    x->is_https = strncasecmp(request->url.data, "https:", 6) == 0;
    x->max_response_bytes =
        request->max_response_bytes > 0 ? request->max_response_bytes : DEFAULT_RESPONSE_BYTES;
    /* a fresh buffer, so that a pooled handle does not keep the memory of one large answer */
    strbuf_done(&x->body);
    strbuf_init(&x->body, x->max_response_bytes);

    if (request->url.overflow || request->headers.overflow || request->body.overflow ||
        request->url.length == 0 || request->method[0] == '\0' || add_headers(x, request) != 0) {
        x->response.transport = HTTP_NOT_SENT;
        str_copy(x->response.error, sizeof(x->response.error),
                 "the request is too large or malformed");
        return -1;
    }
    http_connection_options(easy, request->url.data);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "sandbox-server");
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, x->curl_error);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, x);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, x);
    if (is_loopback_url(request->url.data)) {
        curl_easy_setopt(easy, CURLOPT_PROXY, "");
    }

    int64_t timeout = request->timeout_ms;
    long limit_ms = timeout <= 0 ? 0 : timeout > LONG_MAX ? LONG_MAX : (long)timeout;
    long connect_ms = limit_ms > 0 && limit_ms < CONNECT_TIMEOUT_MS ? limit_ms : CONNECT_TIMEOUT_MS;
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, limit_ms);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, connect_ms);
    if (stream && (stream->idle_ms > 0 || stream->on_tick || x->is_over != NULL)) {
        curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(easy, CURLOPT_XFERINFODATA, x);
    } else if (!stream && limit_ms == 0) {
        /* a request without a timeout must not hang on a dead peer either */
        curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, 60L);
    }
    if (request->once) {
        /* libcurl re-sends a POST by itself when a reused connection turns out dead, even if the
         * server had executed it */
        curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
        curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
    }
    if (request->guard != NULL) {
        /* a connection kept open for somebody else's request was not checked */
        curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
        curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
        curl_easy_setopt(easy, CURLOPT_PROXY, "");
        curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_guarded);
        curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, x);
    }
    set_body(x, request);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, x->headers);
    return 0;
}

/* True only when no byte of the request can have reached the server. */
static bool certainly_not_sent(struct http_exchange *x, CURLcode code)
{
    long request_bytes = 0;
    long connects = 0;
    curl_off_t ready_us = 0;
    if (curl_easy_getinfo(x->easy, CURLINFO_REQUEST_SIZE, &request_bytes) != CURLE_OK ||
        request_bytes > 0) {
        return false;
    }
    switch ((int)code) {
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_PROXY:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ENGINE_NOTFOUND:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
        return true;
    default:
        break;
    }
    /* the timeout or reset happened while connecting */
    if (curl_easy_getinfo(x->easy, CURLINFO_NUM_CONNECTS, &connects) != CURLE_OK) {
        return false;
    }
    curl_easy_getinfo(x->easy, x->is_https ? CURLINFO_APPCONNECT_TIME_T : CURLINFO_CONNECT_TIME_T,
                      &ready_us);
    bool timed_out = code == CURLE_OPERATION_TIMEDOUT;
    return ready_us == 0 && (timed_out || connects > 0);
}

void http_exchange_complete(struct http_exchange *x, CURLcode code)
{
    struct http_response *response = &x->response;
    long status = 0;
    curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &status);
    response->status = (int)status;
    response->body = x->body.data;
    response->body_bytes = x->body.length;
    apply_retry_date(x);
    if (code == CURLE_OK && x->stream && is_success(status) && tell_head(x, status) != 0) {
        code = CURLE_ABORTED_BY_CALLBACK; /* of an empty body */
    }
    if (code == CURLE_OK && status > 0) {
        response->transport = HTTP_ANSWERED;
        return;
    }
    response->transport = certainly_not_sent(x, code) ? HTTP_NOT_SENT : HTTP_AMBIGUOUS;
    response->too_large = x->too_large;
    response->stopped = x->stopped;
    const char *text = x->curl_error[0] ? x->curl_error : curl_easy_strerror(code);
    if (x->too_large) {
        text = "the answer is larger than allowed";
    } else if (x->refused && response->transport == HTTP_NOT_SENT) {
        text = "the address is not one that may be reached";
    } else if (x->stalled) {
        text = "no byte moved for too long";
    } else if (x->stopped) {
        text = "stopped on request";
    }
    str_copy(response->error, sizeof(response->error), text);
}

/* ---- blocking client --------------------------------------------------------------------------
 */

struct http_client {
    struct http_exchange exchange;
};

struct http_client *http_client_new(void)
{
    struct http_client *client = xcalloc(1, sizeof(*client));
    http_exchange_init(&client->exchange);
    return client;
}

void http_client_free(struct http_client *client)
{
    if (!client) {
        return;
    }
    http_exchange_done(&client->exchange);
    free(client);
}

void http_client_watch(struct http_client *client, bool (*is_over)(void *arg), void *arg)
{
    client->exchange.is_over = is_over;
    client->exchange.is_over_arg = arg;
    client->exchange.over = false;
}

bool http_client_over(struct http_client *client)
{
    return client->exchange.over || ask_whether_over(&client->exchange);
}

void http_client_stream(struct http_client *client, const struct http_request *request,
                        const struct http_stream *stream, struct http_response *ret)
{
    struct http_exchange *x = &client->exchange;
    if (http_exchange_prepare(x, request, stream) == 0) {
        http_exchange_complete(x, curl_easy_perform(x->easy));
    }
    x->stream = NULL;
    *ret = x->response;
}

void http_client_perform(struct http_client *client, const struct http_request *request,
                         struct http_response *ret)
{
    http_client_stream(client, request, NULL, ret);
}

void http_client_drive(struct http_client *client, struct provider *provider,
                       struct provider_call *call, struct provider_step *ret)
{
    struct http_request request;
    struct http_response response;
    const struct http_response *last = NULL;
    for (int steps = 0; steps < DRIVE_MAX_STEPS; steps++) {
        http_request_init(&request);
        memset(ret, 0, sizeof(*ret));
        provider_call_tick(call, clock_wall_ms(), last);
        provider->ops->step(provider, call, last, &request, ret);
        if (ret->verdict == PROVIDER_WAIT) {
            http_request_done(&request);
            clock_sleep_ms(ret->retry_after_ms);
            last = NULL;
            continue;
        }
        if (ret->verdict != PROVIDER_SEND) {
            http_request_done(&request);
            return;
        }
        http_client_perform(client, &request, &response);
        http_request_done(&request);
        last = &response;
    }
    ret->verdict = PROVIDER_FAILED;
    ret->outcome = OUTCOME_TRANSIENT;
    str_copy(ret->error, sizeof(ret->error), "the provider's answers lead nowhere");
}
