/*
 * The file calls over real shells: a provider whose sandbox is this machine, with dash, with bash,
 * and with a `find` that prints nothing of its own, as busybox's. Each mistake has its type, and
 * names are bytes.
 */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/provider/path_script.h"
#include "common/provider/sandbox_files.h"

static char folder[64];
static char shell_path[32], search_path[128];
static struct error err;
static int puts_made;
static bool put_fails;

/* ---- a provider without a wire ----------------------------------------------------------------
 */

static int run_script(struct provider *provider, struct http_client *client,
                      const struct provider_target *target, const char *const *argv,
                      int64_t timeout_ms, struct strbuf *ret, struct error *error)
{
    int ends[2], status;
    char buffer[4096];
    ssize_t n;

    (void)provider, (void)client, (void)target, (void)timeout_ms;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        const char *child[16] = {shell_path, "-c", argv[0], "sh"};
        for (int i = 1; argv[i] != NULL && i < 10; i++)
            child[i + 3] = argv[i];
        dup2(ends[1], 1);
        close(ends[0]);
        close(ends[1]);
        setenv("PATH", search_path, 1);
        setenv("HOME", folder, 1);
        if (chdir(folder) != 0)
            _exit(127);
        execv(shell_path, (char *const *)child);
        _exit(127);
    }
    close(ends[1]);
    while ((n = read(ends[0], buffer, sizeof(buffer))) > 0)
        strbuf_append(ret, buffer, (size_t)n);
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    return ret->overflow ? error_set(error, ERR_TOO_LARGE, "too much") : 0;
}

static int file_get(struct provider *provider, struct http_client *client,
                    const struct provider_target *target, const struct file_get *get,
                    struct error *error)
{
    char buffer[4096];
    FILE *file = fopen(get->path, "r");
    size_t n;

    (void)provider, (void)client, (void)target, (void)error;
    assert_non_null(file);
    while ((n = fread(buffer, 1, sizeof(buffer), file)) > 0)
        assert_int_equal(get->on_data(get->arg, buffer, n), 0);
    fclose(file);
    return 0;
}

static int file_put(struct provider *provider, struct http_client *client,
                    const struct provider_target *target, const char *path, file_read_fn source,
                    void *arg, int64_t bytes, struct error *error)
{
    char buffer[1000];
    FILE *file = fopen(path, "wx"); /* it is not there yet */
    long n;

    (void)provider, (void)client, (void)target, (void)bytes;
    assert_non_null(file);
    puts_made++;
    while ((n = source(arg, buffer, sizeof(buffer))) > 0)
        assert_int_equal(fwrite(buffer, 1, (size_t)n, file), n);
    fclose(file);
    return put_fails || n < 0 ? error_set(error, ERR_PROVIDER_DOWN, "broke off") : 0;
}

static const struct provider_ops ops = {
    .file_owner = "", .run_script = run_script, .file_get = file_get, .file_put = file_put};
static struct provider here = {.ops = &ops};
static const struct sandbox_files files = {.provider = &here};

/* ---- one folder per test ----------------------------------------------------------------------
 */

static const char *at(const char *name)
{
    static char paths[4][512];
    static int next;

    next = (next + 1) % 4;
    snprintf(paths[next], sizeof(paths[0]), "%s/%s", folder, name);
    return paths[next];
}

static void shell(const char *command)
{
    char line[1024];

    snprintf(line, sizeof(line), "cd '%s' && { %s ; }", folder, command);
    pid_t pid = fork();
    if (pid == 0) {
        execl("/bin/bash", "bash", "-c", line, (char *)NULL);
        _exit(127);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static int setup(void **state)
{
    const char *kind = *state;

    snprintf(folder, sizeof(folder), "/tmp/test-files-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(shell_path, sizeof(shell_path), "%s",
             strcmp(kind, "bash") == 0 ? "/bin/bash" : "/bin/sh");
    snprintf(search_path, sizeof(search_path), "/usr/bin:/bin");
    if (strcmp(kind, "busybox") == 0) {
        shell("mkdir .bin && printf '#!/bin/sh\\nexit 1\\n' >.bin/find && chmod +x .bin/find");
        snprintf(search_path, sizeof(search_path), "%s/.bin:/usr/bin:/bin", folder);
    }
    err = (struct error)ERROR_INIT;
    puts_made = 0;
    put_fails = false;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    shell("chmod -R u+rwx . && rm -rf .bin && rm -rf \"$PWD\"");
    return 0;
}

static void expect(int rc, enum error_code code)
{
    if (code == ERR_OK && rc != 0)
        fail_msg("%s: %s", error_code_name(err.code), err.message);
    assert_int_equal(rc, code == ERR_OK ? 0 : -1);
    if (code != ERR_OK && err.code != code)
        fail_msg("%s instead of %s: %s", error_code_name(err.code), error_code_name(code),
                 err.message);
}

/* ---- content ----------------------------------------------------------------------------------
 */

static char content[300000];
static size_t content_bytes;

static int take(void *arg, const void *data, size_t bytes)
{
    (void)arg;
    assert_true(content_bytes + bytes <= sizeof(content));
    memcpy(content + content_bytes, data, bytes);
    content_bytes += bytes;
    return 0;
}

static int read_it(const char *path)
{
    struct sandbox_files_source source;
    struct file_get get = {.bytes = -1, .on_data = take};

    content_bytes = 0;
    if (sandbox_files_open(&files, path, &source, &err) != 0)
        return -1;
    assert_int_equal(sandbox_files_read(&files, &source, &get, &err), 0);
    assert_int_equal(source.bytes, content_bytes);
    assert_int_equal(source.is_copy, source.tag[0] == '\0');
    sandbox_files_close(&files, &source);
    return 0;
}

static int write_it(const char *path, const char *text)
{
    return sandbox_files_write_bytes(&files, path, text, strlen(text), &err);
}

static void expect_content(const char *path, const char *text)
{
    expect(read_it(path), ERR_OK);
    assert_int_equal(content_bytes, strlen(text));
    assert_memory_equal(content, text, content_bytes);
}

static void test_write_and_read(void **state)
{
    static const char odd[] = "a\xff\n b'\\ ";
    char *large = malloc(200001);

    (void)state;
    memset(large, 'x', 200000);
    large[200000] = '\0';
    expect(write_it(at("new/deep/f"), "one"), ERR_OK);
    expect_content(at("new/deep/f"), "one");
    assert_int_equal(puts_made, 0); /* a short content takes one script */
    expect(write_it(at("new/deep/f"), large), ERR_OK);
    assert_int_equal(puts_made, 1);
    expect_content(at("new/deep/f"), large);
    expect(write_it(at("new/deep/f"), ""), ERR_OK);
    expect_content(at("new/deep/f"), "");
    expect(write_it(at(odd), large), ERR_OK);
    expect_content(at(odd), large);
    /* what breaks off leaves what was there, and nothing else */
    put_fails = true;
    large[0] = 'y';
    expect(write_it(at(odd), large), ERR_PROVIDER_DOWN);
    large[0] = 'x';
    expect_content(at(odd), large);
    shell("test -z \"$(find . -name '.sandbox*')\"");
    free(large);
    /* relative names and the home directory */
    expect(write_it("~/tilde", "t"), ERR_OK);
    expect_content(at("tilde"), "t");
    expect(write_it(" blank ", "b"), ERR_OK);
    expect_content(at(" blank "), "b");
    expect(write_it("~name", "n"), ERR_OK);
    expect_content(at("~name"), "n");
}

static bool broken;

/* `text` up to a "|", where it breaks. */
static long read_part(void *arg, void *buf, size_t bytes)
{
    const char **text = arg;
    size_t n = strcspn(*text, "|");

    assert_true(n < bytes);
    broken = n == 0 && **text == '|';
    memcpy(buf, *text, n);
    *text += n;
    return (long)n;
}

static int resume(const char *name, int64_t offset, const char *text, int64_t *ret_have)
{
    broken = false;
    return sandbox_files_resume(&files, at(name), "key", offset, read_part, &text, &broken,
                                ret_have, &err);
}

static void test_resume(void **state)
{
    int64_t have;

    (void)state;
    shell("echo old >f && chmod 700 f");
    expect(resume("f", 3, "x", &have), ERR_CONFLICT);
    assert_int_equal(have, 0);
    expect(resume("f", 0, "one |", &have), ERR_OK);
    assert_int_equal(have, 4);
    expect(resume("f", 4, "two |", &have), ERR_OK);
    assert_int_equal(have, 8);
    expect_content(at("f"), "old\n");
    expect(resume("f", 9, "x", &have), ERR_CONFLICT);
    assert_int_equal(have, 8);
    /* what a call left behind that was killed counts */
    shell("printf 'three ' >.sandbox-upload-key.rest.8.dead && "
          "printf 'stale' >.sandbox-upload-key.rest.3.dead");
    expect(resume("f", 99, "x", &have), ERR_CONFLICT);
    assert_int_equal(have, 14);
    expect(resume("f", 8, "3", &have), ERR_OK);
    expect_content(at("f"), "one two 3");
    shell("test \"$(stat -c %a f)\" = 700 && test -z \"$(find . -name '.sandbox*')\"");
    expect(resume("new/f", 0, "all", &have), ERR_OK);
    expect_content(at("new/f"), "all");
    expect(resume("new", 0, "all", &have), ERR_IS_DIRECTORY);
    assert_true(sandbox_files_key_is_valid("aZ0_-"));
    assert_false(sandbox_files_key_is_valid("a/b") || sandbox_files_key_is_valid(""));
}

/* Sends "one" and, before it ends, lets another call with the same key send all of its own. */
static long read_overtaken(void *arg, void *buf, size_t bytes)
{
    int *calls = arg;
    int64_t have;

    assert_true(bytes > 3);
    if (++*calls == 2) {
        expect(resume("f", 0, "the other's", &have), ERR_OK);
        expect_content(at("f"), "the other's");
    }
    memcpy(buf, "one", 3);
    return *calls < 3 ? 3 : 0;
}

static void test_two_uploads_with_one_key_never_mix(void **state)
{
    static const bool whole = false;
    int64_t have;
    int calls = 0;

    (void)state;
    expect(sandbox_files_resume(&files, at("f"), "key", 0, read_overtaken, &calls, &whole, &have,
                                &err),
           ERR_CONFLICT);
    assert_int_equal(calls, 3);
    expect_content(at("f"), "the other's");
    shell("test -z \"$(find . -name '.sandbox*')\"");
    /* the lock of a script that was killed is taken over */
    shell("ln -s 999999999 .sandbox-upload-key.lock");
    expect(resume("f", 0, "again", &have), ERR_OK);
    expect_content(at("f"), "again");
    shell("test -z \"$(find . -name '.sandbox*')\"");
}

static void test_mode_links_and_owner_stay(void **state)
{
    (void)state;
    shell("mkdir d && echo old >d/f && chmod 751 d/f && ln -s d/f a && ln -s a b && ln -s new c");
    expect(write_it(at("b"), "new"), ERR_OK);
    shell(
        "test \"$(stat -c %a d/f)\" = 751 && test -L a && test -L b && test \"$(cat d/f)\" = new");
    expect(write_it(at("c"), "made"), ERR_OK);
    shell("test -L c && test \"$(cat new)\" = made");
    assert_int_equal(sandbox_files_remove(&files, at("b"), false, &err), 0);
    shell("test ! -L b && test -L a && test -f d/f");
}

static void test_mistakes(void **state)
{
    static const struct {
        const char *name;
        enum error_code read, write, make, remove, list;
    } cases[] = {
        {"f/x", ERR_NOT_DIRECTORY, ERR_NOT_DIRECTORY, ERR_NOT_DIRECTORY, ERR_NOT_DIRECTORY,
         ERR_NOT_DIRECTORY},
        {"f/", ERR_NOT_DIRECTORY, ERR_NOT_DIRECTORY, ERR_NOT_DIRECTORY, ERR_NOT_DIRECTORY,
         ERR_NOT_DIRECTORY},
        {"d", ERR_IS_DIRECTORY, ERR_IS_DIRECTORY, ERR_OK, ERR_IS_DIRECTORY, ERR_OK},
        {"new/", ERR_FILE_NOT_FOUND, ERR_IS_DIRECTORY, ERR_OK, ERR_IS_DIRECTORY, ERR_OK},
        {"loop", ERR_SYMLINK_LOOP, ERR_SYMLINK_LOOP, ERR_SYMLINK_LOOP, ERR_OK, ERR_FILE_NOT_FOUND},
        {"pipe", ERR_NOT_REGULAR, ERR_NOT_REGULAR, ERR_EXISTS, ERR_OK, ERR_FILE_NOT_FOUND},
        {"none", ERR_FILE_NOT_FOUND, ERR_OK, ERR_EXISTS, ERR_OK, ERR_FILE_NOT_FOUND},
        {"full", ERR_NOT_REGULAR, ERR_NOT_REGULAR, ERR_EXISTS, ERR_OK, ERR_FILE_NOT_FOUND},
    };
    char name_256[257];
    char cursor[FILES_CURSOR_BYTES];
    bool made;

    (void)state;
    shell("touch f && mkdir d && ln -s loop loop && mkfifo pipe && ln -s /dev/full full");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *path = at(cases[i].name);
        expect(read_it(path), cases[i].read);
        expect(write_it(path, "x"), cases[i].write);
        expect(sandbox_files_make_dir(&files, path, &made, &err), cases[i].make);
        expect(sandbox_files_remove(&files, path, false, &err), cases[i].remove);
        expect(sandbox_files_list(&files, path, "", 10, NULL, NULL, cursor, &err), cases[i].list);
    }
    memset(name_256, 'n', 256);
    name_256[256] = '\0';
    expect(read_it(at(name_256)), ERR_NAME_TOO_LONG);
    expect(write_it(at(name_256), "x"), ERR_NAME_TOO_LONG);
    expect(sandbox_files_make_dir(&files, at(name_256), &made, &err), ERR_NAME_TOO_LONG);
    expect(sandbox_files_remove(&files, at(name_256), true, &err), ERR_NAME_TOO_LONG);
    expect(sandbox_files_remove(&files, "/", true, &err), ERR_PERMISSION);
    expect(sandbox_files_remove(&files, at("d/."), true, &err), ERR_INVALID);
    expect(sandbox_files_remove(&files, at("d"), true, &err), ERR_OK);
    expect(sandbox_files_make_dir(&files, at("p/q"), &made, &err), ERR_OK);
    assert_true(made);
    expect(sandbox_files_make_dir(&files, at("p/q/"), &made, &err), ERR_OK);
    assert_false(made);
}

static void test_words_of_tools(void **state)
{
    (void)state;
    assert_int_equal(path_script_cause("Read-only file system"), ERR_READ_ONLY);
    assert_int_equal(path_script_cause("Permission denied"), ERR_PERMISSION);
    assert_int_equal(path_script_cause("Disk quota exceeded"), ERR_NO_SPACE);
    assert_int_equal(path_script_cause("Symbolic link loop"), ERR_SYMLINK_LOOP);
    assert_int_equal(path_script_cause("Filename too long"), ERR_NAME_TOO_LONG);
    assert_int_equal(path_script_cause("Device or resource busy"), ERR_CONFLICT);
    assert_int_equal(path_script_cause("what nobody knows"), ERR_PROVIDER);
    assert_int_equal(path_script_check("ok 1\n", "/x", &err), 0);
    assert_int_equal(path_script_check("fail No space left on device\n", "/x", &err), -1);
    assert_int_equal(err.code, ERR_NO_SPACE);
    assert_string_equal(err.message, "/x: the sandbox's disk is full");
    assert_int_equal(path_script_check("fail what\n", "/\xff", &err), -1);
    assert_int_equal(err.code, ERR_PROVIDER);
}

static void test_files_without_a_size(void **state)
{
    (void)state;
    expect(read_it("/proc/version"), ERR_OK);
    assert_true(content_bytes > 20 && memcmp(content, "Linux version", 13) == 0);
    shell("test -z \"$(find /tmp -maxdepth 1 -name '.sandbox-read*' -newer .)\"");
}

/* ---- listings ---------------------------------------------------------------------------------
 */

static char told[4096];
static int told_count, told_max;

static int tell(void *arg, const struct dir_entry *entry)
{
    const size_t used = strlen(told);

    (void)arg;
    told_count++;
    snprintf(told + used, sizeof(told) - used, "%s:%d:%d%s%s ", entry->name, (int)entry->type,
             entry->type == ENTRY_FILE ? (int)entry->bytes : 0, entry->is_link ? ">" : "",
             entry->link_target);
    return told_count == told_max;
}

static int list(const char *path, const char *from, int64_t limit, char cursor[FILES_CURSOR_BYTES])
{
    told[0] = '\0';
    told_count = 0;
    return sandbox_files_list(&files, path, from, limit, tell, NULL, cursor, &err);
}

static void test_list(void **state)
{
    char cursor[FILES_CURSOR_BYTES], from[FILES_CURSOR_BYTES] = "";

    (void)state;
    told_max = -1;
    shell("mkdir l && cd l && printf 12345 >five && mkdir sub && ln -s five to-file && ln -s sub "
          "to-dir"
          " && ln -s no where && ln -s . up && mkfifo pipe && touch .hid ..two $'a\\xff\\n'");
    expect(list(at("l"), "", 100, cursor), ERR_OK);
    assert_string_equal(told, "..two:0:0 .hid:0:0 a\xff\n:0:0 five:0:5 pipe:2:0 sub:1:0 "
                              "to-dir:1:0>sub to-file:0:5>five up:1:0>. where:2:0>no ");
    assert_string_equal(cursor, "");
    int pages = 0;
    char all[4096] = "";
    do {
        expect(list(at("l"), from, 3, cursor), ERR_OK);
        assert_true(sandbox_files_cursor_is_valid(cursor));
        snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s", told);
        memcpy(from, cursor, sizeof(from));
        pages++;
    } while (cursor[0] != '\0');
    assert_int_equal(pages, 4);
    expect(list(at("l"), "", 100, cursor), ERR_OK);
    assert_string_equal(all, told);
    told_max = 2; /* the listener has enough */
    expect(list(at("l"), "", 100, cursor), ERR_OK);
    assert_int_equal(told_count, 2);
    told_max = -1;
    /* a name that another begins with comes first, and a page ends between them */
    shell("mkdir p && touch p/a p/aa p/ab p/b");
    expect(list(at("p"), "61", 2, cursor), ERR_OK);
    assert_string_equal(told, "aa:0:0 ab:0:0 ");
    memcpy(from, cursor, sizeof(from));
    expect(list(at("p"), from, 2, cursor), ERR_OK);
    assert_string_equal(told, "b:0:0 ");
    shell("mkdir e");
    expect(list(at("e"), "", 5, cursor), ERR_OK);
    assert_string_equal(told, "");
    assert_false(sandbox_files_cursor_is_valid("6"));
    assert_false(sandbox_files_cursor_is_valid("6A"));
}

int main(void)
{
    static char dash[] = "dash", bash[] = "bash", busybox[] = "busybox";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_of_tools),
        {"write dash", test_write_and_read, setup, teardown, dash},
        {"resume dash", test_resume, setup, teardown, dash},
        {"resume bash", test_resume, setup, teardown, bash},
        {"one key twice dash", test_two_uploads_with_one_key_never_mix, setup, teardown, dash},
        {"one key twice bash", test_two_uploads_with_one_key_never_mix, setup, teardown, bash},
        {"mode dash", test_mode_links_and_owner_stay, setup, teardown, dash},
        {"mistakes dash", test_mistakes, setup, teardown, dash},
        {"no size dash", test_files_without_a_size, setup, teardown, dash},
        {"list dash", test_list, setup, teardown, dash},
        {"write bash", test_write_and_read, setup, teardown, bash},
        {"mode bash", test_mode_links_and_owner_stay, setup, teardown, bash},
        {"mistakes bash", test_mistakes, setup, teardown, bash},
        {"list bash", test_list, setup, teardown, bash},
        {"list without find -printf", test_list, setup, teardown, busybox},
    };
    return cmocka_run_group_tests_name("files", tests, NULL, NULL);
}
