/*
 * test_httpd_slow - clients that send or read slowly, stop in the middle, or leave. Over raw
 * sockets. Failure: cmocka.
 */
#include "tests/integration/httpd_fixture.h"

/* ---- slow clients --------------------------------------------------------------------------- */

/* One byte each 100 ms; returns how long the server let it. */
static int64_t trickle(const char *text, size_t bytes, struct strbuf *out)
{
    int fd = dial(server);
    int64_t start_ms = clock_mono_ms();

    strbuf_init(out, 65536);
    for (size_t i = 0; i < bytes && clock_mono_ms() - start_ms < 8000; i++) {
        if (push(fd, text + i, 1) != 0 || collect(fd, out, NULL, 100) != STAYS_OPEN)
            break;
    }
    close(fd);
    return clock_mono_ms() - start_ms;
}

static void test_trickled_head(void **state)
{
    struct strbuf request, out;
    int64_t took_ms;

    (void)state;
    put_headers(&request, 1, 500);
    took_ms = trickle(request.data, request.length, &out);
    assert_in_range(took_ms, TIMEOUT_MS - 200, TIMEOUT_MS + 1500);
    strbuf_done(&out);
    strbuf_done(&request);
}

static void test_trickled_body(void **state)
{
    static const char head[] = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n";
    static const char chunked_head[] =
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1f4\r\n";

    (void)state;
    for (int chunked = 0; chunked < 2; chunked++) {
        int fd = dial(server), end = STAYS_OPEN;
        int64_t start_ms = clock_mono_ms(), took_ms;
        const char *text = chunked ? chunked_head : head;
        struct strbuf out;

        strbuf_init(&out, 65536);
        push(fd, text, strlen(text));
        while (end == STAYS_OPEN && clock_mono_ms() - start_ms < 8000) {
            push(fd, "x", 1);
            end = collect(fd, &out, NULL, 100);
        }
        took_ms = clock_mono_ms() - start_ms;
        if (took_ms < TIMEOUT_MS - 200 || took_ms > TIMEOUT_MS + 1500 ||
            strstr(out.data, "the body did not arrive in 1500 ms") == NULL)
            fail_msg("chunked %d: %lld ms, %s", chunked, (long long)took_ms, out.data);
        strbuf_done(&out);
        close(fd);
    }
}

static void test_stalled_and_cut_bodies(void **state)
{
    static const struct {
        const char *request;
        bool cut;
        const char *answer;
    } cases[] = {
        {"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nabc", false, "broken"},
        {"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nabc", true, "broken"},
        {"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc", false,
         "broken"},
        {"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc", true,
         "broken"},
        {"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", true,
         "broken"},
        {"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
         false, "broken"},
        {"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
         "chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
         true, "whole 3"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int fd = dial(server);
        struct strbuf out;

        strbuf_init(&out, 65536);
        push(fd, cases[i].request, strlen(cases[i].request));
        if (cases[i].cut)
            shutdown(fd, SHUT_WR);
        collect(fd, &out, NULL, TIMEOUT_MS + 1500);
        if (strstr(out.data, cases[i].answer) == NULL)
            fail_msg("case %zu: %s", i, out.data);
        strbuf_done(&out);
        close(fd);
    }
}

static void test_stalled_reader(void **state)
{
    static const char request[] = "GET /endless HTTP/1.1\r\nHost: a\r\n\r\n";
    int fd = dial(server);
    int64_t start_ms = clock_mono_ms();

    (void)state;
    atomic_store(&stream_failed, 0);
    push(fd, request, strlen(request));
    while (!atomic_load(&stream_failed) && clock_mono_ms() - start_ms < 8000)
        clock_sleep_ms(50);
    assert_true(atomic_load(&stream_failed));
    assert_true(clock_mono_ms() - start_ms < TIMEOUT_MS + 3000);
    close(fd);
}

static void test_slow_reader_gets_all(void **state)
{
    static const char request[] = "GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    int fd = dial(server);
    size_t total = 0;
    char *buf = xmalloc(128 << 10);

    (void)state;
    push(fd, request, strlen(request));
    for (;;) {
        ssize_t got = recv(fd, buf, 128 << 10, 0);

        assert_true(got >= 0);
        if (got == 0)
            break;
        total += (size_t)got;
        clock_sleep_ms(30);
    }
    assert_true(total > 3 << 20);
    free(buf);
    close(fd);
}

static void test_peer_gone(void **state)
{
    static const char request[] = "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n";
    int64_t start_ms = clock_mono_ms();
    int fd = dial(server);
    struct strbuf out;

    (void)state;
    atomic_store(&saw_gone, 0);
    push(fd, request, strlen(request));
    clock_sleep_ms(100);
    assert_int_equal(atomic_load(&saw_gone), 0);
    close(fd);
    while (atomic_load(&saw_gone) == 0 && clock_mono_ms() - start_ms < 5000)
        clock_sleep_ms(10);
    assert_int_equal(atomic_load(&saw_gone), 1); /* not -1: that the time was over */

    fd = dial(server);
    strbuf_init(&out, 65536);
    push(fd, request, strlen(request));
    collect(fd, &out, "done", 4000);
    assert_non_null(strstr(out.data, "done"));
    assert_int_equal(atomic_load(&saw_gone), -1);
    strbuf_done(&out);
    close(fd);
}

static void test_idle_connection_ends(void **state)
{
    static const char request[] = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
    int fd = dial(server);
    struct strbuf out;
    int64_t start_ms;

    (void)state;
    strbuf_init(&out, 65536);
    push(fd, request, strlen(request));
    collect(fd, &out, "hello", 1000);
    start_ms = clock_mono_ms();
    assert_int_equal(collect(fd, &out, NULL, 6000), CLOSED);
    assert_in_range(clock_mono_ms() - start_ms, KEEP_ALIVE_MS - 300, KEEP_ALIVE_MS + 2500);
    strbuf_done(&out);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trickled_head),          cmocka_unit_test(test_trickled_body),
        cmocka_unit_test(test_stalled_and_cut_bodies), cmocka_unit_test(test_stalled_reader),
        cmocka_unit_test(test_slow_reader_gets_all),   cmocka_unit_test(test_peer_gone),
        cmocka_unit_test(test_idle_connection_ends),
    };

    return cmocka_run_group_tests(tests, start_all, stop_all);
}
