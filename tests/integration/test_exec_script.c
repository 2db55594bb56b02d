/*
 * test_exec_script - the marks behind a command's output, in every split; what a shell is given;
 * what kill.sh and runner.sh say of processes that cannot be killed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/provider/exec_script.h"

#define ID "29ef1923-20e4-4e41-9d76-1fffafbaaaeb"

static char got[2][4096];
static size_t got_bytes[2];

static int take(void *arg, enum exec_stream stream, const void *data, size_t bytes)
{
    (void)arg;
    assert_true(bytes > 0 && got_bytes[stream] + bytes < sizeof(got[0]));
    memcpy(got[stream] + got_bytes[stream], data, bytes);
    got_bytes[stream] += bytes;
    return 0;
}

static void feed(struct exec_marks *marks, enum exec_stream stream, const char *text, size_t bytes,
                 size_t step)
{
    for (size_t at = 0; at < bytes; at += step) {
        size_t piece = step < bytes - at ? step : bytes - at;

        assert_int_equal(exec_marks_feed(marks, stream, text + at, piece, take, NULL), 0);
    }
}

static void begin(struct exec_marks *marks, struct exec_result *result)
{
    *result = (struct exec_result){.pid = 0};
    *marks = (struct exec_marks){.id = ID, .result = result};
    memset(got, 0, sizeof(got));
    got_bytes[0] = got_bytes[1] = 0;
}

static void test_marks_in_every_split(void **state)
{
    static const char out[] =
        "a\001b\001" ID "x\0029\001\001" ID " P 77\002c\0\001" ID " E 7 1\002late";
    static const char plain[] = "a\001b\001" ID "x\0029\001c\0";
    static const char errors[] = "e\001" ID " E 7 1\002\001";
    struct exec_result result;
    struct exec_marks marks;

    (void)state;
    for (size_t step = 1; step <= sizeof(out); step++) {
        begin(&marks, &result);
        feed(&marks, EXEC_STDOUT, out, sizeof(out) - 1, step);
        assert_false(exec_marks_complete(&marks));
        feed(&marks, EXEC_STDERR, errors, sizeof(errors) - 1, step);
        assert_true(exec_marks_complete(&marks));
        assert_int_equal(got_bytes[EXEC_STDOUT], sizeof(plain) - 1);
        assert_memory_equal(got[EXEC_STDOUT], plain, sizeof(plain) - 1);
        assert_string_equal(got[EXEC_STDERR], "e");
        assert_true(result.exited && result.exit_code == 7 && result.background_processes);
        assert_int_equal(result.pid, 77);
    }
}

static void test_what_is_no_mark_comes_out_at_the_end(void **state)
{
    static const char *const texts[] = {"x\001", "x\001" ID, "x\001" ID " E 0 0", "\001\001\001"};
    struct exec_result result;
    struct exec_marks marks;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        begin(&marks, &result);
        feed(&marks, EXEC_STDOUT, texts[i], strlen(texts[i]), 1);
        assert_int_equal(exec_marks_flush(&marks, take, NULL), 0);
        assert_string_equal(got[EXEC_STDOUT], texts[i]);
        assert_false(result.exited);
    }
    /* too long for one: passed on, and not held for ever */
    begin(&marks, &result);
    feed(&marks, EXEC_STDOUT, "\001" ID " ", strlen(ID) + 2, 1);
    for (int i = 0; i < 2000; i++) {
        feed(&marks, EXEC_STDOUT, "y", 1, 1);
    }
    assert_int_equal(got_bytes[EXEC_STDOUT], 2000 + strlen(ID) + 2);
}

static void test_survivors(void **state)
{
    struct exec_result result;
    struct exec_marks marks;
    struct strbuf many;

    (void)state;
    strbuf_init(&many, EXEC_MARK_MAX_BYTES);
    strbuf_puts(&many, "\001" ID " T");
    for (int i = 1; i <= 100; i++) {
        strbuf_printf(&many, " %d", i);
    }
    strbuf_puts(&many, "\002");
    begin(&marks, &result);
    feed(&marks, EXEC_STDOUT, many.data, many.length, 13);
    feed(&marks, EXEC_STDERR, many.data, many.length, 13);
    assert_true(exec_marks_complete(&marks) && result.timed_out && !result.exited);
    assert_int_equal(result.survivor_count, EXEC_SURVIVORS_MAX);
    assert_int_equal(result.survivors[EXEC_SURVIVORS_MAX - 1], EXEC_SURVIVORS_MAX);
    strbuf_done(&many);
    assert_int_equal(exec_take_left(&result, "noise\nleft 5 6\n"), 0);
    assert_int_equal(result.survivor_count, 2);
    assert_int_equal(exec_take_left(&result, "left\n"), 0);
    assert_int_equal(result.survivor_count, 0);
    assert_int_equal(exec_take_left(&result, "left 5"), -1); /* cut */
    assert_int_equal(exec_take_left(&result, "sh: kill: not found\n"), -1);
}

static void test_a_path_comes_behind_the_login_files(void **state)
{
    struct exec_request request = {.command = "a\nb", .timeout_ms = 1001};
    struct strbuf text;

    (void)state;
    strbuf_init(&text, 1000);
    exec_script_command(request.command, request.envs, &text);
    assert_string_equal(text.data, "a\nb");
    cJSON *envs = cJSON_CreateObject();
    cJSON_AddStringToObject(envs, "PATH", "/it's");
    request.envs = envs;
    strbuf_reset(&text);
    exec_script_command(request.command, request.envs, &text);
    assert_string_equal(text.data, "export PATH='/it'\\''s'; a\nb");
    assert_int_equal(exec_script_limit(&request), 101);
    request.timeout_ms = 0;
    assert_int_equal(exec_script_limit(&request), 0);
    cJSON_Delete(envs);
    strbuf_done(&text);
}

/* Runs the runner with a stand-in for kill.sh and a sudo of its own; its stdout. */
static void run_runner(const char *kill_text, const char *sudo_text, char ret[1024])
{
    char folder[] = "/tmp/test-exec-script-XXXXXX", path[64], line[512];
    FILE *file;
    size_t bytes;

    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/sudo", folder);
    file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "#!/bin/sh\n%s\n", sudo_text);
    fclose(file);
    snprintf(line, sizeof(line),
             "chmod 755 %s; PATH=%s:$PATH exec sh -c \"$RUNNER\" sh 20 '' \"$KILL\" sleep 0.6 2>&1",
             path, folder);
    setenv("SANDBOX_EXEC_ID", ID, 1);
    setenv("RUNNER", provider_script_runner, 1);
    setenv("KILL", kill_text, 1);
    file = popen(line, "r");
    assert_non_null(file);
    bytes = fread(ret, 1, 1023, file);
    ret[bytes] = '\0';
    pclose(file);
    unlink(path);
    rmdir(folder);
}

static void test_what_cannot_be_killed_is_told(void **state)
{
    char told[1024];

    (void)state;
    run_runner("echo left", "exit 1", told);
    assert_string_equal(told, "\001" ID " T\002\001" ID " T\002");
    /* sudo reaches it */
    run_runner("echo left 41 42", "echo left", told);
    assert_string_equal(told, "\001" ID " T\002\001" ID " T\002");
    /* sudo wants a password, or reaches less than all */
    run_runner("echo left 41 42", "exit 1", told);
    assert_string_equal(told, "\001" ID " T 41 42\002\001" ID " T 41 42\002");
    run_runner("echo left 41 42", "echo left 42", told);
    assert_string_equal(told, "\001" ID " T 42\002\001" ID " T 42\002");
    /* it did not run: nothing is known, so nothing is called killed */
    run_runner("exit 1", "exit 1", told);
    assert_string_equal(told, "\001" ID " T 0\002\001" ID " T 0\002");
}

/* Another user's process, as one that sudo started is. */
static void test_kill_names_what_it_may_not_kill(void **state)
{
    char line[256], told[256] = "";
    long pid;
    FILE *file;

    (void)state;
    if (geteuid() != 0) {
        skip();
    }
    setenv("KILL", provider_script_kill, 1);
    file = popen(
        "sleep 30 & echo $!; setpriv --reuid=65534 --clear-groups sh -c \"$KILL\" sh none $!; "
        "echo $?; kill $!",
        "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%ld", &pid), 1);
    told[fread(told, 1, sizeof(told) - 1, file)] = '\0';
    pclose(file);
    snprintf(line, sizeof(line), "\nleft %ld\n1\n", pid);
    assert_string_equal(told, line);
}

/* As at a provider whose daemon is root: its pipe is not the command's to open by name. */
static void test_outputs_of_another_user_can_be_opened(void **state)
{
    static const char said[] = "a\nb\n\001" ID " E 0 0\002";
    char told[256] = "";

    (void)state;
    if (geteuid() != 0) {
        skip();
    }
    setenv("BOOT", provider_script_boot, 1);
    setenv("RUNNER", provider_script_runner, 1);
    setenv("KILL", provider_script_kill, 1);
    setenv("SANDBOX_EXEC_ID", ID, 1);
    for (int adopts = 0; adopts <= 1; adopts++) {
        if (adopts) {
            unsetenv("SANDBOX_SUBREAPER");
        } else {
            setenv("SANDBOX_SUBREAPER", "0", 1);
        }
        memset(told, 0, sizeof(told));
        FILE *file =
            popen("exec setpriv --reuid=65534 --clear-groups sh -c \"$BOOT\" sh \"$RUNNER\" 0 '' "
                  "\"$KILL\" sh -c 'echo a; echo b >/dev/stdout; echo c >/dev/stderr' 2>/dev/null",
                  "r");
        assert_non_null(file);
        told[fread(told, 1, sizeof(told) - 1, file)] = '\0';
        assert_int_equal(pclose(file), 0);
        assert_string_equal(told, said);
    }
}

/* What has left its session, its parent and its environment is found by being adopted, which any of
 * two interpreters can ask for; without both it is not found, and only that is not. */
static void test_orphans_are_adopted(void **state)
{
    static const struct {
        const char *interpreter;
        const char *left;
    } cases[] = {{"perl", "begun\n0\n"}, {"python3", "begun\n0\n"}, {"", "begun\n1\n"}};

    (void)state;
    setenv("BOOT", provider_script_boot, 1);
    setenv("RUNNER", provider_script_runner, 1);
    setenv("KILL", provider_script_kill, 1);
    setenv("SANDBOX_EXEC_ID", ID, 1);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char line[1024], told[256] = "";

        snprintf(
            line, sizeof(line),
            "PATH=/usr/bin:/bin; d=$(mktemp -d); for p in cat env grep setsid sh sleep %s; do "
            "ln -s \"$(command -v \"$p\")\" \"$d/$p\"; done; "
            "PATH=$d sh -c \"$BOOT\" sh \"$RUNNER\" 60 '' \"$KILL\" "
            "sh -c 'echo begun; (env -i setsid sleep 88%zu%d &) ; setsid sleep 88%zu%d & sleep 9' "
            ">\"$d/out\" 2>/dev/null; head -c 6 \"$d/out\"; pgrep -fc '^sleep 88%zu%d$'; pkill -f "
            "'^sleep 88%zu%d$'; "
            "rm -r \"$d\"",
            cases[i].interpreter, i, getpid(), i, getpid(), i, getpid(), i, getpid());
        FILE *file = popen(line, "r");
        assert_non_null(file);
        told[fread(told, 1, sizeof(told) - 1, file)] = '\0';
        pclose(file);
        assert_string_equal(told, cases[i].left);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_marks_in_every_split),
        cmocka_unit_test(test_what_is_no_mark_comes_out_at_the_end),
        cmocka_unit_test(test_survivors),
        cmocka_unit_test(test_a_path_comes_behind_the_login_files),
        cmocka_unit_test(test_what_cannot_be_killed_is_told),
        cmocka_unit_test(test_kill_names_what_it_may_not_kill),
        cmocka_unit_test(test_outputs_of_another_user_can_be_opened),
        cmocka_unit_test(test_orphans_are_adopted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
