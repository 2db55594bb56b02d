/*
 * test_router - paths against patterns, and the route table's own order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/router.h"

#define ID "29ef1923-20e4-4e41-9d76-1fffafbaaaeb"

static void test_match(void **state)
{
    static const struct {
        const char *pattern, *path;
        int match;
    } cases[] = {
        {"/a/b", "/a/b", 0},
        {"/a/b", "/a/b/", -1},
        {"/a/b", "/a", -1},
        {"/a/b", "/a/bc", -1},
        {"/a/{id}", "/a/" ID, 0},
        {"/a/{id}", "/a/", -1},
        {"/a/{id}", "/a/" ID "/", -1},
        {"/a/{id}", "/a/" ID "/status", -1},
        {"/a/{id}/status", "/a/" ID "/status", 0},
        {"/a/{id}/status", "/a/" ID "/status/", -1},
        {"/a/{id}/status", "/a//status", -1},
        {"/a/{id}/status", "/a/" ID, -1},
        /* a segment where an id belongs, but none */
        {"/a/{id}", "/a/x", 1},
        {"/a/{id}", "/a/29EF1923-20E4-4E41-9D76-1FFFAFBAAAEB", 1},
        {"/a/{id}", "/a/29ef1923-20e4-4e41-9d76-1fffafbaaae%62", 1},
        {"/a/{id}/status", "/a/" ID "0/status", 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char id[UUID_BYTES] = "";

        if (route_match(cases[i].pattern, cases[i].path, id) != cases[i].match) {
            fail_msg("%s against %s", cases[i].path, cases[i].pattern);
        }
        if (cases[i].match == 0 && strstr(cases[i].pattern, "{id}") != NULL) {
            assert_string_equal(id, ID);
        } else {
            assert_string_equal(id, "");
        }
    }
}

/* A segment longer than any buffer is no match and no overflow. */
static void test_long_segment(void **state)
{
    char path[8192] = "/a/", id[UUID_BYTES] = "";

    (void)state;
    memset(path + 3, 'f', sizeof(path) - 4);
    path[sizeof(path) - 1] = '\0';
    assert_int_equal(route_match("/a/{id}", path, id), 1);
    assert_string_equal(id, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_match),
        cmocka_unit_test(test_long_segment),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
