/* The memory that a process may take, as its control groups say it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "common/base/memory_limit.h"

static char root[64];

static void put(const char *path, const char *text)
{
    char name[512];
    FILE *file;

    snprintf(name, sizeof(name), "%s%s", root, path);
    for (char *slash = strchr(name + strlen(root) + 1, '/'); slash != NULL;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(name, 0700);
        *slash = '/';
    }
    file = fopen(name, "we");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int begin(void **state)
{
    (void)state;
    snprintf(root, sizeof(root), "/tmp/memory-limit-XXXXXX");
    return mkdtemp(root) != NULL ? 0 : -1;
}

static int end(void **state)
{
    char command[128];
    FILE *run;

    (void)state;
    snprintf(command, sizeof(command), "rm -rf %s", root);
    run = popen(command, "re");
    return run != NULL && pclose(run) == 0 ? 0 : -1;
}

static void test_version_2(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "0::/a/b\n");
    assert_int_equal(memory_limit_cgroup(root), 0);
    put("/sys/fs/cgroup/a/b/memory.max", "max\n");
    assert_int_equal(memory_limit_cgroup(root), 0);
    put("/sys/fs/cgroup/a/memory.max", "268435456\n");
    assert_int_equal(memory_limit_cgroup(root), 268435456);
    put("/sys/fs/cgroup/a/b/memory.max", "134217728\n");
    assert_int_equal(memory_limit_cgroup(root), 134217728);
}

static void test_version_1(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "12:cpu,cpuacct:/x\n7:memory:/docker/abc\n1:name=systemd:/y\n0::/z\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    assert_int_equal(memory_limit_cgroup(root), 0);
    /* in a container the group is the mount's root */
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456\n");
    assert_int_equal(memory_limit_cgroup(root), 268435456);
    put("/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "134217728\n");
    assert_int_equal(memory_limit_cgroup(root), 134217728);
}

static void test_nothing_to_read(void **state)
{
    (void)state;
    assert_int_equal(memory_limit_cgroup(root), 0);
    put("/proc/self/cgroup", "nonsense\n\n0::\n");
    assert_int_equal(memory_limit_cgroup(root), 0);
    assert_true(memory_limit_machine() > 1 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_version_2, begin, end),
        cmocka_unit_test_setup_teardown(test_version_1, begin, end),
        cmocka_unit_test_setup_teardown(test_nothing_to_read, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
