/*
 * The state machine, every state x event: an independent statement of the rules is compared with
 * the table, and properties that must hold whatever the rules are.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/domain/lifecycle.h"

/*
 * One row a status in the order of states.def, one word an event: letter of the effect (C call,
 * A already, R reject, S settle, - impossible) and of the next state (c creating, r running,
 * p pausing, P paused, u resuming, d deleting, D deleted, f failed).
 */
static const char *const rules[SANDBOX_STATUS_COUNT] = {
    /* START: create resume pause delete timeout reconcile | DONE the same | FAILED the same | SEEN
     * running paused absent */
    [SANDBOX_CREATING] = "Cc Rc Rc Cd Rc Cc  Sr -- -- -- -- Sc  Sf -- -- -- -- Sc  -- -- SD",
    [SANDBOX_RUNNING] = "Ar Ar Cp Cd Cr Cr  -- -- -- -- Sr Sr  -- -- -- -- Sr Sr  Sr SP SD",
    [SANDBOX_PAUSING] = "Rp Cu Cp Cd Rp Cp  -- -- SP -- -- Sp  -- -- Sr -- -- Sp  Sr SP SD",
    [SANDBOX_PAUSED] = "AP Cu AP Cd AP CP  -- -- -- -- SP SP  -- -- -- -- SP SP  Sr SP SD",
    [SANDBOX_RESUMING] = "Ru Cu Ru Cd Ru Cu  -- Sr -- -- -- Su  -- SP -- -- -- Su  Sr SP SD",
    [SANDBOX_DELETING] = "Rd Rd Rd Cd Rd Cd  -- -- -- SD -- Sd  -- -- -- Sd -- Sd  -- -- SD",
    [SANDBOX_DELETED] = "RD RD RD AD RD AD  -- -- -- -- -- --  -- -- -- -- -- --  -- -- --",
    [SANDBOX_FAILED] = "Rf Rf Rf Cd Rf Af  -- -- -- -- -- --  -- -- -- -- -- --  -- -- Sf",
};

static const char state_letters[SANDBOX_STATUS_COUNT + 1] = "crpPudDf";
static const char effect_letters[] = "-CARS";

static struct lifecycle_step next(int status, int event)
{
    return lifecycle_next((enum sandbox_status)status, (enum lifecycle_event)event);
}

static void test_every_state_and_event(void **state)
{
    int checked = 0;

    (void)state;
    for (int status = 0; status < SANDBOX_STATUS_COUNT; status++) {
        const char *at = rules[status];

        for (int event = 0; event < LIFECYCLE_EVENT_COUNT; event++, checked++) {
            struct lifecycle_step step = next(status, event);

            at += strspn(at, " ");
            if (effect_letters[step.effect] != at[0] ||
                (at[0] != '-' && state_letters[step.next] != at[1])) {
                fail_msg("%s, event %d: is %c%c, must be %.2s",
                         sandbox_status_name((enum sandbox_status)status), event,
                         effect_letters[step.effect], state_letters[step.next], at);
            }
            at += 2;
        }
        assert_string_equal(at, "");
    }
    assert_int_equal(checked, 8 * 21);
}

static void test_only_a_call_or_a_settlement_moves(void **state)
{
    (void)state;
    for (int status = 0; status < SANDBOX_STATUS_COUNT; status++) {
        for (int event = 0; event < LIFECYCLE_EVENT_COUNT; event++) {
            struct lifecycle_step step = next(status, event);

            if (step.effect == LIFECYCLE_ALREADY || step.effect == LIFECYCLE_REJECT) {
                assert_int_equal(step.next, status);
            }
            assert_in_range(step.next, 0, SANDBOX_STATUS_COUNT - 1);
        }
    }
}

static void test_every_start_is_answered(void **state)
{
    (void)state;
    for (int status = 0; status < SANDBOX_STATUS_COUNT; status++) {
        for (int op = 0; op < JOB_OP_COUNT; op++) {
            struct lifecycle_step step = next(status, LIFECYCLE_START + op);

            assert_true(step.effect == LIFECYCLE_CALL || step.effect == LIFECYCLE_ALREADY ||
                        step.effect == LIFECYCLE_REJECT);
        }
    }
}

/* A call that was begun can end either way, be begun again after a crash, and be deleted over. */
static void test_every_call_can_end_and_be_repeated(void **state)
{
    (void)state;
    for (int status = 0; status < SANDBOX_STATUS_COUNT; status++) {
        for (int op = 0; op < JOB_OP_COUNT; op++) {
            struct lifecycle_step step = next(status, LIFECYCLE_START + op), again;

            if (step.effect != LIFECYCLE_CALL) {
                continue;
            }
            assert_int_equal(next((int)step.next, LIFECYCLE_DONE + op).effect, LIFECYCLE_SETTLE);
            assert_int_equal(next((int)step.next, LIFECYCLE_FAILED + op).effect, LIFECYCLE_SETTLE);
            again = next((int)step.next, LIFECYCLE_START + op);
            assert_int_equal(again.effect, LIFECYCLE_CALL);
            assert_int_equal(again.next, step.next);
            assert_int_equal(next((int)step.next, LIFECYCLE_START + JOB_DELETE).effect,
                             LIFECYCLE_CALL);
        }
    }
}

static void test_nothing_leaves_deleted(void **state)
{
    (void)state;
    for (int event = 0; event < LIFECYCLE_EVENT_COUNT; event++) {
        struct lifecycle_step step = next(SANDBOX_DELETED, event);

        assert_true(step.effect == LIFECYCLE_IMPOSSIBLE || step.next == SANDBOX_DELETED);
        assert_int_not_equal(step.effect, LIFECYCLE_CALL);
    }
}

/* Deleted can be reached from everywhere, or a sandbox could stay behind for ever. */
static void test_delete_works_from_everywhere(void **state)
{
    (void)state;
    for (int status = 0; status < SANDBOX_STATUS_COUNT; status++) {
        if (status != SANDBOX_DELETED) {
            assert_int_equal(next(status, LIFECYCLE_START + JOB_DELETE).next, SANDBOX_DELETING);
        }
    }
    assert_int_equal(next(SANDBOX_DELETING, LIFECYCLE_DONE + JOB_DELETE).next, SANDBOX_DELETED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_state_and_event),
        cmocka_unit_test(test_only_a_call_or_a_settlement_moves),
        cmocka_unit_test(test_every_start_is_answered),
        cmocka_unit_test(test_every_call_can_end_and_be_repeated),
        cmocka_unit_test(test_nothing_leaves_deleted),
        cmocka_unit_test(test_delete_works_from_everywhere),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
