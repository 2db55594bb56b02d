/*
 * The HTTP drivers against a scripted server: what counts as not sent, as ambiguous, as answered;
 * bounds, deadlines, connection reuse, and that a `once` POST is never sent twice.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/provider/http.h"
#include "tests/integration/mini_server.h"

static struct mini_server server;
static struct http_client *client;
static struct http_request request;
static struct http_response response;
static atomic_int effects; /* POSTs the server has executed */

/* What to do is in the path. */
static enum mini_after handle(struct mini_server *s, struct mini_request *r)
{
    char path[128];
    (void)s;
    if (sscanf(r->head, "%*s %127s", path) != 1)
        abort();
    if (strcmp(path, "/echo") == 0) {
        mini_answer(r->fd, 200, "Content-Type: text/plain\r\n", r->body, r->body_bytes);
    } else if (strcmp(path, "/head") == 0) {
        mini_answer(r->fd, 200, "", r->head, strlen(r->head));
    } else if (strcmp(path, "/reset") == 0) {
        return MINI_RESET;
    } else if (strcmp(path, "/close") == 0) {
        return MINI_CLOSE;
    } else if (strcmp(path, "/half") == 0) {
        mini_puts(r->fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        return MINI_CLOSE;
    } else if (strcmp(path, "/half-reset") == 0) {
        mini_puts(r->fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        usleep(50 * 1000);
        return MINI_RESET;
    } else if (strcmp(path, "/hang") == 0) {
        char c;
        while (recv(r->fd, &c, 1, 0) > 0) {}
        return MINI_CLOSE;
    } else if (strcmp(path, "/slow") == 0) {
        usleep(200 * 1000);
        mini_answer(r->fd, 200, "", "slow", 4);
    } else if (strcmp(path, "/drip") == 0) {
        mini_puts(r->fd, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
        for (int i = 0; i < 1000; i++) {
            usleep(100 * 1000);
            if (send(r->fd, "x", 1, MSG_NOSIGNAL) != 1)
                return MINI_CLOSE;
        }
    } else if (strcmp(path, "/silent") == 0) {
        mini_puts(r->fd, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nxx");
        char c;
        while (recv(r->fd, &c, 1, 0) > 0) {}
        return MINI_CLOSE;
    } else if (strcmp(path, "/huge") == 0) {
        static char block[65536];
        mini_puts(r->fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for (int i = 0; i < 10000; i++) {
            if (send(r->fd, "10000\r\n", 7, MSG_NOSIGNAL) != 7)
                return MINI_CLOSE;
            mini_write(r->fd, block, sizeof(block));
            mini_puts(r->fd, "\r\n");
        }
        mini_puts(r->fd, "0\r\n\r\n");
    } else if (strcmp(path, "/garbage") == 0) {
        mini_puts(r->fd, "\x01\x02 this is not HTTP\r\n\r\n");
        return MINI_CLOSE;
    } else if (strcmp(path, "/204") == 0) {
        mini_puts(r->fd, "HTTP/1.1 204 No Content\r\n\r\n");
    } else if (strcmp(path, "/302") == 0) {
        mini_answer(r->fd, 302, "Location: /echo\r\n", "", 0);
    } else if (strcmp(path, "/429") == 0) {
        mini_answer(r->fd, 429, "rEtRy-AfTeR: 7\r\nx-next-token:  abc== \r\n", "{}", 2);
    } else if (strcmp(path, "/429-date") == 0) {
        char header[128];
        time_t when = time(NULL) + 100;
        struct tm tm;
        gmtime_r(&when, &tm);
        strftime(header, sizeof(header), "Retry-After: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
        mini_answer(r->fd, 429, header, "", 0);
    } else if (strcmp(path, "/429-date-of-its-own") == 0) {
        mini_answer(r->fd, 429,
                    "Retry-After: Fri, 01 Jan 2100 00:00:30 GMT\r\n"
                    "Date: Fri, 01 Jan 2100 00:00:00 GMT\r\n",
                    "", 0);
    } else if (strcmp(path, "/429-many") == 0) {
        mini_answer(r->fd, 429,
                    "Retry-After-Anonymous: 2\r\nretry-after-sandbox-create: 9\r\n"
                    "Retry-After: 3\r\nRetry-Afternoon: 60\r\nX-RateLimit-Reset-x: 70\r\n",
                    "", 0);
    } else if (strcmp(path, "/429-ms") == 0) {
        mini_answer(r->fd, 429, "Retry-After-Ms: 1500\r\n", "", 0);
    } else if (strcmp(path, "/429-bad") == 0) {
        mini_answer(r->fd, 429, "Retry-After: soon\r\n", "", 0);
    } else if (strcmp(path, "/effect-then-die") == 0) {
        /* executed; then the connection breaks before the answer, as when a reused one is stale */
        atomic_fetch_add(&effects, 1);
        return r->nth > 1 ? MINI_RESET : MINI_CLOSE;
    } else {
        mini_answer(r->fd, 404, "", "none", 4);
    }
    return MINI_KEEP;
}

static void set_request(const char *method, const char *path)
{
    http_request_done(&request);
    http_request_init(&request);
    strncpy(request.method, method, sizeof(request.method) - 1);
    strbuf_printf(&request.url, "http://127.0.0.1:%d%s", server.port, path);
    request.timeout_ms = 5000;
}

static void perform(const char *method, const char *path, const char *body)
{
    set_request(method, path);
    if (body) {
        request.has_body = true;
        strbuf_puts(&request.body, body);
    }
    http_client_perform(client, &request, &response);
}

static int setup(void **state)
{
    (void)state;
    mini_start(&server, handle, NULL);
    client = http_client_new();
    http_request_init(&request);
    atomic_store(&effects, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    http_request_done(&request);
    http_client_free(client);
    mini_stop(&server);
    return 0;
}

static void expect_answer(int status, const char *body)
{
    assert_string_equal(response.error, "");
    assert_int_equal(response.transport, HTTP_ANSWERED);
    assert_int_equal(response.status, status);
    assert_int_equal(response.body_bytes, strlen(body));
    assert_memory_equal(response.body, body, strlen(body));
}

static void test_answers(void **state)
{
    (void)state;
    perform("POST", "/echo", "hello");
    expect_answer(200, "hello");
    assert_string_equal(response.content_type, "text/plain");
    perform("GET", "/nothing", NULL);
    expect_answer(404, "none");
    perform("DELETE", "/204", NULL);
    expect_answer(204, "");
    perform("POST", "/302", "x"); /* not followed */
    expect_answer(302, "");
    assert_int_equal(atomic_load(&server.connections), 1); /* kept alive over all of these */
    assert_int_equal(atomic_load(&server.requests), 4);
}

static void test_headers_sent(void **state)
{
    (void)state;
    set_request("POST", "/head");
    strbuf_puts(&request.headers, "X-One: 1\nX-Two: zwei\n");
    http_client_perform(client, &request, &response);
    char *head = strndup(response.body, response.body_bytes);
    assert_non_null(strstr(head, "POST /head HTTP/1.1\r\n"));
    assert_non_null(strstr(head, "X-One: 1\r\nX-Two: zwei\r\n"));
    assert_non_null(strstr(head, "Content-Length: 0\r\n"));
    assert_null(strcasestr(head, "Expect:"));
    assert_null(strcasestr(head, "Accept-Encoding:"));
    assert_null(strcasestr(head, "Content-Type:"));
    free(head);
    static const char *const bad[] = {"X: a\rb\n", "no colon\n", ": x\n", "X: \x01\n"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        set_request("GET", "/head");
        strbuf_puts(&request.headers, bad[i]);
        http_client_perform(client, &request, &response);
        assert_int_equal(response.transport, HTTP_NOT_SENT);
    }
    set_request("GET", "/head");
    strbuf_append(&request.headers, "X: a\0b\n", 7);
    http_client_perform(client, &request, &response);
    assert_int_equal(response.transport, HTTP_NOT_SENT);
    assert_int_equal(atomic_load(&server.requests), 1);
}

static void test_response_headers(void **state)
{
    (void)state;
    perform("GET", "/429", NULL);
    expect_answer(429, "{}");
    assert_true(response.retry_after_ms == 7000);
    assert_string_equal(response.next_token, "abc==");
    perform("GET", "/429-date", NULL);
    assert_in_range(response.retry_after_ms, 95000, 101000);
    assert_string_equal(response.next_token, "");
    assert_true(response.date_ms == 0);
    perform("GET", "/429-date-of-its-own", NULL); /* its clock is decades ahead of ours */
    assert_in_range(response.retry_after_ms, 29000, 30500);
    assert_true(response.date_ms == 4102444800000LL);
    perform("GET", "/429-many", NULL);
    assert_int_equal(response.retry_after_ms, 9000);
    perform("GET", "/429-ms", NULL);
    assert_int_equal(response.retry_after_ms, 1500);
    perform("GET", "/429-bad", NULL);
    assert_true(response.retry_after_ms == 0);
}

static void test_not_sent(void **state)
{
    (void)state;
    struct mini_server gone;
    mini_start(&gone, handle, NULL);
    int port = gone.port;
    mini_stop(&gone);
    static const char *const urls[] = {"http://no-such-host.invalid/", "ftp://127.0.0.1/",
                                       "file:///etc/passwd", "http://", ""};
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        set_request("POST", "/");
        strbuf_reset(&request.url);
        strbuf_puts(&request.url, urls[i]);
        http_client_perform(client, &request, &response);
        assert_int_equal(response.transport, HTTP_NOT_SENT);
        assert_string_not_equal(response.error, "");
    }
    set_request("POST", "/");
    strbuf_reset(&request.url);
    strbuf_printf(&request.url, "http://127.0.0.1:%d/", port);
    http_client_perform(client, &request, &response);
    assert_int_equal(response.transport, HTTP_NOT_SENT);
    /* a server that does not speak TLS: the handshake fails before any request byte */
    set_request("POST", "/echo");
    strbuf_reset(&request.url);
    strbuf_printf(&request.url, "https://127.0.0.1:%d/garbage", server.port);
    request.timeout_ms = 1000;
    http_client_perform(client, &request, &response);
    assert_int_equal(response.transport, HTTP_NOT_SENT);
    assert_int_equal(atomic_load(&server.requests), 0);
}

/* A port that accepts nobody: the connect times out, which is certainly before anything was sent.
 */
static void test_connect_timeout(void **state)
{
    (void)state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int full = socket(AF_INET, SOCK_STREAM, 0);
    int fillers[4];
    assert_int_equal(bind(full, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(full, 0), 0);
    assert_int_equal(getsockname(full, (struct sockaddr *)&address, &length), 0);
    for (int i = 0; i < 4; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        assert_int_not_equal(connect(fillers[i], (struct sockaddr *)&address, sizeof(address)), 1);
    }
    usleep(50 * 1000);
    set_request("POST", "/");
    strbuf_reset(&request.url);
    strbuf_printf(&request.url, "http://127.0.0.1:%d/", ntohs(address.sin_port));
    request.timeout_ms = 300;
    http_client_perform(client, &request, &response);
    assert_int_equal(response.transport, HTTP_NOT_SENT);
    for (int i = 0; i < 4; i++)
        close(fillers[i]);
    close(full);
}

static void test_ambiguous(void **state)
{
    (void)state;
    static const char *const paths[] = {"/reset", "/close", "/half", "/half-reset", "/garbage"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        set_request("POST", paths[i]);
        request.once = true;
        http_client_perform(client, &request, &response);
        assert_int_equal(response.transport, HTTP_AMBIGUOUS);
        assert_string_not_equal(response.error, "");
    }
    assert_int_equal(atomic_load(&server.requests), 5);
}

static void test_deadlines(void **state)
{
    (void)state;
    static const char *const paths[] = {"/hang", "/drip", "/silent"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        set_request("POST", paths[i]);
        request.timeout_ms = 300;
        int64_t before = clock_mono_ms();
        http_client_perform(client, &request, &response);
        int64_t took = clock_mono_ms() - before;
        assert_int_equal(response.transport, HTTP_AMBIGUOUS);
        assert_in_range(took, 295, 2500);
    }
}

static void test_bounded_body(void **state)
{
    (void)state;
    set_request("GET", "/huge");
    request.max_response_bytes = 100000;
    http_client_perform(client, &request, &response);
    assert_int_equal(response.transport, HTTP_AMBIGUOUS);
    assert_string_equal(response.error, "the answer is larger than allowed");
    set_request("POST", "/echo");
    request.has_body = true;
    strbuf_puts(&request.body, "12345678");
    request.max_response_bytes = 8;
    http_client_perform(client, &request, &response);
    expect_answer(200, "12345678");
    request.max_response_bytes = 7;
    http_client_perform(client, &request, &response);
    assert_int_equal(response.transport, HTTP_AMBIGUOUS);
}

/* On a kept-alive connection that dies under the request libcurl would send a POST again. */
static void test_once_is_once(void **state)
{
    (void)state;
    perform("GET", "/echo", NULL);
    set_request("POST", "/effect-then-die");
    request.once = true;
    request.has_body = true;
    strbuf_puts(&request.body, "{\"create\":1}");
    http_client_perform(client, &request, &response);
    assert_int_equal(response.transport, HTTP_AMBIGUOUS);
    assert_int_equal(atomic_load(&effects), 1);
    assert_int_equal(atomic_load(&server.connections), 2); /* its own connection */
    perform("GET", "/echo", NULL);
    assert_int_equal(response.status, 200);
    assert_int_equal(atomic_load(&server.connections), 2); /* the first is still usable */
}

/* ---- streaming ------------------------------------------------------------------------------- */

struct sink {
    size_t bytes;
    size_t stop_at; /* 0 = never */
};

static int on_data(void *arg, const void *data, size_t bytes)
{
    struct sink *sink = arg;
    (void)data;
    sink->bytes += bytes;
    return sink->stop_at && sink->bytes >= sink->stop_at ? -1 : 0;
}

struct source {
    size_t left;
    bool fail_at_end;
};

static long read_body(void *arg, void *buf, size_t bytes)
{
    struct source *source = arg;
    size_t n = bytes < source->left ? bytes : source->left;
    if (n == 0 && source->fail_at_end)
        return -1;
    memset(buf, 'u', n);
    source->left -= n;
    return (long)n;
}

struct both {
    struct sink sink;
    struct source source;
};
static int both_on_data(void *arg, const void *data, size_t bytes)
{
    return on_data(&((struct both *)arg)->sink, data, bytes);
}
static long both_read(void *arg, void *buf, size_t bytes)
{
    return read_body(&((struct both *)arg)->source, buf, bytes);
}

static void test_stream_down(void **state)
{
    (void)state;
    struct sink sink = {.stop_at = 0};
    struct http_stream stream = {.on_data = on_data, .arg = &sink, .body_bytes = -1};
    set_request("GET", "/huge");
    request.timeout_ms = 0;
    http_client_stream(client, &request, &stream, &response);
    assert_int_equal(response.transport, HTTP_ANSWERED);
    assert_int_equal(sink.bytes, 655360000);
    assert_int_equal(response.body_bytes, 0);

    sink = (struct sink){.stop_at = 100000};
    http_client_stream(client, &request, &stream, &response);
    assert_int_equal(response.transport, HTTP_AMBIGUOUS);
    assert_true(sink.bytes < 300000);

    /* an error's body is not the file */
    sink = (struct sink){0};
    set_request("GET", "/missing");
    http_client_stream(client, &request, &stream, &response);
    expect_answer(404, "none");
    assert_int_equal(sink.bytes, 0);
}

static void test_stream_up(void **state)
{
    (void)state;
    static const int64_t lengths[] = {-1, 3000000, 0};
    for (size_t i = 0; i < 3; i++) {
        size_t total = lengths[i] == 0 ? 0 : 3000000;
        struct both both = {.source = {.left = total}};
        struct http_stream stream = {.on_data = both_on_data,
                                     .read_body = both_read,
                                     .arg = &both,
                                     .body_bytes = lengths[i]};
        set_request("POST", "/echo");
        http_client_stream(client, &request, &stream, &response);
        assert_string_equal(response.error, "");
        assert_int_equal(response.status, 200);
        assert_int_equal(both.sink.bytes, total);
    }
    /* a source that fails, and one that ends before the length it announced */
    for (int fails = 0; fails < 2; fails++) {
        struct both both = {.source = {.left = 1000, .fail_at_end = fails == 1}};
        struct http_stream stream = {
            .on_data = both_on_data, .read_body = both_read, .arg = &both, .body_bytes = 2000};
        set_request("POST", "/echo");
        http_client_stream(client, &request, &stream, &response);
        assert_int_equal(response.transport, HTTP_AMBIGUOUS);
    }
}

static void test_stream_idle(void **state)
{
    (void)state;
    struct sink sink = {0};
    struct http_stream stream = {
        .on_data = on_data, .arg = &sink, .body_bytes = -1, .idle_ms = 500};
    set_request("GET", "/silent");
    request.timeout_ms = 0;
    int64_t before = clock_mono_ms();
    http_client_stream(client, &request, &stream, &response);
    assert_int_equal(response.transport, HTTP_AMBIGUOUS);
    assert_string_equal(response.error, "no byte moved for too long");
    assert_in_range(clock_mono_ms() - before, 500, 4000);
    assert_int_equal(sink.bytes, 2);
    /* slow but alive is not idle; its own deadline still holds */
    sink = (struct sink){0};
    set_request("GET", "/drip");
    request.timeout_ms = 1200;
    before = clock_mono_ms();
    http_client_stream(client, &request, &stream, &response);
    assert_in_range(clock_mono_ms() - before, 1190, 4000);
    assert_true(sink.bytes >= 5);
}

/* ---- multi ------------------------------------------------------------------------------------
 */

struct tally {
    struct http_multi *multi;
    int done, answered, not_sent, ambiguous;
    int resend; /* send this many more from inside on_done */
};

static void on_done(void *arg, const struct http_response *r)
{
    struct tally *tally = arg;
    tally->done++;
    tally->answered += r->transport == HTTP_ANSWERED && r->status == 200;
    tally->not_sent += r->transport == HTTP_NOT_SENT;
    tally->ambiguous += r->transport == HTTP_AMBIGUOUS;
    if (tally->resend > 0) {
        tally->resend--;
        http_multi_send(tally->multi, &request, on_done, tally);
    }
}

static void run_until_idle(struct tally *tally)
{
    int64_t give_up = clock_mono_ms() + 20000;
    while (http_multi_in_flight(tally->multi) > 0) {
        http_multi_run(tally->multi, NULL, 0, 1000, NULL);
        assert_true(clock_mono_ms() < give_up);
    }
}

static void test_multi_many(void **state)
{
    (void)state;
    struct tally tally = {.multi = http_multi_new(400)};
    set_request("GET", "/slow");
    int64_t before = clock_mono_ms();
    for (int i = 0; i < 300; i++)
        http_multi_send(tally.multi, &request, on_done, &tally);
    assert_int_equal(http_multi_in_flight(tally.multi), 300);
    assert_int_equal(tally.done, 0);
    run_until_idle(&tally);
    assert_int_equal(tally.answered, 300);
    assert_true(clock_mono_ms() - before < 5000);
    int connections = atomic_load(&server.connections);
    for (int i = 0; i < 300; i++)
        http_multi_send(tally.multi, &request, on_done, &tally);
    run_until_idle(&tally);
    assert_int_equal(tally.answered, 600);
    assert_true(atomic_load(&server.connections) <= connections + 20); /* reused */
    http_multi_free(tally.multi);
}

static void test_multi_mixed(void **state)
{
    (void)state;
    struct tally tally = {.multi = http_multi_new(100)};
    static const char *const paths[] = {"/echo", "/reset", "/half", "/garbage", "/hang"};
    for (int i = 0; i < 50; i++) {
        set_request("POST", paths[i % 5]);
        request.timeout_ms = 300;
        request.once = true;
        http_multi_send(tally.multi, &request, on_done, &tally);
    }
    for (int i = 0; i < 5; i++) {
        set_request("POST", "");
        strbuf_reset(&request.url);
        strbuf_puts(&request.url, i == 0 ? "" : "http://no-such-host.invalid/");
        http_multi_send(tally.multi, &request, on_done, &tally);
    }
    assert_int_equal(tally.done, 0);
    run_until_idle(&tally);
    assert_int_equal(tally.answered, 10);
    assert_int_equal(tally.ambiguous, 40);
    assert_int_equal(tally.not_sent, 5);
    http_multi_free(tally.multi);
}

static void test_multi_chain_and_fds(void **state)
{
    (void)state;
    struct tally tally = {.multi = http_multi_new(10), .resend = 50};
    set_request("GET", "/echo");
    http_multi_send(tally.multi, &request, on_done, &tally);
    run_until_idle(&tally);
    assert_int_equal(tally.answered, 51);
    assert_int_equal(atomic_load(&server.connections), 1);

    int fds[2][2];
    bool ready[2];
    assert_int_equal(pipe(fds[0]), 0);
    assert_int_equal(pipe(fds[1]), 0);
    const int extra[2] = {fds[0][0], fds[1][0]};
    int64_t before = clock_mono_ms();
    http_multi_run(tally.multi, extra, 2, 200, ready);
    assert_in_range(clock_mono_ms() - before, 190, 3000);
    assert_false(ready[0] || ready[1]);
    assert_int_equal(write(fds[1][1], "x", 1), 1);
    before = clock_mono_ms();
    http_multi_run(tally.multi, extra, 2, 5000, ready);
    assert_in_range(clock_mono_ms() - before, 0, 3000);
    assert_false(ready[0]);
    assert_true(ready[1]);
    for (int i = 0; i < 4; i++)
        close(fds[i / 2][i % 2]);
    http_multi_free(tally.multi);
}

/* Nothing is connected to, neither by a new connection nor by one that is open already. */
static void test_a_guarded_request_reaches_only_what_is_allowed(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct egress_guard nobody, loopback;
    assert_int_equal(egress_guard_init(&nobody, "", &err), 0);
    assert_int_equal(egress_guard_init(&loopback, "127.0.0.0/8", &err), 0);
    perform("GET", "/echo", NULL);
    assert_int_equal(response.transport, HTTP_ANSWERED);
    int before = atomic_load(&server.connections);

    set_request("GET", "/echo");
    request.guard = &nobody;
    http_client_perform(client, &request, &response);
    assert_int_equal(response.transport, HTTP_NOT_SENT);
    assert_string_equal(response.error, "the address is not one that may be reached");
    assert_int_equal(atomic_load(&server.connections), before);

    request.guard = &loopback;
    http_client_perform(client, &request, &response);
    assert_int_equal(response.transport, HTTP_ANSWERED);
    assert_int_equal(response.status, 200);
    assert_int_equal(atomic_load(&server.connections), before + 1);
    egress_guard_done(&nobody);
    egress_guard_done(&loopback);
}

static void test_multi_abandon(void **state)
{
    (void)state;
    struct tally tally = {.multi = http_multi_new(10)};
    set_request("GET", "/hang");
    for (int i = 0; i < 20; i++)
        http_multi_send(tally.multi, &request, on_done, &tally);
    http_multi_run(tally.multi, NULL, 0, 50, NULL);
    http_multi_free(tally.multi);
    assert_int_equal(tally.done, 0);
}

static int once_per_process(void **state)
{
    struct error err = ERROR_INIT;
    (void)state;
    return http_global_init(&err);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_answers),
        T(test_headers_sent),
        T(test_response_headers),
        T(test_not_sent),
        T(test_ambiguous),
        T(test_connect_timeout),
        T(test_deadlines),
        T(test_bounded_body),
        T(test_once_is_once),
        T(test_stream_down),
        T(test_stream_up),
        T(test_stream_idle),
        T(test_multi_many),
        T(test_multi_mixed),
        T(test_multi_chain_and_fds),
        T(test_a_guarded_request_reaches_only_what_is_allowed),
        T(test_multi_abandon),
    };
    return cmocka_run_group_tests(tests, once_per_process, NULL);
}
