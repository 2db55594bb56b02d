/* strbuf, encode, clock, id, error: the small parts that everything is built of. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/id.h"
#include "common/base/service.h"
#include "common/base/strbuf.h"

/* ---- strbuf -------------------------------------------------------------------------------- */

static void test_strbuf_stops_at_its_maximum(void **state)
{
    struct strbuf b;

    (void)state;
    strbuf_init(&b, 5);
    assert_string_equal(b.data, "");
    assert_int_equal(strbuf_puts(&b, "abc"), 0);
    assert_int_equal(strbuf_puts(&b, "def"), -1);
    assert_true(b.overflow);
    assert_string_equal(b.data, "abc");
    assert_int_equal(strbuf_putc(&b, 'd'),
                     -1); /* refused for good, or the text would have a hole */
    strbuf_reset(&b);
    assert_int_equal(strbuf_printf(&b, "%d", 12345), 0);
    assert_string_equal(b.data, "12345");
    assert_int_equal(strbuf_printf(&b, "%s", ""), 0);
    assert_int_equal(strbuf_printf(&b, "x"), -1);
    strbuf_done(&b);
    strbuf_done(&b);
    strbuf_done(NULL);
}

static void test_strbuf_holds_any_bytes(void **state)
{
    struct strbuf b;
    char *taken;

    (void)state;
    strbuf_init(&b, 1 << 20);
    for (int i = 0; i < 3000; i++) {
        assert_int_equal(strbuf_append(&b, "\0a\xff", 3), 0);
    }
    assert_int_equal(b.length, 9000);
    strbuf_consume(&b, 8997);
    assert_int_equal(b.length, 3);
    assert_memory_equal(b.data, "\0a\xff", 4);
    strbuf_consume(&b, 100);
    assert_int_equal(b.length, 0);
    strbuf_puts(&b, "kept");
    taken = strbuf_take(&b);
    assert_string_equal(taken, "kept");
    assert_string_equal(b.data, "");
    free(taken);
    taken = strbuf_take(&b);
    assert_string_equal(taken, "");
    free(taken);
}

static void test_urlencoding(void **state)
{
    struct strbuf b;

    (void)state;
    strbuf_init(&b, 100);
    strbuf_put_urlencoded(&b, "a/B ~%\xc3\xa9", true);
    strbuf_putc(&b, ' ');
    strbuf_put_urlencoded(&b, "a/b", false);
    assert_string_equal(b.data, "a/B%20~%25%C3%A9 a%2Fb");
    strbuf_done(&b);
}

/* ---- encode -------------------------------------------------------------------------------- */

static void test_base64_both_ways(void **state)
{
    /* RFC 4648, section 10 */
    static const char *const pairs[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
    };
    struct error err = ERROR_INIT;
    struct strbuf b;

    (void)state;
    strbuf_init(&b, 64);
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        strbuf_reset(&b);
        assert_int_equal(encode_base64(&b, pairs[i][0], strlen(pairs[i][0])), 0);
        assert_string_equal(b.data, pairs[i][1]);
        strbuf_reset(&b);
        assert_int_equal(decode_base64(&b, pairs[i][1], strlen(pairs[i][1]), &err), 0);
        assert_string_equal(b.data, pairs[i][0]);
    }
    strbuf_done(&b);
}

static void test_base64_refuses(void **state)
{
    static const char *const bad[] = {"Z",    "Zg",   "Zg=",      "Zg==\n",
                                      "Z===", "Zm9-", "Zg==Zg==", "===="};
    struct error err = ERROR_INIT;
    struct strbuf b;

    (void)state;
    strbuf_init(&b, 2);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(decode_base64(&b, bad[i], strlen(bad[i]), &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
    }
    assert_int_equal(decode_base64(&b, "Zm9v", 4, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    strbuf_done(&b);
}

static void test_utf8(void **state)
{
    (void)state;
    assert_true(utf8_is_valid("", 0));
    assert_true(utf8_is_valid("a\0b", 3));
    assert_true(utf8_is_valid("\xf4\x8f\xbf\xbf", 4));
    assert_true(utf8_is_valid("\xed\x9f\xbf\xee\x80\x80", 6));
    assert_int_equal(utf8_valid_prefix("ab\xe2\x82", 4), 2); /* cut in the middle */
    assert_int_equal(utf8_valid_prefix("\x80", 1), 0);
    assert_int_equal(utf8_valid_prefix("a\xc1\xbf", 3), 1);
    assert_int_equal(utf8_valid_prefix("\xe0\x9f\xbf", 3), 0);
    assert_int_equal(utf8_valid_prefix("\xf0\x8f\xbf\xbf", 4), 0);
    assert_int_equal(utf8_valid_prefix("\xed\xbf\xbf", 3), 0);
    assert_int_equal(utf8_valid_prefix("\xf5\x80\x80\x80", 4), 0);
}

static void test_percent_decoding(void **state)
{
    static const struct {
        const char *in, *out;
        bool plus;
        long length;
    } cases[] = {
        {"a%20b+c", "a b+c", false, 5},
        {"a+b", "a b", true, 3},
        {"%2f%2F%c3%A9", "//\xc3\xa9", false, 4},
        {"%", NULL, false, -1},
        {"%4", NULL, false, -1},
        {"%zz", NULL, false, -1},
        {"%4%31", NULL, false, -1},
        {"x%00", NULL, false, -1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[32];

        str_copy(text, sizeof(text), cases[i].in);
        assert_int_equal(percent_decode(text, cases[i].plus), cases[i].length);
        if (cases[i].out != NULL) {
            assert_string_equal(text, cases[i].out);
        }
    }
}

static void test_sha256(void **state)
{
    char hex[SHA256_HEX_BYTES];

    (void)state;
    sha256_hex("abc", 3, hex); /* FIPS 180-2, appendix B.1 */
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

/* ---- clock --------------------------------------------------------------------------------- */

static void test_rfc3339(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"2026-01-02T03:04:05.678Z", 1767323045678},
        {"2026-01-02t04:04:05.678901234+01:00", 1767323045678},
        {"2026-01-01 21:34:05.6-05:30", 1767323045600},
        {"2024-02-29T00:00:00Z", 1709164800000},
        {"1969-12-31T23:59:59.999Z", -1},
    };
    static const char *const bad[] = {
        "",
        "2026-01-02",
        "2026-01-02T03:04:05",
        "2026-13-02T03:04:05Z",
        "2026-00-02T03:04:05Z",
        "2026-01-32T03:04:05Z",
        "2026-01-02T24:04:05Z",
        "2026-01-02T03:60:05Z",
        "2026-01-02T03:04:05.Z",
        "2026-01-02T03:04:05Zx",
        "2026-01-02T03:04:05+1:00",
        "2026-01-02T03:04:05+24:00",
        "26-01-02T03:04:05Z",
        "2026-1-2T03:04:05Z",
    };
    char text[CLOCK_RFC3339_BYTES];
    int64_t ms;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(clock_parse_rfc3339(good[i].text, &ms), 0);
        assert_int_equal(ms, good[i].ms);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (clock_parse_rfc3339(bad[i], &ms) == 0) {
            fail_msg("accepted %s", bad[i]);
        }
    }
    assert_string_equal(clock_format_rfc3339(1767323045678, text), "2026-01-02T03:04:05.678Z");
    assert_string_equal(clock_format_rfc3339(-1, text), "1969-12-31T23:59:59.999Z");
}

static void test_time_can_be_moved_in_tests(void **state)
{
    int64_t mono = clock_mono_ms(), wall = clock_wall_ms();

    (void)state;
    clock_test_advance_ms(60000);
    assert_in_range(clock_mono_ms() - mono, 60000, 61000);
    assert_in_range(clock_wall_ms() - wall, 60000, 61000);
    clock_test_advance_ms(-60000);
}

static void test_sleep_sleeps(void **state)
{
    int64_t from = clock_mono_us();

    (void)state;
    clock_sleep_ms(20);
    assert_true(clock_mono_us() - from >= 20000);
    clock_sleep_ms(0);
    clock_sleep_ms(-5);
}

/* ---- id ------------------------------------------------------------------------------------ */

static void test_uuids(void **state)
{
    char one[UUID_BYTES], two[UUID_BYTES];

    (void)state;
    id_uuid(one);
    id_uuid(two);
    assert_true(id_is_uuid_lower(one));
    assert_int_equal(one[14], '4');
    assert_non_null(strchr("89ab", one[19]));
    assert_string_not_equal(one, two);
    one[0] = 'A';
    assert_true(id_is_uuid(one));
    assert_false(id_is_uuid_lower(one));
    id_lower(one);
    assert_true(id_is_uuid_lower(one));
    assert_false(id_is_uuid(""));
    assert_false(id_is_uuid("00000000-0000-0000-0000-00000000000"));
    assert_false(id_is_uuid("00000000-0000-0000-0000-0000000000000"));
    assert_false(id_is_uuid("00000000-0000-0000-0000-00000000000g"));
    assert_false(id_is_uuid("000000000000-0000-0000-0000-00000000"));
}

static void test_random(void **state)
{
    char text[33];
    int seen[4] = {0};

    (void)state;
    id_random_alnum(text, 32);
    assert_int_equal(strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789"), 32);
    for (int i = 0; i < 400; i++) {
        uint32_t n = id_random_below(4);

        assert_in_range(n, 0, 3);
        seen[n]++;
    }
    for (int i = 0; i < 4; i++) {
        assert_in_range(seen[i], 40, 200);
    }
    assert_int_equal(id_hash64("a", 1), 0xaf63dc4c8601ec8cULL); /* the FNV-1a test vector */
}

/* ---- error --------------------------------------------------------------------------------- */

static void test_messages_are_cut_at_a_character(void **state)
{
    struct error err = ERROR_INIT;
    char text[ERROR_MESSAGE_BYTES + 20];

    (void)state;
    memset(text, 'x', sizeof(text));
    text[ERROR_MESSAGE_BYTES - 2] = (char)0xc3;
    text[ERROR_MESSAGE_BYTES - 1] = (char)0xa9;
    text[ERROR_MESSAGE_BYTES] = '\0';
    assert_int_equal(error_set(&err, ERR_INVALID, "%s", text), -1);
    assert_int_equal(strlen(err.message), ERROR_MESSAGE_BYTES - 2);
    assert_int_equal(error_prefix(&err, "field %d", 7), -1);
    assert_memory_equal(err.message, "field 7: xxx", 12);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(error_set_errno(&err, ERR_INTERNAL, 2, "open %s", "f"), -1);
    assert_string_equal(err.message, "open f: No such file or directory");
}

static void test_every_code_has_a_name_and_a_status(void **state)
{
    (void)state;
    for (int i = 0; i < ERR_COUNT; i++) {
        int status = error_code_http_status((enum error_code)i);

        assert_non_null(error_code_name((enum error_code)i));
        assert_true(status >= 200 && status <= 599);
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(error_code_name((enum error_code)i),
                                    error_code_name((enum error_code)j));
        }
    }
}

static int setup(void **state)
{
    struct error err = ERROR_INIT;
    int fd;

    (void)state;
    return service_init(&fd, &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strbuf_stops_at_its_maximum),
        cmocka_unit_test(test_strbuf_holds_any_bytes),
        cmocka_unit_test(test_urlencoding),
        cmocka_unit_test(test_base64_both_ways),
        cmocka_unit_test(test_base64_refuses),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_percent_decoding),
        cmocka_unit_test(test_sha256),
        cmocka_unit_test(test_rfc3339),
        cmocka_unit_test(test_time_can_be_moved_in_tests),
        cmocka_unit_test(test_sleep_sleeps),
        cmocka_unit_test(test_uuids),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_messages_are_cut_at_a_character),
        cmocka_unit_test(test_every_code_has_a_name_and_a_status),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
