/*
 * test_files - a tree goes whatever its maker did to keep it: as deep as no path is long, closed,
 * named like what the removal itself names. What it only points to stays.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "deploy/sandbox-host/isolation/files.h"

enum { LEVELS = 1500, NOBODY = 65534 };

/* In a child, which is not root: root may do anything, and then nothing is tested. */
#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "line %d: %s, errno %d\n", __LINE__, #condition, errno);               \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static void make_file(int at, const char *name)
{
    int fd = openat(at, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

    MUST(fd >= 0);
    close(fd);
}

static void make_deep_tree(const char *path)
{
    int at;

    MUST(mkdir(path, 0700) == 0);
    at = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    MUST(at >= 0);
    for (int level = 0; level < LEVELS; level++) {
        int below;

        make_file(at, ".removing-1");
        MUST(mkdirat(at, "a folder in a folder", 0700) == 0);
        MUST(mkdirat(at, ".removing-2", 0700) == 0);
        MUST(symlinkat("/tmp", at, "link") == 0);
        below = openat(at, "a folder in a folder", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        MUST(below >= 0);
        make_file(below, "file");
        MUST(fchmod(at, level % 3 == 0 ? 0 : 0500) == 0);
        close(at);
        at = below;
    }
    close(at);
}

static void remove_as_nobody(const char *folder)
{
    char tree[96], kept[96];
    struct error err = ERROR_INIT;
    struct stat status;

    snprintf(tree, sizeof(tree), "%s/tree", folder);
    snprintf(kept, sizeof(kept), "%s/kept", folder);
    if (geteuid() == 0) {
        MUST(chown(folder, NOBODY, NOBODY) == 0);
        MUST(setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
    }
    MUST(mkdir(kept, 0700) == 0);
    make_deep_tree(tree);
    MUST(chmod(tree, 0700) == 0 && chdir(tree) == 0);
    MUST(symlink(kept, "to what stays") == 0);
    MUST(chdir("/") == 0);
    if (files_remove_tree(tree, &err) != 0) {
        fprintf(stderr, "%s\n", err.message);
        _exit(1);
    }
    MUST(lstat(tree, &status) < 0 && errno == ENOENT);
    MUST(lstat(kept, &status) == 0);
    MUST(files_remove_tree(kept, &err) == 0 && files_remove_tree(kept, &err) == 0);
    _exit(0);
}

static void test_a_tree_deeper_than_paths_are_long(void **state)
{
    char folder[] = "/tmp/test-files-XXXXXX";
    int status;
    pid_t pid;

    (void)state;
    assert_non_null(mkdtemp(folder));
    pid = fork();
    if (pid == 0) {
        remove_as_nobody(folder);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(rmdir(folder), 0);
}

/* What cannot go is an error that names why, and all else goes. */
static void test_what_stays_is_told(void **state)
{
    char folder[] = "/tmp/test-files-XXXXXX";
    char closed[64], inner[96];
    struct error err = ERROR_INIT;
    int status;
    pid_t pid;

    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(closed, sizeof(closed), "%s/closed", folder);
    snprintf(inner, sizeof(inner), "%s/inner", closed);
    assert_int_equal(mkdir(closed, 0755), 0);
    assert_int_equal(mkdir(inner, 0755), 0);
    if (geteuid() == 0) {
        assert_int_equal(chown(folder, NOBODY, NOBODY), 0);
        pid = fork();
        if (pid == 0) {
            MUST(setuid(NOBODY) == 0);
            _exit(files_remove_tree(folder, &err) == -1 && err.message[0] != '\0' ? 0 : 1);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
    assert_int_equal(files_remove_tree(folder, &err), 0);
    assert_int_equal(access(folder, F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_tree_deeper_than_paths_are_long),
        cmocka_unit_test(test_what_stays_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
