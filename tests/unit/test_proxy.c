/*
 * Unit tests of what the proxy decides without a socket: where a request goes, how a
 * head is rewritten, how far a body goes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/proxy/head.h"
#include "common/proxy/route.h"
#include "common/proxy/signature.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- routes ---- */

static void test_where_a_request_goes(void **state)
{
    static const struct {
        const char *host, *id, *port;
        enum route_kind kind;
        const char *to;
        int to_port;
    } cases[] = {
        {"8000-iabc1.localhost:3900", NULL, NULL, ROUTE_SANDBOX, "iabc1", 8000},
        {"8000-iabc1-6532622b.e2b.app", NULL, NULL, ROUTE_SANDBOX, "iabc1", 8000},
        {"65535-a.b", NULL, NULL, ROUTE_SANDBOX, "a", 65535},
        {"8000-0123456789abcdef0123456789abcdef-to-ken.localhost", NULL, NULL, ROUTE_SANDBOX,
         "0123456789abcdef0123456789abcdef", 8000},
        /* a name of a sandbox decides over headers */
        {"80-one.localhost", "two", "81", ROUTE_SANDBOX, "one", 80},
        {"localhost:3900", "two", "81", ROUTE_SANDBOX, "two", 81},
        {"127.0.0.1", "two-client", "49983", ROUTE_SANDBOX, "two", 49983},
        {"sandbox.e2b.app", "two", "81", ROUTE_SANDBOX, "two", 81},
        {"sandbox-host", "two", "81", ROUTE_SANDBOX, "two", 81},
        /* elsewhere the headers count for nothing */
        {"api.e2b.app", "two", "81", ROUTE_API, NULL, 0},
        {NULL, "two", "81", ROUTE_API, NULL, 0},
        {"localhost", NULL, NULL, ROUTE_API, NULL, 0},
        {"0-a.localhost", NULL, NULL, ROUTE_API, NULL, 0},
        {"65536-a.localhost", NULL, NULL, ROUTE_API, NULL, 0},
        {"80-A.localhost", NULL, NULL, ROUTE_API, NULL, 0},
        {"80-.localhost", NULL, NULL, ROUTE_API, NULL, 0},
        {"80-abc", NULL, NULL, ROUTE_API, NULL, 0},
        {"80-abc:1.x", NULL, NULL, ROUTE_API, NULL, 0},
        {"80-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.localhost", NULL, NULL, ROUTE_API, NULL, 0},
        {"localhost", "two", NULL, ROUTE_BAD, NULL, 0},
        {"localhost", NULL, "81", ROUTE_BAD, NULL, 0},
        {"localhost", "../two", "81", ROUTE_BAD, NULL, 0},
        {"localhost", "two", "81x", ROUTE_BAD, NULL, 0},
        {"localhost", "two", "", ROUTE_BAD, NULL, 0},
        {"localhost", "", "81", ROUTE_BAD, NULL, 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct route_target target = {.port = 0};

        assert_int_equal(route_request(cases[i].host, cases[i].id, cases[i].port, &target),
                         cases[i].kind);
        if (cases[i].kind == ROUTE_SANDBOX) {
            assert_string_equal(target.id, cases[i].to);
            assert_int_equal(target.port, cases[i].to_port);
        }
    }
}

static void test_a_host_name_carries_a_suffix(void **state)
{
    static const struct {
        const char *host, *suffix;
    } cases[] = {
        {"80-abc.localhost", ""},
        {"80-abc-.localhost", ""},
        {"80-abc-6532622b.localhost:3900", "6532622b"},
        {"80-abc-a-b.localhost", "a-b"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct route_target target = {.suffix = "left"};

        assert_int_equal(route_request(cases[i].host, NULL, NULL, &target), ROUTE_SANDBOX);
        assert_string_equal(target.suffix, cases[i].suffix);
    }
}

static void test_a_host_is_masked(void **state)
{
    static const struct {
        const char *mask, *host; /* host NULL = not valid */
    } cases[] = {
        {"example.com", "example.com"},
        {"localhost:${PORT}", "localhost:65535"},
        {"${PORT}", "65535"},
        {"${PORT}-a.b:${PORT}", "65535-a.b:65535"},
        {"[::1]:80", "[::1]:80"},
        {"", NULL},
        {"a b", NULL},
        {"a\r\nX-Evil: 1", NULL},
        {"a/b", NULL},
        {"$PORT", NULL},
        {"a${PORT", NULL},
        {"ex\xc3\xa4mple.com", NULL},
    };
    char host[ROUTE_MASK_BYTES], longest[ROUTE_MASK_BYTES + 1];

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_int_equal(route_mask_valid(cases[i].mask), cases[i].host != NULL);
        if (cases[i].host != NULL) {
            route_mask_host(cases[i].mask, 65535, host);
            assert_string_equal(host, cases[i].host);
        }
    }
    memset(longest, 'a', sizeof(longest));
    longest[ROUTE_MASK_BYTES] = '\0';
    assert_false(route_mask_valid(longest));
    longest[ROUTE_MASK_BYTES - 1] = '\0';
    assert_true(route_mask_valid(longest));
    route_mask_host(longest, 1, host);
    assert_string_equal(host, longest);
}

static void test_signed_urls(void **state)
{
    char made[SIGNATURE_BYTES];
    struct route_signed *url = malloc(sizeof(*url));

    (void)state;
    assert_non_null(url);
    /* worked out with E2B's SDK */
    signature_make("/a.txt", "read", "user", "tok123", "1700000000", made);
    assert_string_equal(made, "v1_BKQlYn/mQEr8PI+cLsGkWBYcK8gNswt6OrQSOMuCqag");
    assert_true(route_signed_parse("GET", "/files",
                                   "path=%2Fa.txt&username=user&signature_expiration=1700000000&"
                                   "signature=v1_BKQlYn%2FmQEr8PI%2BcLsGkWBYcK8gNswt6OrQSOMuCqag",
                                   url));
    assert_true(route_signed_matches(url, "tok123"));
    assert_false(route_signed_matches(url, "tok124"));
    url->upload = true; /* a read's signature does not write */
    assert_false(route_signed_matches(url, "tok123"));
    assert_false(route_signed_parse("GET", "/files", "path=x", url));
    assert_false(route_signed_parse("GET", "/other", "path=x&signature=v1_x", url));
    assert_false(route_signed_parse("DELETE", "/files", "path=x&signature=v1_x", url));
    assert_false(route_signed_parse("GET", "/files", "path=%zz&signature=v1_x", url));
    free(url);
}

/* ---- heads ---- */

static void test_a_head_is_rewritten(void **state)
{
    static const char head[] =
        "GET http://h/a?b HTTP/1.1\r\nHost: h\r\nconnection: keep-alive, X-Hop\r\n"
        "X-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nX-Stay: 2\r\n\r\n";
    static const char upgrade[] =
        "GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    static const struct {
        const char *head;
        struct head_edit edit;
        const char *rewritten;
    } cases[] = {
        {head,
         {.connection = "close", .set = "X-More: 3\r\n"},
         "GET http://h/a?b HTTP/1.1\r\nHost: h\r\nX-Stay: 2\r\nConnection: close\r\nX-More: "
         "3\r\n\r\n"},
        {upgrade, {.upgrade = true}, upgrade},
        {"GET / HTTP/1.1\r\nhost: a\r\nX-Host: b\r\nHOST: c\r\n\r\n",
         {.connection = "close", .host = "masked:80"},
         "GET / HTTP/1.1\r\nHost: masked:80\r\nX-Host: b\r\nConnection: close\r\n\r\n"},
        {upgrade,
         {.upgrade = true, .host = "masked"},
         "GET /ws HTTP/1.1\r\nHost: masked\r\nConnection: Upgrade\r\nUpgrade: "
         "websocket\r\n\r\n"},
        /* headers that frame the body stay, even if Connection names them */
        {"POST / HTTP/1.1\r\nConnection: Content-Length\r\nContent-Length: 1\r\n\r\n",
         {.connection = "close"},
         "POST / HTTP/1.1\r\nContent-Length: 1\r\nConnection: close\r\n\r\n"},
        /* a token of ours becomes the provider's, however often the client sent it */
        {"GET /files?signature=v1_x HTTP/1.1\r\nx-access-token: ours\r\nX-ACCESS-TOKEN: b\r\n"
         "X-Access-Tokens: c\r\nCookie: d\r\nCookies: e\r\nAuthorization: f\r\n\r\n",
         {.connection = "close",
          .path = "/files?a",
          .set = "X-Access-Token: theirs\r\nX-Other: 1\r\n",
          .drop = "cookie, authorization"},
         "GET /files?a HTTP/1.1\r\nX-Access-Tokens: c\r\nCookies: e\r\nConnection: close\r\n"
         "X-Access-Token: theirs\r\nX-Other: 1\r\n\r\n"},
        {"odd\r\nA: b\r\n\r\n",
         {.connection = "close", .path = "/x"},
         "odd\r\nA: b\r\nConnection: close\r\n\r\n"},
    };
    struct strbuf out;
    char path[16], query[16];

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        strbuf_init(&out, HEAD_MAX_BYTES);
        head_rewrite(cases[i].head, &cases[i].edit, &out);
        assert_string_equal(out.data, cases[i].rewritten);
        strbuf_done(&out);
    }
    assert_true(head_target(head, path, sizeof(path), query, sizeof(query)));
    assert_string_equal(path, "/a");
    assert_string_equal(query, "b");
    assert_true(head_keeps_alive(head));
    assert_false(head_keeps_alive("GET / HTTP/1.0\r\n\r\n"));
    assert_false(head_keeps_alive("GET / HTTP/1.1\r\nConnection: x, CLOSE\r\n\r\n"));
    assert_int_equal(head_status("HTTP/1.1 204 No Content\r\n\r\n"), 204);
    assert_int_equal(head_status("HTTP/2 204\r\n\r\n"), 0);
    assert_int_equal(head_status("GET / HTTP/1.1\r\n\r\n"), 0);
}

static void test_ambiguous_requests_are_refused(void **state)
{
    static const char *const lines[] = {
        "Content-Length: 1\r\nTransfer-Encoding: chunked",
        "Content-Length: 1\r\nContent-Length: 1",
        "Content-Length: -1",
        "Content-Length: +1",
        "Content-Length: 1 1",
        "Content-Length:",
        "Content-Length: 9999999999999999999",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: identity",
    };
    struct body_scan scan;
    char head[256];

    (void)state;
    for (size_t i = 0; i < COUNT(lines); i++) {
        snprintf(head, sizeof(head), "POST / HTTP/1.1\r\n%s\r\n\r\n", lines[i]);
        assert_false(body_scan_request(&scan, head));
    }
}

static void test_bodies_end_where_they_end(void **state)
{
    static const struct {
        const char *head, *body;
        size_t taken;
        int end;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "abcdef", 3, BODY_DONE},
        {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "abcdef", 6, CHUNK_DATA},
        {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "abc", 0, BODY_DONE},
        {"HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\n", "abc", 0, BODY_DONE},
        {"HTTP/1.1 304 No\r\n\r\n", "abc", 0, BODY_DONE},
        {"HTTP/1.1 200 OK\r\n\r\n", "abcdef", 6, CHUNK_DATA},
        /* two lengths: until the connection ends, which no other answer can follow */
        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "abc", 3, CHUNK_DATA},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "3\r\nabc\r\n0\r\n\r\nmore", 13,
         BODY_DONE},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
         "a;x=\"y\"\r\n0123456789\r\n0\r\nT: 1\r\n\r\n", 32, BODY_DONE},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "3\r\nab", 5, CHUNK_DATA},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "x\r\n", 1, BODY_BROKEN},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "3 3\r\n", 5, CHUNK_DATA},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "fffffffffffffff0\r\n", 16,
         BODY_BROKEN},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "\r\n", 1, BODY_BROKEN},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct body_scan whole, split;
        size_t at = 0;

        body_scan_response(&whole, cases[i].head, false);
        split = whole;
        assert_int_equal(body_scan_feed(&whole, cases[i].body, strlen(cases[i].body)),
                         cases[i].taken);
        assert_int_equal(whole.state, cases[i].end);
        while (cases[i].body[at] != '\0' && body_scan_feed(&split, cases[i].body + at, 1) == 1) {
            at++;
        }
        assert_int_equal(at, cases[i].taken);
        assert_int_equal(split.state, cases[i].end);
        /* an answer to HEAD has none */
        body_scan_response(&whole, cases[i].head, true);
        assert_int_equal(whole.state, BODY_DONE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_where_a_request_goes),
        cmocka_unit_test(test_a_host_name_carries_a_suffix),
        cmocka_unit_test(test_a_host_is_masked),
        cmocka_unit_test(test_signed_urls),
        cmocka_unit_test(test_a_head_is_rewritten),
        cmocka_unit_test(test_ambiguous_requests_are_refused),
        cmocka_unit_test(test_bodies_end_where_they_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
