/*
 * The Connect stream parser over every split of known streams, its end-of-stream message, and the
 * decoding of error bodies with string and with integer codes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/provider/connect_rpc.h"

struct seen {
    struct strbuf text; /* the messages, each followed by '\n' */
    int stop_after;     /* -1 = never */
    int count;
};

static int on_message(void *arg, const char *json, size_t bytes, struct error *err)
{
    struct seen *seen = arg;
    (void)err;
    strbuf_append(&seen->text, json, bytes);
    strbuf_putc(&seen->text, '\n');
    return ++seen->count == seen->stop_after ? -1 : 0;
}

/* start, data, keepalive, an empty message, end, end of stream, and bytes behind it */
static const unsigned char capture[] =
    "\0\0\0\0\x1e{\"event\":{\"start\":{\"pid\":42}}}"
    "\0\0\0\0\x24{\"event\":{\"data\":{\"stdout\":\"aGkK\"}}}"
    "\0\0\0\0\x1a{\"event\":{\"keepalive\":{}}}"
    "\0\0\0\0\0"
    "\0\0\0\0\x3a{\"event\":{\"end\":{\"exited\":true,\"status\":\"exit status 0\"}}}"
    "\x02\0\0\0\x02{}"
    "\xff\xff\xff\xff\xffgarbage after the end";
static const char messages[] = "{\"event\":{\"start\":{\"pid\":42}}}\n"
                               "{\"event\":{\"data\":{\"stdout\":\"aGkK\"}}}\n"
                               "{\"event\":{\"keepalive\":{}}}\n"
                               "{\"event\":{\"end\":{\"exited\":true,\"status\":\"exit status "
                               "0\"}}}\n";

static void feed_split(const unsigned char *data, size_t bytes, size_t first, size_t second)
{
    struct connect_stream stream;
    struct seen seen = {.stop_after = -1};
    struct error err = ERROR_INIT;
    strbuf_init(&seen.text, 4096);
    connect_stream_init(&stream, 1024);
    assert_int_equal(connect_stream_feed(&stream, data, first, on_message, &seen, &err), 0);
    assert_int_equal(
        connect_stream_feed(&stream, data + first, second - first, on_message, &seen, &err), 0);
    assert_int_equal(
        connect_stream_feed(&stream, data + second, bytes - second, on_message, &seen, &err), 0);
    assert_string_equal(seen.text.data, messages);
    assert_true(stream.ended);
    assert_int_equal(stream.end.code, CONNECT_NONE);
    connect_stream_done(&stream);
    strbuf_done(&seen.text);
}

static void test_every_split(void **state)
{
    (void)state;
    size_t bytes = sizeof(capture) - 1;
    for (size_t first = 0; first <= bytes; first++) {
        for (size_t second = first; second <= bytes; second++)
            feed_split(capture, bytes, first, second);
    }
}

static void test_byte_by_byte(void **state)
{
    (void)state;
    struct connect_stream stream;
    struct seen seen = {.stop_after = -1};
    struct error err = ERROR_INIT;
    strbuf_init(&seen.text, 4096);
    connect_stream_init(&stream, 1024);
    for (size_t i = 0; i < sizeof(capture) - 1; i++)
        assert_int_equal(connect_stream_feed(&stream, capture + i, 1, on_message, &seen, &err), 0);
    assert_string_equal(seen.text.data, messages);
    assert_true(stream.ended);
    connect_stream_done(&stream);
    strbuf_done(&seen.text);
}

/* An end-of-stream envelope of length 0 is complete with its head. */
static void test_empty_end(void **state)
{
    (void)state;
    struct connect_stream stream;
    struct seen seen = {.stop_after = -1};
    struct error err = ERROR_INIT;
    strbuf_init(&seen.text, 64);
    connect_stream_init(&stream, 1024);
    assert_int_equal(connect_stream_feed(&stream, "\x02\0\0\0", 4, on_message, &seen, &err), 0);
    assert_false(stream.ended);
    assert_int_equal(connect_stream_feed(&stream, "\0", 1, on_message, &seen, &err), 0);
    assert_true(stream.ended);
    assert_int_equal(seen.count, 0);
    connect_stream_done(&stream);
    strbuf_done(&seen.text);
}

static void test_end_error(void **state)
{
    (void)state;
    static const char data[] = "\x02\0\0\0\x4c{\"error\":{\"code\":\"deadline_exceeded\","
                               "\"message\":\"context deadline exceeded\"}}";
    struct connect_stream stream;
    struct error err = ERROR_INIT;
    connect_stream_init(&stream, 1024);
    assert_int_equal(connect_stream_feed(&stream, data, sizeof(data) - 1, on_message, NULL, &err),
                     0);
    assert_true(stream.ended);
    assert_int_equal(stream.end.code, CONNECT_DEADLINE_EXCEEDED);
    assert_true(stream.end.from_rpc);
    assert_string_equal(stream.end.message, "context deadline exceeded");
    connect_stream_done(&stream);
}

static int feed_bad(const char *data, size_t bytes)
{
    struct connect_stream stream;
    struct seen seen = {.stop_after = -1};
    struct error err = ERROR_INIT;
    strbuf_init(&seen.text, 4096);
    connect_stream_init(&stream, 1024);
    int rc = connect_stream_feed(&stream, data, bytes, on_message, &seen, &err);
    if (rc != 0)
        assert_int_equal(err.code, ERR_PROVIDER);
    connect_stream_done(&stream);
    strbuf_done(&seen.text);
    return rc;
}

static void test_refused(void **state)
{
    (void)state;
    assert_int_equal(feed_bad("\x01\0\0\0\x02{}", 7), -1); /* compressed */
    assert_int_equal(feed_bad("\0\0\0\x04\x01", 5), -1);   /* 1025 bytes: over the limit */
    assert_int_equal(feed_bad("\0\xff\xff\xff\xff", 5), -1);
    assert_int_equal(feed_bad("{\"code\":1}", 10), -1); /* no envelope at all */
    assert_int_equal(feed_bad("\x02\0\0\0\x03{]}", 8), -1);
    assert_int_equal(feed_bad("\0\0\0\x04\0", 5), 0); /* 1024 bytes announced: fine so far */
}

static void test_stop(void **state)
{
    (void)state;
    struct connect_stream stream;
    struct seen seen = {.stop_after = 2};
    struct error err = ERROR_INIT;
    strbuf_init(&seen.text, 4096);
    connect_stream_init(&stream, 1024);
    assert_int_equal(
        connect_stream_feed(&stream, capture, sizeof(capture) - 1, on_message, &seen, &err), -1);
    assert_int_equal(seen.count, 2);
    connect_stream_done(&stream);
    strbuf_done(&seen.text);
}

static void test_put(void **state)
{
    (void)state;
    struct strbuf out;
    strbuf_init(&out, 200);
    static const char json[] =
        "{\"process\":{\"cmd\":\"/bin/bash\",\"args\":[\"-l\",\"-c\",\"echo hi\"]},"
        "\"stdin\":false}";
    assert_int_equal(connect_envelope_put(&out, json, sizeof(json) - 1), 0);
    assert_int_equal(out.length, 79);
    assert_memory_equal(out.data, "\0\0\0\0\x4a{\"process\"", 15);
    assert_int_equal(connect_envelope_put(&out, json, 150), -1);
    strbuf_done(&out);
}

static void decode(int status, const char *body, struct connect_error *ret)
{
    connect_error_decode(status, body, strlen(body), ret);
}

static void test_error_bodies(void **state)
{
    (void)state;
    struct connect_error error;
    decode(404, "{\"code\":\"not_found\",\"message\":\"no such process\"}", &error);
    assert_int_equal(error.code, CONNECT_NOT_FOUND);
    assert_true(error.from_rpc);
    assert_string_equal(error.message, "no such process");
    decode(401, "{\"code\":401,\"message\":\"unauthorized access\"}", &error);
    assert_int_equal(error.code, CONNECT_UNAUTHENTICATED);
    assert_false(error.from_rpc);
    assert_string_equal(error.message, "unauthorized access");
    decode(400, "{\"code\":\"failed_precondition\",\"message\":\"loop\"}", &error);
    assert_int_equal(error.code, CONNECT_FAILED_PRECONDITION);
    decode(500, "{\"code\":\"brand_new_code\",\"message\":\"?\"}", &error);
    assert_int_equal(error.code, CONNECT_UNKNOWN);
    assert_true(error.from_rpc);
    decode(502, "Failed to route request to sandbox", &error);
    assert_int_equal(error.code, CONNECT_UNAVAILABLE);
    assert_string_equal(error.message, "Failed to route request to sandbox");
    decode(429, "<html>\n", &error);
    assert_int_equal(error.code, CONNECT_RESOURCE_EXHAUSTED);
    assert_string_equal(error.message, "<html>?");
    decode(405, "", &error);
    assert_int_equal(error.code, CONNECT_UNKNOWN);
    assert_string_equal(error.message, "");
    static const int statuses[][2] = {
        {400, CONNECT_INVALID_ARGUMENT},   {403, CONNECT_PERMISSION_DENIED},
        {404, CONNECT_NOT_FOUND},          {409, CONNECT_ALREADY_EXISTS},
        {413, CONNECT_RESOURCE_EXHAUSTED}, {503, CONNECT_UNAVAILABLE},
        {504, CONNECT_DEADLINE_EXCEEDED},
    };
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        decode(statuses[i][0], "x", &error);
        assert_int_equal(error.code, statuses[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_split), cmocka_unit_test(test_byte_by_byte),
        cmocka_unit_test(test_empty_end),   cmocka_unit_test(test_end_error),
        cmocka_unit_test(test_refused),     cmocka_unit_test(test_stop),
        cmocka_unit_test(test_put),         cmocka_unit_test(test_error_bodies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
