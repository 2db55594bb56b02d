/*
 * test_httpd_bounds - who gets a thread, who has to go, whose client it is, and the end of a
 * server. Over raw sockets. Failure: cmocka.
 */
#include "common/httpd/httpd_internal.h"
#include "tests/integration/httpd_fixture.h"

/* ---- who gets a thread, and who has to go --------------------------------------------------- */

static struct httpd *start_bounded(int threads, int queue, int most, int most_of_one)
{
    struct httpd_options options = {.listen = "127.0.0.1:0",
                                    .threads = threads,
                                    .connection_queue = queue,
                                    .keep_alive_ms = LONG_MS,
                                    .request_timeout_ms = LONG_MS,
                                    .max_head_bytes = 16384,
                                    .max_connections = most,
                                    .max_address_connections = most_of_one,
                                    .address_body_percent = 25,
                                    .trusted_proxies = "127.0.0.9, 10.0.0.0/8",
                                    .refusal_body = "{\"full\":true}",
                                    .handler = handle,
                                    .bad_request = bad_request};
    struct error err = ERROR_INIT;
    struct httpd *started = httpd_start(&options, &err);

    if (started == NULL)
        fail_msg("%s", err.message);
    return started;
}

static int dial_from(const struct httpd *to, const char *address)
{
    struct sockaddr_in own = {.sin_family = AF_INET};
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons((uint16_t)httpd_port(to))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    inet_pton(AF_INET, address, &own.sin_addr);
    inet_pton(AF_INET, "127.0.0.1", &there.sin_addr);
    assert_int_equal(bind(fd, (struct sockaddr *)&own, sizeof(own)), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&there, sizeof(there)), 0);
    return fd;
}

/* One GET of `path` on this connection; true: it was answered with `end`. */
static bool answers(int fd, const char *path, const char *end)
{
    char request[256];
    struct strbuf out;
    bool good;

    snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path);
    strbuf_init(&out, 65536);
    good = push(fd, request, strlen(request)) == 0 && collect(fd, &out, end, LONG_MS / 4) >= 0 &&
           strstr(out.data, end) != NULL;
    strbuf_done(&out);
    return good;
}

static bool is_closed(int fd)
{
    struct pollfd item = {.fd = fd, .events = POLLIN};
    char byte;

    return poll(&item, 1, LONG_MS / 4) > 0 && recv(fd, &byte, 1, 0) <= 0;
}

/* Whole requests that hold the threads, wait for one, and are one too many. */
static void test_bounded_requests(void **state)
{
    enum { FEW = 2, QUEUE = 2 };
    static const char wait[] = "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n";
    struct httpd *main_server = server;
    struct httpd *small = start_bounded(FEW, QUEUE, 0, 0);
    int held[FEW + QUEUE], extra;
    struct strbuf out;
    int64_t start_ms;

    (void)state;
    server = small;
    strbuf_init(&out, 65536);
    for (int i = 0; i < FEW + QUEUE; i++) {
        held[i] = dial(server);
        push(held[i], wait, strlen(wait));
        for (int k = 0; k < 1000 && i < FEW && httpd_active(small) <= i; k++)
            clock_sleep_ms(1);
    }
    for (int k = 0; k < LONG_MS && atomic_load(&small->waiting) < QUEUE; k++)
        clock_sleep_ms(1);
    start_ms = clock_mono_ms();
    extra = dial(server);
    push(extra, SMUGGLED, strlen(SMUGGLED));
    assert_int_equal(collect(extra, &out, NULL, LONG_MS), CLOSED);
    assert_non_null(strstr(out.data, "HTTP/1.1 503 "));
    assert_non_null(strstr(out.data, "Retry-After: 2\r\n"));
    assert_non_null(strstr(out.data, "\r\n\r\n{\"full\":true}"));
    assert_true(clock_mono_ms() - start_ms < LONG_MS / 2);
    close(extra);
    for (int i = 0; i < FEW + QUEUE; i++)
        close(held[i]);
    /* and when they are gone there is room again, for as many as before */
    for (int i = 0; i < 50; i++) {
        strbuf_done(&out);
        if (ask("GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 51, &out, 2000) ==
                CLOSED &&
            strstr(out.data, "hello") != NULL)
            break;
        clock_sleep_ms(100);
    }
    assert_non_null(strstr(out.data, "hello"));
    strbuf_done(&out);
    httpd_stop(small);
    server = main_server;
}

/* Silence, half a head, half a short body: none of them holds one of the two threads. */
static void test_no_thread_before_the_request_is_whole(void **state)
{
    static const char *const begun[] = {
        "", "GET /hello HTTP/1.1\r\nHost:",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf"};
    enum { KINDS = sizeof(begun) / sizeof(begun[0]), EACH = 20 };
    struct httpd *small = start_bounded(2, 2, 0x1000, 0);
    int held[KINDS * EACH], kept = dial(small);

    (void)state;
    assert_true(answers(kept, "/hello", "\r\n\r\nhello"));
    for (int i = 0; i < KINDS * EACH; i++) {
        held[i] = dial(small);
        push(held[i], begun[i % KINDS], strlen(begun[i % KINDS]));
    }
    for (int i = 0; i < 20; i++) {
        const int fd = dial(small);

        assert_true(answers(fd, "/hello", "\r\n\r\nhello"));
        assert_true(answers(kept, "/hello", "\r\n\r\nhello"));
        close(fd);
    }
    /* and each goes on where it was */
    push(held[1], " a\r\n\r\n", 6);
    push(held[2], "-done", 5);
    for (int i = 1; i < 3; i++) {
        struct strbuf out;

        strbuf_init(&out, 65536);
        collect(held[i], &out, i == 1 ? "\r\n\r\nhello" : "half-done", LONG_MS / 4);
        assert_non_null(strstr(out.data, i == 1 ? "\r\n\r\nhello" : "half-done"));
        strbuf_done(&out);
    }
    for (int i = 0; i < KINDS * EACH; i++)
        close(held[i]);
    close(kept);
    httpd_stop(small);
}

/* At the limit of its address, then of all, the oldest silent one goes; one that was of use stays,
 * and so does another address. */
static void test_the_oldest_silent_one_makes_room(void **state)
{
    enum { MOST = 8, OF_ONE = 4 };
    struct httpd *small = start_bounded(2, 2, MOST, OF_ONE);
    int other = dial_from(small, "127.0.0.2"), mine[OF_ONE + 1], proxied[MOST];

    (void)state;
    assert_true(answers(other, "/hello", "hello"));
    mine[0] = dial(small);
    assert_true(answers(mine[0], "/hello", "hello"));
    for (int i = 1; i < OF_ONE + 1; i++)
        mine[i] = dial(small);
    assert_true(is_closed(mine[1]));
    assert_true(answers(mine[2], "/hello", "hello"));
    assert_true(answers(mine[0], "/hello", "hello"));

    /* a proxy has no limit of its own: it fills what is left, and then its oldest goes */
    for (int i = 0; i < MOST; i++)
        proxied[i] = dial_from(small, "127.0.0.9");
    assert_true(is_closed(mine[3]));
    assert_true(is_closed(proxied[0]));
    assert_true(answers(proxied[MOST - 1], "/hello", "hello"));
    assert_true(answers(other, "/hello", "hello"));
    assert_true(answers(mine[0], "/hello", "hello"));
    for (int i = 0; i < OF_ONE + 1; i++)
        close(mine[i]);
    for (int i = 0; i < MOST; i++)
        close(proxied[i]);
    close(other);
    httpd_stop(small);
}

static int body_waits(struct httpd *httpd)
{
    pthread_mutex_lock(&httpd->lock);
    const int waits = httpd->body_waits;
    pthread_mutex_unlock(&httpd->lock);
    return waits;
}

/* Bodies too long to come ahead of a thread: one address may keep a quarter of the threads waiting.
 */
static void test_slow_bodies_have_a_share(void **state)
{
    enum { MANY = 32, SHARE = MANY / 4 };
    static const char slow[] = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\nx";
    struct httpd *wide = start_bounded(MANY, 64, 0, 0);
    int held[SHARE], more;
    struct strbuf out;

    (void)state;
    strbuf_init(&out, 65536);
    for (int i = 0; i < SHARE; i++) {
        held[i] = dial(wide);
        push(held[i], slow, strlen(slow));
    }
    for (int k = 0; k < 1000 && httpd_active(wide) < SHARE; k++)
        clock_sleep_ms(1);
    assert_int_equal(httpd_active(wide), SHARE);
    for (int k = 0; k < LONG_MS && body_waits(wide) < SHARE; k++)
        clock_sleep_ms(1);
    more = dial(wide);
    push(more, slow, strlen(slow));
    collect(more, &out, "\r\n\r\nas many", LONG_MS / 4);
    assert_memory_equal(out.data, "HTTP/1.1 503", 12);
    close(more);
    strbuf_reset(&out);
    more = dial_from(wide, "127.0.0.2");
    push(more, slow, strlen(slow));
    for (int k = 0; k < 1000 && httpd_active(wide) <= SHARE; k++)
        clock_sleep_ms(1);
    assert_int_equal(httpd_active(wide), SHARE + 1);
    close(more);
    for (int i = 0; i < SHARE; i++)
        close(held[i]);
    strbuf_done(&out);
    httpd_stop(wide);
}

/* Each piece comes in time, the whole never would. */
static void test_bodies_keep_a_least_rate(void **state)
{
    enum { GRACE_MS = 300, RATE = 2000 };
    const struct httpd_options options = {.listen = "127.0.0.1:0",
                                          .threads = 2,
                                          .connection_queue = 2,
                                          .keep_alive_ms = LONG_MS,
                                          .request_timeout_ms = GRACE_MS,
                                          .max_head_bytes = 16384,
                                          .body_bytes_per_s = RATE,
                                          .handler = handle,
                                          .bad_request = bad_request};
    struct error err = ERROR_INIT;
    struct httpd *impatient = httpd_start(&options, &err);

    (void)state;
    assert_non_null(impatient);
    for (int fast = 0; fast < 2; fast++) {
        static const char head[] =
            "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n";
        const int64_t start_ms = clock_mono_ms();
        char piece[2000] = "";
        int fd = dial(impatient), end = STAYS_OPEN;
        struct strbuf out;

        strbuf_init(&out, 65536);
        push(fd, head, strlen(head));
        while (end == STAYS_OPEN && clock_mono_ms() - start_ms < 6 * GRACE_MS) {
            push(fd, piece, fast ? sizeof(piece) : 10);
            end = collect(fd, &out, NULL, 50);
        }
        if ((end == STAYS_OPEN) != fast || (strstr(out.data, "broken") == NULL) != fast)
            fail_msg("fast %d: end %d, %s", fast, end, out.data);
        strbuf_done(&out);
        close(fd);
    }
    httpd_stop(impatient);
}

static void test_client_behind_proxies(void **state)
{
    static const struct {
        const char *from, *headers, *client;
    } cases[] = {
        {"127.0.0.1", "", "127.0.0.1"},
        {"127.0.0.1", "X-Forwarded-For: 1.2.3.4\r\n", "127.0.0.1"},
        {"127.0.0.9", "", "127.0.0.9"},
        {"127.0.0.9", "X-Forwarded-For: 1.2.3.4\r\n", "1.2.3.4"},
        {"127.0.0.9", "X-Forwarded-For: 6.6.6.6, 1.2.3.4\r\n", "1.2.3.4"},
        {"127.0.0.9", "X-Forwarded-For: 6.6.6.6, 1.2.3.4, 10.1.1.1\r\n", "1.2.3.4"},
        {"127.0.0.9", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 1.2.3.4,10.1.1.1\r\n",
         "1.2.3.4"},
        {"127.0.0.9", "X-Forwarded-For: 10.1.1.1 , 10.2.2.2\r\n", "10.1.1.1"},
        {"127.0.0.9", "X-Forwarded-For: 2001:db8::1\r\n", "2001:db8::1"},
        {"127.0.0.9", "X-Forwarded-For: [2001:db8::1]:443, 10.0.0.1:99\r\n", "2001:db8::1"},
        {"127.0.0.9", "X-Forwarded-For: 1.2.3.4, nonsense, 10.0.0.1\r\n", "10.0.0.1"},
        {"127.0.0.9", "X-Forwarded-For: \r\n", "127.0.0.9"},
        {"127.0.0.9", "X-Forwarded-For: ,\r\n", "127.0.0.9"},
        {"127.0.0.9", "Forwarded: for=6.6.6.6, for=1.2.3.4;proto=https;by=10.0.0.2\r\n", "1.2.3.4"},
        {"127.0.0.9", "Forwarded: proto=http; For=\"[2001:db8::1]:5\"\r\n", "2001:db8::1"},
        {"127.0.0.9", "Forwarded: for=_hidden\r\n", "127.0.0.9"},
        {"127.0.0.9", "Forwarded: for=6.6.6.6\r\nX-Forwarded-For: 1.2.3.4\r\n", "1.2.3.4"},
    };
    struct httpd *proxied = start_bounded(2, 8, 0, 0);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int fd = dial_from(proxied, cases[i].from);
        struct strbuf request, out;

        strbuf_init(&request, 4096);
        strbuf_init(&out, 4096);
        strbuf_printf(&request, "GET /peer HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%s\r\n",
                      cases[i].headers);
        push(fd, request.data, request.length);
        collect(fd, &out, NULL, LONG_MS / 4);
        const char *body = strstr(out.data, "\r\n\r\n");
        if (body == NULL || strcmp(body + 4, cases[i].client) != 0)
            fail_msg("case %zu (%s): %s", i, cases[i].headers, out.data);
        strbuf_done(&out);
        strbuf_done(&request);
        close(fd);
    }
    httpd_stop(proxied);
}

/* Idle connections give their threads to those that wait, long before their own time is up. */
static void test_idle_makes_room(void **state)
{
    enum { FEW = 2, QUEUE = 8 };
    struct httpd *main_server = server;
    struct httpd *small = start_with(FEW, QUEUE, LONG_MS);
    int idle[FEW], late;
    struct strbuf out;
    int64_t start_ms;

    (void)state;
    server = small;
    strbuf_init(&out, 65536);
    for (int i = 0; i < FEW; i++) {
        idle[i] = dial(server);
        push(idle[i], SMUGGLED, strlen(SMUGGLED));
        strbuf_reset(&out);
        collect(idle[i], &out, "hello", 1000);
        assert_non_null(strstr(out.data, "keep-alive"));
    }
    start_ms = clock_mono_ms();
    late = dial(server);
    push(late, SMUGGLED, strlen(SMUGGLED));
    strbuf_reset(&out);
    collect(late, &out, "hello", LONG_MS);
    assert_non_null(strstr(out.data, "hello"));
    assert_true(clock_mono_ms() - start_ms < LONG_MS / 2);
    strbuf_done(&out);
    for (int i = 0; i < FEW; i++)
        close(idle[i]);
    close(late);
    httpd_stop(small);
    server = main_server;
}

static void test_drain(void **state)
{
    static const char nap[] = "GET /nap HTTP/1.1\r\nHost: a\r\n\r\n";
    struct httpd *main_server = server;
    struct httpd *draining = start(8);
    int idle, napping;
    struct strbuf out;

    (void)state;
    server = draining;
    idle = dial(server);
    strbuf_init(&out, 65536);
    push(idle, SMUGGLED, strlen(SMUGGLED));
    collect(idle, &out, "hello", 1000);
    napping = dial(server);
    push(napping, nap, strlen(nap));
    for (int i = 0; i < 1000 && httpd_active(draining) == 0; i++)
        clock_sleep_ms(5);
    assert_int_equal(httpd_active(draining), 1);
    httpd_drain(draining);

    strbuf_reset(&out);
    assert_int_equal(collect(idle, &out, NULL, 10000), CLOSED);
    assert_int_equal(out.length, 0);
    strbuf_reset(&out);
    assert_int_equal(collect(napping, &out, NULL, 10000), CLOSED);
    assert_non_null(strstr(out.data, "Connection: close\r\n"));
    assert_non_null(strstr(out.data, "nap"));
    assert_int_equal(httpd_active(draining), 0);
    strbuf_done(&out);

    assert_int_equal(ask(SMUGGLED, strlen(SMUGGLED), &out, 3000), CLOSED);
    assert_non_null(strstr(out.data, "Connection: close\r\n"));
    strbuf_done(&out);
    close(idle);
    close(napping);
    httpd_stop(draining);
    server = main_server;
}

/* CivetWeb's accepting thread would look every two seconds whether it is to end. */
static void test_stop_is_prompt(void **state)
{
    enum { TRIES = 3, PROMPT_MS = 1500 };
    int64_t took_ms = PROMPT_MS;

    (void)state;
    for (int i = 0; i < TRIES && took_ms >= PROMPT_MS; i++) { /* the machine may stand still once */
        struct httpd *idle = start(8);
        int64_t start_ms;

        clock_sleep_ms(100); /* its threads wait by now */
        start_ms = clock_mono_ms();
        httpd_stop(idle);
        took_ms = clock_mono_ms() - start_ms;
    }
    assert_true(took_ms < PROMPT_MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounded_requests),
        cmocka_unit_test(test_no_thread_before_the_request_is_whole),
        cmocka_unit_test(test_the_oldest_silent_one_makes_room),
        cmocka_unit_test(test_slow_bodies_have_a_share),
        cmocka_unit_test(test_bodies_keep_a_least_rate),
        cmocka_unit_test(test_client_behind_proxies),
        cmocka_unit_test(test_idle_makes_room),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_stop_is_prompt),
    };

    return cmocka_run_group_tests(tests, start_all, stop_all);
}
