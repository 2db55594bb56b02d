/* websocket: the accept key, and frames that browsers, and others, may send. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/proxy/websocket.h"

static void test_accept_key_is_that_of_the_rfc(void **state)
{
    char accept[WEBSOCKET_ACCEPT_BYTES];

    (void)state;
    websocket_accept("dGhlIHNhbXBsZSBub25jZQ==", accept);
    assert_string_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    websocket_accept("x", accept); /* short enough for one block */
    assert_int_equal(strlen(accept), 28);
}

/* A client's frame of `bytes` times 'a'. */
static size_t make_frame(char *out, unsigned first, size_t bytes)
{
    static const char mask[] = {0x11, 0x22, 0x33, 0x44};
    size_t at = 0;

    out[at++] = (char)first;
    if (bytes > 65535) {
        out[at++] = (char)(0x80 | 127);
        for (int i = 7; i >= 0; i--) {
            out[at++] = (char)((uint64_t)bytes >> (8 * i));
        }
    } else if (bytes > 125) {
        out[at++] = (char)(0x80 | 126);
        out[at++] = (char)(bytes >> 8);
        out[at++] = (char)bytes;
    } else {
        out[at++] = (char)(0x80 | bytes);
    }
    memcpy(out + at, mask, sizeof(mask));
    at += sizeof(mask);
    for (size_t i = 0; i < bytes; i++) {
        out[at++] = (char)('a' ^ mask[i % 4]);
    }
    return at;
}

static void test_frames_are_read_whole_whatever_their_length(void **state)
{
    static const size_t sizes[] = {0, 1, 125, 126, 65535, 65536, WEBSOCKET_FRAME_MAX_BYTES};
    char *data = xmalloc(WEBSOCKET_FRAME_MAX_BYTES + WEBSOCKET_HEAD_BYTES);
    struct websocket_frame frame;

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const size_t length = make_frame(data, 0x80 | WEBSOCKET_BINARY, sizes[i]);

        for (size_t part = 0; part < length; part += part < 20 ? 1 : length / 7 + 1) {
            assert_int_equal(websocket_parse(data, part, &frame), 0);
        }
        assert_int_equal(websocket_parse(data, length - 1, &frame), 0);
        assert_int_equal(websocket_parse(data, length, &frame), length);
        assert_true(frame.is_final && frame.opcode == WEBSOCKET_BINARY);
        assert_int_equal(frame.bytes, sizes[i]);
        for (size_t at = 0; at < frame.bytes; at++) {
            assert_int_equal(frame.data[at], 'a');
        }
    }
    free(data);
}

static void test_what_breaks_the_protocol_is_refused(void **state)
{
    static const struct {
        const char *what;
        unsigned char bytes[10];
    } cases[] = {{"no mask", {0x82, 0x01}},
                 {"an extension's bit", {0xc2, 0x81}},
                 {"an unknown kind", {0x83, 0x81}},
                 {"an unknown control", {0x8b, 0x80}},
                 {"a ping in pieces", {0x09, 0x80}},
                 {"a long ping", {0x89, 0xfe}},
                 {"too long", {0x82, 0xff, 0, 0, 0, 0, 0, 0x04, 0, 0x01}},
                 {"negative", {0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}};
    struct websocket_frame frame;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char data[sizeof(cases[i].bytes)];

        memcpy(data, cases[i].bytes, sizeof(data));
        if (websocket_parse(data, sizeof(data), &frame) != -1) {
            fail_msg("%s was taken", cases[i].what);
        }
    }
}

static void test_a_servers_frames(void **state)
{
    static char data[70000];
    struct strbuf out;

    (void)state;
    strbuf_init(&out, sizeof(data) + 16);
    websocket_put(&out, WEBSOCKET_TEXT, "hi", 2);
    assert_int_equal(out.length, 4);
    assert_memory_equal(out.data, "\x81\x02hi", 4);
    strbuf_reset(&out);
    websocket_put(&out, WEBSOCKET_BINARY, data, 126);
    assert_memory_equal(out.data, "\x82\x7e\x00\x7e", 4);
    assert_int_equal(out.length, 130);
    strbuf_reset(&out);
    websocket_put(&out, WEBSOCKET_BINARY, data, 65536);
    assert_memory_equal(out.data, "\x82\x7f\0\0\0\0\0\x01\0\0", 10);
    assert_int_equal(out.length, 65546);
    strbuf_reset(&out);
    websocket_put_close(&out, 4001, "taken");
    assert_memory_equal(out.data, "\x88\x07\x0f\xa1taken", 9);
    strbuf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accept_key_is_that_of_the_rfc),
        cmocka_unit_test(test_frames_are_read_whole_whatever_their_length),
        cmocka_unit_test(test_what_breaks_the_protocol_is_refused),
        cmocka_unit_test(test_a_servers_frames),
    };

    return cmocka_run_group_tests_name("websocket", tests, NULL, NULL);
}
