/* When a sandbox that its provider does not know is missing, and when it is lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/domain/absence.h"

static const struct absence_policy policy = {.absent_ms = 300000, .unproven_ms = 3600000};

static void test_every_evidence_at_every_age(void **state)
{
    static const struct {
        int64_t missing_ms;
        enum absence_evidence evidence;
        enum absence_verdict verdict;
    } cases[] = {
        /* one look is never enough, whatever the list says */
        {-1, ABSENCE_NO_LIST, ABSENCE_LOOK_AGAIN},
        {-1, ABSENCE_UNPROVEN, ABSENCE_LOOK_AGAIN},
        {-1, ABSENCE_PROVEN, ABSENCE_LOOK_AGAIN},
        /* two looks within a moment are one look */
        {0, ABSENCE_PROVEN, ABSENCE_MISSING},
        {299999, ABSENCE_PROVEN, ABSENCE_MISSING},
        {300000, ABSENCE_PROVEN, ABSENCE_LOST},
        /* without proof it takes longer */
        {300000, ABSENCE_UNPROVEN, ABSENCE_MISSING},
        {3599999, ABSENCE_UNPROVEN, ABSENCE_MISSING},
        {3600000, ABSENCE_UNPROVEN, ABSENCE_LOST},
        /* what the list shows is there, however often a look does not find it */
        {300000, ABSENCE_NO_LIST, ABSENCE_MISSING},
        {INT64_MAX, ABSENCE_NO_LIST, ABSENCE_MISSING},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(absence_judge(&policy, cases[i].missing_ms, cases[i].evidence),
                         cases[i].verdict);
    }
}

static void test_names_of_evidence(void **state)
{
    enum absence_evidence found;
    (void)state;
    for (int i = 0; i < ABSENCE_EVIDENCE_COUNT; i++) {
        assert_int_equal(
            absence_evidence_parse(absence_evidence_name((enum absence_evidence)i), &found), 0);
        assert_int_equal(found, i);
    }
    assert_int_equal(absence_evidence_parse("sure", &found), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_evidence_at_every_age),
        cmocka_unit_test(test_names_of_evidence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
