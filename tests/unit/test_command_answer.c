/* command_answer: what the command runner says, in every split. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/encode.h"
#include "common/provider/command_answer.h"

#define ID "0c5b0000-0000-4000-8000-000000000001"

/* What on_output was given. */
struct seen {
    char out[256], err[256];
    int64_t omitted, next;
    int calls, stop_after; /* 0 = never */
};

static int take(void *arg, enum exec_stream stream, const void *data, size_t bytes, int64_t next)
{
    struct seen *seen = arg;

    if (data == NULL) {
        seen->omitted += (int64_t)bytes;
    } else {
        char *to = stream == EXEC_STDERR ? seen->err : seen->out;
        const size_t used = strlen(to);

        assert_true(used + bytes < sizeof(seen->out));
        memcpy(to + used, data, bytes);
    }
    seen->next = next;
    return ++seen->calls == seen->stop_after;
}

struct fixture {
    struct command_answer answer;
    struct command_status status;
    struct seen seen;
};

static void begin(struct fixture *fixture, bool base64, int64_t after)
{
    *fixture = (struct fixture){.status = {.next = after}};
    fixture->answer = (struct command_answer){.id = ID,
                                              .base64 = base64,
                                              .on_output = take,
                                              .arg = &fixture->seen,
                                              .status = &fixture->status};
    command_answer_init(&fixture->answer);
}

/* Feeds the text in pieces of `piece` bytes. */
static int feed(struct fixture *fixture, const char *text, size_t piece, struct error *err)
{
    const size_t length = strlen(text);
    int rc = 0;

    for (size_t at = 0; at < length && rc == 0; at += piece) {
        rc = command_answer_feed(&fixture->answer, text + at,
                                 length - at < piece ? length - at : piece, err);
    }
    return rc;
}

static void test_output_and_state_in_every_split(void **state)
{
    static const char raw[] = "noise of a login file\n@@" ID "\nP 42\nD1 5\nhe\nloD2 3\nerrG 100\n"
                              "D1 1\n!S 209 0 exited 42 7 0 1 209 106 3 1000 2000 950 77 78\nX\n";
    static const char coded[] =
        "noise\n@@" ID "\nP 42\nD1 5\naGUKbG8=\nD2 3\nZXJy\nG 100\nD1 1\nIQ==\n"
        "S 209 0 exited 42 7 0 1 209 106 3 1000 2000 950 77 78\n";

    (void)state;
    for (size_t piece = 1; piece < sizeof(raw); piece++) {
        for (int base64 = 0; base64 < 2; base64++) {
            struct error err = ERROR_INIT;
            struct fixture fixture;

            begin(&fixture, base64 != 0, 100);
            assert_int_equal(feed(&fixture, base64 != 0 ? coded : raw, piece, &err), 1);
            assert_int_equal(fixture.answer.end, COMMAND_ANSWER_STATE);
            assert_string_equal(fixture.seen.out, "he\nlo!");
            assert_string_equal(fixture.seen.err, "err");
            assert_int_equal(fixture.seen.omitted, 100);
            assert_int_equal(fixture.seen.next, 209);
            assert_int_equal(fixture.status.phase, COMMAND_PHASE_EXITED);
            assert_int_equal(fixture.status.exit_code, 7);
            assert_int_equal(fixture.status.ran_ms, 950);
            assert_true(fixture.status.background_processes && !fixture.status.more);
            assert_int_equal(fixture.status.survivor_count, 2);
            assert_int_equal(fixture.status.survivors[1], 78);
            command_answer_done(&fixture.answer);
        }
    }
}

static void test_every_end_is_told_from_the_others(void **state)
{
    static const struct {
        const char *text;
        enum command_answer_end end;
        const char *why;
    } cases[] = {{"@@missing\n", COMMAND_ANSWER_MISSING, ""},
                 {"@@unusable\n", COMMAND_ANSWER_UNUSABLE, ""},
                 {"@@" ID "\nA12 0\n", COMMAND_ANSWER_DONE, "12 0"},
                 {"@@" ID "\nN offset 3\n", COMMAND_ANSWER_REFUSED, "offset 3"},
                 {"@@" ID "\nW no such directory\n", COMMAND_ANSWER_NO_CWD, "no such directory"},
                 {"@@" ID "\nE unknown\n", COMMAND_ANSWER_UNKNOWN, "unknown"},
                 {"@@" ID "\nE no room\n", COMMAND_ANSWER_FAILED, "no room"},
                 {"@@" ID "\nZ of a later runner\nE no room\n", COMMAND_ANSWER_FAILED, "no room"},
                 {"@@0c5b0000-0000-4000-8000-000000000002\nE unknown\n", COMMAND_ANSWER_NONE, ""}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error err = ERROR_INIT;
        struct fixture fixture;

        begin(&fixture, false, 0);
        assert_int_equal(feed(&fixture, cases[i].text, 1000, &err),
                         cases[i].end != COMMAND_ANSWER_NONE);
        assert_int_equal(fixture.answer.end, cases[i].end);
        assert_string_equal(fixture.answer.text, cases[i].why);
        command_answer_done(&fixture.answer);
    }
}

static void test_what_a_sandbox_makes_up_is_refused(void **state)
{
    /* what runs in a sandbox may write anything in our runner's name */
    static const char *const cases[] = {
        "D1 0\n",
        "D1 -5\n",
        "D1 65537\n",
        "D1 x\n",
        "G 0\n",
        "G -1\n",
        "S\n",
        "S 5 0 exited 42 7 0 1 209 106 3 1000 2000\n",
        "S 5 0 flying 42 7 0 1 209 106 3 1000 2000 950\n",
        "S 5 0 exited 42 256 0 1 209 106 3 1000 2000 950\n",
        "S 5 0 exited 42 -1 0 1 209 106 3 1000 2000 950\n",
        "S 4 0 exited 42 0 0 1 209 106 3 1000 2000 950\n", /* before what was asked for */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error err = ERROR_INIT;
        struct fixture fixture;

        begin(&fixture, false, 5);
        assert_int_equal(feed(&fixture, "@@" ID "\n", 100, &err), 0);
        if (feed(&fixture, cases[i], 3, &err) != -1 || err.code != ERR_PROVIDER) {
            fail_msg("taken: %s", cases[i]);
        }
        command_answer_done(&fixture.answer);
    }
}

static void test_base64_of_another_length_and_endless_lines_are_refused(void **state)
{
    struct error err = ERROR_INIT;
    struct fixture fixture;
    int rc = 0;

    (void)state;
    begin(&fixture, true, 0);
    assert_int_equal(feed(&fixture, "@@" ID "\nD1 4\naGUKbG8=\n", 7, &err), -1);
    command_answer_done(&fixture.answer);
    begin(&fixture, false, 0);
    for (int i = 0; i < 200 && rc == 0; i++) {
        char line[1024];

        memset(line, 'x', sizeof(line));
        rc = command_answer_feed(&fixture.answer, line, sizeof(line), &err);
    }
    assert_int_equal(rc, -1);
    command_answer_done(&fixture.answer);
}

static void test_a_reader_that_wants_no_more_gets_no_more(void **state)
{
    struct error err = ERROR_INIT;
    struct fixture fixture;

    (void)state;
    begin(&fixture, false, 0);
    fixture.seen.stop_after = 1;
    assert_int_equal(feed(&fixture, "@@" ID "\nD1 1\naD1 1\nb", 1000, &err), 1);
    assert_true(fixture.status.left);
    assert_string_equal(fixture.seen.out, "a");
    assert_int_equal(fixture.status.next, 1);
    command_answer_done(&fixture.answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_output_and_state_in_every_split),
        cmocka_unit_test(test_every_end_is_told_from_the_others),
        cmocka_unit_test(test_what_a_sandbox_makes_up_is_refused),
        cmocka_unit_test(test_base64_of_another_length_and_endless_lines_are_refused),
        cmocka_unit_test(test_a_reader_that_wants_no_more_gets_no_more),
    };

    return cmocka_run_group_tests_name("command_answer", tests, NULL, NULL);
}
