/*
 * test_httpd - what the HTTP server makes of requests: smuggling shapes, framing of bodies, reuse
 * of connections, many at once. Over raw sockets. Failure: cmocka.
 */
#include "tests/integration/httpd_fixture.h"

/* ---- shapes that must be refused ------------------------------------------------------------ */

static const struct {
    const char *name, *request;
} refused[] = {
    {"CL and TE", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: "
                  "chunked\r\n\r\n0\r\n\r\n" SMUGGLED},
    {"TE and CL", "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: "
                  "5\r\n\r\n0\r\n\r\n" SMUGGLED},
    {"two CL, same", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: "
                     "0\r\n\r\n" SMUGGLED},
    {"two CL, different", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\ncontent-length: "
                          "44\r\n\r\n" SMUGGLED},
    {"CL list", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 0\r\n\r\n" SMUGGLED},
    {"CL 5abc", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5abc\r\n\r\nhello" SMUGGLED},
    {"CL +5", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello" SMUGGLED},
    {"CL -1", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n" SMUGGLED},
    {"CL 0x5", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello" SMUGGLED},
    {"CL empty", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n" SMUGGLED},
    {"CL 2^63-1",
     "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\n" SMUGGLED},
    {"CL 2^64+5",
     "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n\r\n" SMUGGLED},
    {"two TE", "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: "
               "identity\r\n\r\n0\r\n\r\n" SMUGGLED},
    {"TE gzip, chunked", "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, "
                         "chunked\r\n\r\n0\r\n\r\n" SMUGGLED},
    {"TE identity",
     "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n" SMUGGLED},
    {"TE xchunked",
     "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n" SMUGGLED},
    {"TE in 1.0",
     "POST /echo HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" SMUGGLED},
    {"space before colon", "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : "
                           "chunked\r\n\r\n0\r\n\r\n" SMUGGLED},
    {"space before colon, CL",
     "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length : 36\r\n\r\n" SMUGGLED},
    {"folded line",
     "POST /echo HTTP/1.1\r\nHost: a\r\nX-A: b\r\n Content-Length: 36\r\n\r\n" SMUGGLED},
    {"folded TE",
     "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n" SMUGGLED},
    {"white space before the first header", "GET /hello HTTP/1.1\r\n X-A: b\r\nHost: a\r\n\r\n"},
    {"two blanks in the request line", "GET  /hello HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"two blanks before the version", "GET /hello  HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"line of no header",
     "POST /echo HTTP/1.1\r\nHost: a\r\nnonsense\r\nContent-Length: 36\r\n\r\n" SMUGGLED},
    {"empty name", "POST /echo HTTP/1.1\r\nHost: a\r\n: x\r\nContent-Length: 36\r\n\r\n" SMUGGLED},
    {"control in name", "GET /hello HTTP/1.1\r\nHost: a\r\nX\tY: b\r\n\r\n"},
    {"bare LF", "GET /hello HTTP/1.1\r\nHost: a\nX-A: b\r\n\r\n"},
    {"bare LF at the end", "GET /hello HTTP/1.1\r\nHost: a\r\nX-A: b\n\n" SMUGGLED},
    {"bare LF only", "GET /hello HTTP/1.1\nHost: a\n\n"},
    {"bare CR", "GET /hello HTTP/1.1\r\nHost: a\rX-A: b\r\n\r\n"},
    {"no Host", "GET /hello HTTP/1.1\r\nX-A: b\r\n\r\n"},
    {"no header at all", "GET /hello HTTP/1.1\r\n\r\n"},
    {"two Host", "GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"},
    {"odd Host", "GET /hello HTTP/1.1\r\nHost: a b\r\n\r\n"},
    {"two Authorization",
     "GET /hello HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a\r\nauthorization: Bearer "
     "b\r\n\r\n"},
    {"two Content-Type",
     "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Type: "
     "application/json\r\nContent-Length: 0\r\n\r\n"},
    {"two X-Request-ID",
     "GET /hello HTTP/1.1\r\nHost: a\r\nX-Request-ID: 1\r\nX-Request-Id: 2\r\n\r\n"},
    {"%00 in path", "GET /hello%00x HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"bad escape", "GET /hello%zz HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"cut escape", "GET /hello%4 HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"no slash", "GET hello HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"absolute form without a path", "GET http://a?b HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"absolute form of another scheme", "GET ftp://a/hello HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"absolute form with a user", "GET http://u@a/hello HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"absolute form without Host", "GET http://a/hello HTTP/1.1\r\n\r\n"},
    {"connect", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"},
    {"version 2.0", "GET /hello HTTP/2.0\r\nHost: a\r\n\r\n"},
    {"version 1.2", "GET /hello HTTP/1.2\r\nHost: a\r\n\r\n"},
    {"version 0.9", "GET /hello\r\n\r\n"},
    {"not http", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"},
    {"high byte in path", "GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"other expectation",
     "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 0\r\n\r\n"},
};

static void test_refused_shapes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        struct strbuf out;
        int before = atomic_load(&handled);
        int end = ask(refused[i].request, strlen(refused[i].request), &out, 4000);

        const bool answered = strncmp(out.data, "HTTP/1.1 4", 10) == 0 &&
                              strstr(out.data, "{\"bad\":") != NULL &&
                              strstr(out.data, "X-Exchange: ") != NULL &&
                              strstr(out.data, "Connection: close\r\n") != NULL &&
                              count_of(out.data, "HTTP/1.1 ") == 1;

        if (end != CLOSED || atomic_load(&handled) != before || !answered)
            fail_msg("%s: end %d, handled %d, answer: %s", refused[i].name, end,
                     atomic_load(&handled) - before, out.data);
        strbuf_done(&out);
    }
}

static void test_nul_in_head(void **state)
{
    static const char with_nul[] = "GET /hello HTTP/1.1\r\nHost: a\r\nX: a\0b\r\nY: c\r\n\r\n";
    struct strbuf out;

    (void)state;
    assert_int_equal(ask(with_nul, sizeof(with_nul) - 1, &out, 4000), CLOSED);
    assert_memory_equal(out.data, "HTTP/1.1 4", 10);
    strbuf_done(&out);
}

static void test_header_limits(void **state)
{
    static const struct {
        int headers, value_bytes;
        const char *status;
    } cases[] = {{61, 1, "HTTP/1.1 200"},    {62, 1, "HTTP/1.1 431"},    {63, 1, "HTTP/1.1 431"},
                 {200, 1, "HTTP/1.1 431"},   {1, 15000, "HTTP/1.1 200"}, {1, 17000, "HTTP/1.1 431"},
                 {20, 20000, "HTTP/1.1 431"}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct strbuf request, out;

        put_headers(&request, cases[i].headers, cases[i].value_bytes);
        if (ask(request.data, request.length, &out, 4000) != CLOSED ||
            strncmp(out.data, cases[i].status, strlen(cases[i].status)) != 0)
            fail_msg("%d headers of %d: %s", cases[i].headers, cases[i].value_bytes, out.data);
        strbuf_done(&out);
        strbuf_done(&request);
    }
}

/* ---- requests that are fine ----------------------------------------------------------------- */

static const struct {
    const char *name, *request, *answer; /* the answer's end */
} accepted[] = {
    {"plain", "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "\r\n\r\nhello"},
    {"1.0", "GET /hello HTTP/1.0\r\n\r\n", "\r\n\r\nhello"},
    {"HEAD", "HEAD /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "\r\n\r\n"},
    {"preflight reaches us",
     "OPTIONS /hello HTTP/1.1\r\nHost: a\r\nOrigin: b\r\nAccess-Control-Request-Method: "
     "GET\r\nConnection: close\r\n\r\n",
     "\r\n\r\nhello"},
    {"body",
     "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
     "\r\n\r\nhello"},
    {"empty body",
     "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
     "Content-Length: 0\r\nConnection: close\r\nX-Test: 1\r\n\r\n"},
    {"POST without length", "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
     "Content-Length: 0\r\nConnection: close\r\nX-Test: 1\r\n\r\n"},
    {"chunked",
     "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: "
     "chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n",
     "\r\n\r\nhello!"},
    {"Chunked, upper",
     "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: "
     "Chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
     "\r\n\r\n0123456789"},
    {"DELETE with body",
     "DELETE /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: "
     "2\r\n\r\nok",
     "\r\n\r\nok"},
    {"blanks around values",
     "GET /header HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Value:   v  \r\n\r\n", "\r\n\r\nv"},
    {"query", "GET /params%20x?z=1&a%20b=c%2Bd+e HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
     "\r\n\r\n1[c+d e] /params%20x"},
    {"query absent", "GET /params?z=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
     "\r\n\r\n0[] /params"},
    {"query malformed", "GET /params?a+b=%0 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
     "\r\n\r\n-1[] /params"},
    {"query NUL", "GET /params?a+b=x%00y HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
     "\r\n\r\n-1[] /params"},
    {"query too long",
     "GET /params?a+b=0123456789abcdef HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
     "\r\n\r\n-1[] /params"},
    {"dots stay", "GET /params/../x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
     "\r\n\r\n0[] /params/../x"},
    {"stream", "GET /stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
     "\r\n\r\n3\r\nabc\r\n3\r\nabc\r\n3\r\nabc\r\n0\r\n\r\n"},
    {"stream to 1.0", "GET /stream HTTP/1.0\r\n\r\n", "\r\n\r\nabcabcabc"},
    {"stream to HEAD", "HEAD /stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "\r\n\r\n"},
    {"exact stream", "GET /exact HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
     "\r\n\r\nabcabcabc"},
    {"stream too short closes", "GET /short HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n\r\nabcabcabc"},
    {"silent handler", "GET /silent HTTP/1.1\r\nHost: a\r\n\r\n",
     "X-Exchange: yes\r\n\r\n{\"bad\":\"internal_error\",\"message\":\"the request was not "
     "answered\"}"},
    {"bad chunk size",
     "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello" SMUGGLED,
     "the body is incomplete or malformed"},
    {"chunk extensions",
     "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: "
     "chunked\r\n\r\n5;a=b\r\nhello\r\n1 ; c = \"d;\"\r\n!\r\n0;x\r\nTrailer: y\r\n\r\n",
     "\r\n\r\nhello!"},
    {"chunk extension with a bare LF",
     "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
     "chunked\r\n\r\n5;a\nhello\r\n0\r\n\r\n" SMUGGLED,
     "the body is incomplete or malformed"},
    {"chunk size with a bare LF",
     "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
     "chunked\r\n\r\n5\nhello\r\n0\r\n\r\n" SMUGGLED,
     "the body is incomplete or malformed"},
    {"trailer with a bare LF",
     "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
     "chunked\r\n\r\n0\r\nA: b\n\r\n" SMUGGLED,
     "the body is incomplete or malformed"},
    {"empty lines first", "\r\n\r\nGET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
     "\r\n\r\nhello"},
    {"absolute form",
     "GET http://b.example:8000/header?q HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
     "\r\n\r\n-"},
    {"absolute form of the root", "GET HTTP://b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
     "\r\n\r\nhello"},
    {"absolute form names the host",
     "GET http://b.example:80/host HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
     "\r\n\r\nb.example:80"},
    {"TRACE reaches us", "TRACE /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
     "\r\n\r\nhello"},
    {"close among other options", "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: te, Close\r\n\r\n",
     "\r\n\r\nhello"},
    {"chunk without CR LF",
     "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
     "chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n" SMUGGLED,
     "the body is incomplete or malformed"},
    {"chunk of 2^64",
     "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
     "chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n" SMUGGLED,
     NULL},
    {"Content-Length over the cap",
     "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\nabc" SMUGGLED,
     "the body is larger than 4194304 bytes"},
};

static void test_accepted_shapes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(accepted) / sizeof(accepted[0]); i++) {
        struct strbuf out;
        const char *want = accepted[i].answer;
        int end = ask(accepted[i].request, strlen(accepted[i].request), &out, 5000);
        size_t length = want != NULL ? strlen(want) : 0;

        if (end != CLOSED || count_of(out.data, "HTTP/1.1 ") != 1 || out.length < length ||
            (want != NULL && strcmp(out.data + out.length - length, want) != 0))
            fail_msg("%s: end %d, answer: %s", accepted[i].name, end, out.data);
        strbuf_done(&out);
    }
}

/* Every way to send a body, thrice over one connection, then all at once. */
static void test_keep_alive_and_pipelining(void **state)
{
    static const char *const requests[] = {
        "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "DELETE /hello HTTP/1.1\r\nHost: a\r\n\r\n",
        "HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /exact HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, TE\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\n\r\n",
        ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
         "chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    };
    struct strbuf all, out;
    int fd;

    (void)state;
    strbuf_init(&all, 65536);
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        fd = dial(server);
        for (int round = 0; round < 3; round++) {
            strbuf_init(&out, 65536);
            push(fd, requests[i], strlen(requests[i]));
            if (collect(fd, &out, "keep-alive\r\n", 3000) != STAYS_OPEN ||
                strncmp(out.data, "HTTP/1.1 200", 12) != 0)
                fail_msg("request %zu, round %d: %s", i, round, out.data);
            collect(fd, &out, NULL, 50);
            strbuf_done(&out);
        }
        close(fd);
        strbuf_puts(&all, requests[i]);
    }
    strbuf_puts(&all, "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_int_equal(ask(all.data, all.length, &out, 5000), CLOSED);
    assert_int_equal(count_of(out.data, "HTTP/1.1 200"), 9);
    strbuf_done(&out);
    strbuf_done(&all);
}

/* Whatever the size of a body, the answer says truly whether the connection lives on. */
static void test_large_bodies_and_reuse(void **state)
{
    static const size_t sizes[] = {1, 4096, 16000, 20000, 300000, BODY_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (int chunked = 0; chunked < 2; chunked++) {
            struct strbuf request, out;
            int fd = dial(server), end;
            bool keeps;

            strbuf_init(&request, 16 << 20);
            strbuf_init(&out, 16 << 20);
            strbuf_puts(&request, "POST /echo HTTP/1.1\r\nHost: a\r\n");
            if (chunked)
                strbuf_printf(&request, "Transfer-Encoding: chunked\r\n\r\n%zx\r\n", sizes[i]);
            else
                strbuf_printf(&request, "Content-Length: %zu\r\n\r\n", sizes[i]);
            for (size_t k = 0; k < sizes[i]; k++)
                strbuf_putc(&request, (char)('a' + k % 26));
            strbuf_puts(&request, chunked ? "\r\n0\r\n\r\n" : "");
            assert_int_equal(push(fd, request.data, request.length), 0);
            end = collect(fd, &out, NULL, 500);
            keeps = strstr(out.data, "Connection: keep-alive") != NULL;
            if (strncmp(out.data, "HTTP/1.1 200", 12) != 0 || out.length < sizes[i] ||
                keeps != (end == STAYS_OPEN))
                fail_msg("%zu bytes, chunked %d: end %d, %.300s", sizes[i], chunked, end, out.data);
            if (keeps) {
                strbuf_reset(&out);
                push(fd, SMUGGLED, strlen(SMUGGLED));
                collect(fd, &out, "hello", 2000);
                assert_non_null(strstr(out.data, "hello"));
            }
            close(fd);
            strbuf_done(&out);
            strbuf_done(&request);
        }
    }
}

static void test_body_refused_while_it_is_sent(void **state)
{
    static const size_t bytes = 40 << 20;
    char *body = xcalloc(1, bytes);
    struct strbuf out;
    int fd = dial(server);
    char head[128];

    (void)state;
    strbuf_init(&out, 65536);
    snprintf(head, sizeof(head), "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n",
             bytes);
    assert_int_equal(push(fd, head, strlen(head)), 0);
    assert_int_equal(push(fd, body, bytes), 0);
    assert_int_equal(collect(fd, &out, NULL, 3000), CLOSED);
    assert_memory_equal(out.data, "HTTP/1.1 413", 12);
    strbuf_done(&out);
    close(fd);
    free(body);
}

static void test_unread_body_closes(void **state)
{
    static const char request[] =
        "POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 35\r\n\r\n" SMUGGLED;
    struct strbuf out;

    (void)state;
    assert_int_equal(ask(request, sizeof(request) - 1, &out, 3000), CLOSED);
    assert_int_equal(count_of(out.data, "HTTP/1.1 "), 1);
    assert_non_null(strstr(out.data, "Connection: close"));
    strbuf_done(&out);
}

static void test_expect_continue(void **state)
{
    static const char head[] =
        "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    static const char refused_head[] =
        "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5000000\r\n\r\n";
    struct strbuf out;
    int fd = dial(server);

    (void)state;
    strbuf_init(&out, 65536);
    push(fd, head, strlen(head));
    collect(fd, &out, "100 Continue\r\n\r\n", 1000);
    assert_string_equal(out.data, "HTTP/1.1 100 Continue\r\n\r\n");
    push(fd, "hello", 5);
    collect(fd, &out, "\r\n\r\nhello", 1000);
    assert_non_null(strstr(out.data, "HTTP/1.1 200"));
    strbuf_done(&out);
    close(fd);

    assert_int_equal(ask(refused_head, strlen(refused_head), &out, 3000), CLOSED);
    assert_memory_equal(out.data, "HTTP/1.1 413", 12);
    strbuf_done(&out);
}

/* ---- many, stack, drain --------------------------------------------------------------------- */

static void *one_of_many(void *arg)
{
    int *ok = arg;
    int fd = dial(server);
    struct strbuf out;

    strbuf_init(&out, 65536);
    for (int i = 0; i < 5; i++) {
        static const char request[] =
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nmarker";

        strbuf_reset(&out);
        if (push(fd, request, strlen(request)) == 0)
            collect(fd, &out, "marker", 10000);
        *ok += strstr(out.data, "\r\n\r\nmarker") != NULL;
    }
    strbuf_done(&out);
    close(fd);
    return NULL;
}

static void test_300_connections(void **state)
{
    enum { MANY = 300 };
    pthread_t threads[MANY];
    int ok[MANY] = {0}, total = 0;

    (void)state;
    for (int i = 0; i < MANY; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, one_of_many, &ok[i]), 0);
    for (int i = 0; i < MANY; i++) {
        pthread_join(threads[i], NULL);
        total += ok[i];
    }
    assert_int_equal(total, MANY * 5);
}

static void test_handler_stack(void **state)
{
    static const char request[] = "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    struct strbuf out;

    (void)state;
    assert_int_equal(ask(request, strlen(request), &out, 2000), CLOSED);
    strbuf_done(&out);
    assert_true(atomic_load(&stack_bytes) >= 512 * 1024);
}

static void test_start_errors(void **state)
{
    char taken[32];
    static const char *const bad[] = {"", "8000s", "[::1]:0", "127.0.0.1:99999", "nonsense:1"};
    struct error err = ERROR_INIT;
    struct httpd_options options = {
        .threads = 1,
        .connection_queue = 1,
        .keep_alive_ms = 1,
        .request_timeout_ms = 1,
        .max_head_bytes = 16384,
        .handler = handle,
        .bad_request = bad_request,
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        options.listen = bad[i];
        assert_null(httpd_start(&options, &err));
        assert_int_equal(err.code, ERR_CONFIG);
    }
    snprintf(taken, sizeof(taken), "127.0.0.1:%d", httpd_port(server));
    options.listen = taken;
    assert_null(httpd_start(&options, &err));
    assert_int_equal(err.code, ERR_CONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_shapes),
        cmocka_unit_test(test_nul_in_head),
        cmocka_unit_test(test_header_limits),
        cmocka_unit_test(test_accepted_shapes),
        cmocka_unit_test(test_keep_alive_and_pipelining),
        cmocka_unit_test(test_large_bodies_and_reuse),
        cmocka_unit_test(test_body_refused_while_it_is_sent),
        cmocka_unit_test(test_unread_body_closes),
        cmocka_unit_test(test_expect_continue),
        cmocka_unit_test(test_300_connections),
        cmocka_unit_test(test_handler_stack),
        cmocka_unit_test(test_start_errors),
    };

    return cmocka_run_group_tests(tests, start_all, stop_all);
}
