/*
 * http_multi - hundreds of exchanges at once over one curl multi handle and one poll.
 *
 * Owns: the multi handle, a pool of easy handles, the loop's only wait. Does not own: retries,
 * meaning of answers, the other fds it waits for. Threads: all calls from one thread.
 * Failure: each request ends in exactly one on_done (unless http_multi_free abandons it), and never
 * inside http_multi_send.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/provider/http_internal.h"

enum { IDLE_HANDLES_MAX = 256, EXTRA_FDS_MAX = 16 };

struct transfer {
    struct http_exchange exchange;
    void (*on_done)(void *arg, const struct http_response *response);
    void *arg;
    struct transfer *prev, *next; /* links of the in-flight, idle or unsendable list */
};

struct http_multi {
    CURLM *multi;
    struct transfer *in_flight; /* given to curl */
    struct transfer
        *unsendable; /* refused before sending; the next http_multi_run() reports them */
    struct transfer *idle;
    int in_flight_count; /* length of both lists */
    int idle_count;
};

struct http_multi *http_multi_new(int max_connections)
{
    struct http_multi *m = xcalloc(1, sizeof(*m));
    m->multi = curl_multi_init();
    if (!m->multi) {
        abort(); /* fails only without memory */
    }
    curl_multi_setopt(m->multi, CURLMOPT_MAXCONNECTS, (long)max_connections);
    curl_multi_setopt(m->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    return m;
}

static void free_list(struct transfer *t)
{
    while (t) {
        struct transfer *next = t->next;
        http_exchange_done(&t->exchange);
        free(t);
        t = next;
    }
}

void http_multi_free(struct http_multi *m)
{
    if (!m) {
        return;
    }
    for (struct transfer *t = m->in_flight; t; t = t->next) {
        curl_multi_remove_handle(m->multi, t->exchange.easy);
    }
    free_list(m->in_flight);
    free_list(m->unsendable);
    free_list(m->idle);
    curl_multi_cleanup(m->multi);
    free(m);
}

static void push(struct transfer **head, struct transfer *t)
{
    t->prev = NULL;
    t->next = *head;
    if (*head) {
        (*head)->prev = t;
    }
    *head = t;
}

static void unlink_transfer(struct transfer **head, struct transfer *t)
{
    if (t->prev) {
        t->prev->next = t->next;
    } else {
        *head = t->next;
    }
    if (t->next) {
        t->next->prev = t->prev;
    }
    t->prev = t->next = NULL;
}

void http_multi_send(struct http_multi *m, const struct http_request *request,
                     void (*on_done)(void *arg, const struct http_response *response), void *arg)
{
    struct transfer *t = m->idle;
    if (t) {
        unlink_transfer(&m->idle, t);
        m->idle_count--;
    } else {
        t = xcalloc(1, sizeof(*t));
        http_exchange_init(&t->exchange);
    }
    t->on_done = on_done;
    t->arg = arg;
    m->in_flight_count++;
    if (http_exchange_prepare(&t->exchange, request, NULL) != 0) {
        push(&m->unsendable, t);
        return;
    }
    curl_easy_setopt(t->exchange.easy, CURLOPT_PRIVATE, t);
    CURLMcode code = curl_multi_add_handle(m->multi, t->exchange.easy);
    if (code != CURLM_OK) {
        t->exchange.response.transport = HTTP_NOT_SENT;
        str_copy(t->exchange.response.error, sizeof(t->exchange.response.error),
                 curl_multi_strerror(code));
        push(&m->unsendable, t);
        return;
    }
    push(&m->in_flight, t);
}

int http_multi_in_flight(const struct http_multi *m)
{
    return m->in_flight_count;
}

/* Detaches the transfer before on_done, so that on_done may send again. */
static void report(struct http_multi *m, struct transfer *t)
{
    m->in_flight_count--;
    t->on_done(t->arg, &t->exchange.response);
    if (m->idle_count < IDLE_HANDLES_MAX) {
        strbuf_done(&t->exchange.body);
        strbuf_init(&t->exchange.body, 1);
        push(&m->idle, t);
        m->idle_count++;
    } else {
        http_exchange_done(&t->exchange);
        free(t);
    }
}

/* Returns how many completions it reported. */
static int run_completions(struct http_multi *m)
{
    int reported = 0;
    int running = 0;
    int left = 0;
    CURLMsg *message;
    while (m->unsendable) {
        struct transfer *t = m->unsendable;
        unlink_transfer(&m->unsendable, t);
        report(m, t);
        reported++;
    }
    curl_multi_perform(m->multi, &running);
    while ((message = curl_multi_info_read(m->multi, &left)) != NULL) {
        if (message->msg != CURLMSG_DONE) {
            continue;
        }
        struct transfer *t = NULL;
        CURLcode code = message->data.result; /* curl_multi_remove_handle() frees the message */
        CURL *easy = message->easy_handle;
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, &t);
        http_exchange_complete(&t->exchange, code);
        curl_multi_remove_handle(m->multi, easy);
        unlink_transfer(&m->in_flight, t);
        report(m, t);
        reported++;
    }
    return reported;
}

void http_multi_run(struct http_multi *m, const int *extra_fds, int extra_count, int64_t timeout_ms,
                    bool *ret_ready)
{
    struct curl_waitfd fds[EXTRA_FDS_MAX];
    if (extra_count > EXTRA_FDS_MAX) {
        abort(); /* a programming error, not an input */
    }
    for (int i = 0; i < extra_count; i++) {
        fds[i] = (struct curl_waitfd){.fd = extra_fds[i], .events = CURL_WAIT_POLLIN};
        if (ret_ready) {
            ret_ready[i] = false;
        }
    }
    /* requests sent by on_done of the previous round must start before the wait */
    if (run_completions(m) > 0 || m->unsendable || timeout_ms < 0) {
        timeout_ms = 0;
    }
    if (timeout_ms > 60 * 1000) {
        timeout_ms = 60 * 1000;
    }
    int ready = 0;
    CURLMcode code = curl_multi_poll(m->multi, fds, (unsigned)extra_count, (int)timeout_ms, &ready);
    if (code != CURLM_OK && timeout_ms > 0) {
        clock_sleep_ms(1); /* poll failed: do not spin */
    }
    for (int i = 0; i < extra_count && ret_ready && code == CURLM_OK; i++) {
        ret_ready[i] = fds[i].revents != 0;
    }
    run_completions(m);
}
