/*
 * test_router - paths against patterns, and the route table's own order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/http/router.h"

#define ID    "29ef1923-20e4-4e41-9d76-1fffafbaaaeb"
#define PLAIN "29ef192320e44e419d761fffafbaaaeb"

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
        /* the forms of E2B's clients, for their routes only */
        {"/a/{sandboxID}", "/a/" ID, 0},
        {"/a/{sandboxID}", "/a/" PLAIN, 0},
        {"/a/{sandboxID}/logs", "/a/" PLAIN "-6532622b/logs", 0},
        {"/a/{sandboxID}", "/a/" PLAIN "-", 0},
        {"/a/{sandboxID}", "/a/" PLAIN "0", 1},
        {"/a/{sandboxID}", "/a/29EF192320E44E419D761FFFAFBAAAEB", 1},
        {"/a/{sandboxID}", "/a/x-6532622b", 1},
        {"/a/{sandboxID}", "/a/", -1},
        {"/a/{id}", "/a/" PLAIN, 1},
        /* two ids */
        {"/a/{id}/b/{command_id}", "/a/" ID "/b/" ID, 0},
        {"/a/{id}/b/{command_id}/c", "/a/" ID "/b/" ID "/c", 0},
        {"/a/{id}/b/{command_id}", "/a/" ID "/b/" ID "/c", -1},
        {"/a/{id}/b/{command_id}", "/a/" ID "/b", -1},
        {"/a/{id}/b/{command_id}", "/a/" ID "/b/x", 1},
        {"/a/{id}/b/{command_id}", "/a/" ID "/b/" PLAIN, 1},
        {"/a/{id}/b/{command_id}", "/a/x/b/" ID, 1},
        /* a second segment, of any kind */
        {"/a/{id}/ports/{port}", "/a/" ID "/ports/80", 0},
        {"/a/{id}/ports/{port}", "/a/" ID "/ports/", -1},
        {"/a/{id}/ports/{port}", "/a/" ID "/ports", -1},
        {"/a/{id}/ports/{port}", "/a/" ID "/ports/80/", -1},
        {"/a/{id}/ports/{port}", "/a/x/ports/80", 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char id[ROUTE_IDS][UUID_BYTES] = {"", ""};

        if (route_match(cases[i].pattern, cases[i].path, id) != cases[i].match) {
            fail_msg("%s against %s", cases[i].path, cases[i].pattern);
        }
        if (cases[i].match == 0 && strchr(cases[i].pattern, '{') != NULL) {
            assert_string_equal(id[0], ID);
        } else {
            assert_string_equal(id[0], "");
        }
        if (cases[i].match == 0 && strstr(cases[i].pattern, "{command_id}") != NULL) {
            assert_string_equal(id[1], ID);
        } else {
            assert_string_equal(id[1], "");
        }
    }
}

/* A segment longer than any buffer is no match and no overflow. */
static void test_long_segment(void **state)
{
    char path[8192] = "/a/", id[ROUTE_IDS][UUID_BYTES] = {"", ""};

    (void)state;
    memset(path + 3, 'f', sizeof(path) - 4);
    path[sizeof(path) - 1] = '\0';
    assert_int_equal(route_match("/a/{id}", path, id), 1);
    assert_string_equal(id[0], "");
}

/* Nobody forgets to say which API keys may call a new route. */
static void test_every_route_names_its_scope(void **state)
{
    (void)state;
    for (int i = 0; i < route_count; i++) {
        unsigned flags = route_table[i].flags;
        unsigned scopes = flags >> ROUTE_SCOPE_SHIFT & SCOPE_ALL;
        int named = (scopes != 0) + ((flags & ANY_KEY) != 0) + ((flags & NO_KEY) != 0);

        if (named != ((flags & OPEN) == 0))
            fail_msg("%s %s: name one of READS, WRITES, EXECS, ADMINS, ANY_KEY, NO_KEY",
                     route_table[i].method, route_table[i].path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_match),
        cmocka_unit_test(test_long_segment),
        cmocka_unit_test(test_every_route_names_its_scope),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
