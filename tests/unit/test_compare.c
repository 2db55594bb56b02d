/* What a sweep finds: every status of a row against every thing a provider may say of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "lifecycle-worker/compare.h"

enum { MAX = 24, NOTHING = COMPARE_KIND_COUNT };

static struct provider_listed listed[MAX];
static struct store_sweep_row rows[MAX];
static struct compare sweep;
static size_t listed_count, row_count;

static int reset(void **state)
{
    (void)state;
    compare_done(&sweep);
    memset(listed, 0, sizeof(listed));
    memset(rows, 0, sizeof(rows));
    listed_count = row_count = 0;
    return 0;
}

static void at_provider(const char *id, const char *sandbox, enum provider_state state)
{
    struct provider_listed *item = &listed[listed_count++];
    str_copy(item->provider_sandbox_id, sizeof(item->provider_sandbox_id), id);
    str_copy(item->sandbox_id, sizeof(item->sandbox_id), sandbox);
    item->state = state;
}

static void row(const char *sandbox, const char *id, enum sandbox_status status, bool busy)
{
    struct store_sweep_row *item = &rows[row_count++];
    str_copy(item->sandbox_id, sizeof(item->sandbox_id), sandbox);
    str_copy(item->provider_sandbox_id, sizeof(item->provider_sandbox_id), id);
    item->status = status;
    item->busy = busy;
}

/* What store_sweep_page() gives for these: in any order, and no more. */
static size_t rows_of(const struct provider_listed *items, size_t count,
                      struct store_sweep_row *ret)
{
    size_t found = 0;
    for (size_t i = row_count; i-- > 0;) {
        for (size_t j = 0; j < count; j++) {
            if (strcmp(rows[i].provider_sandbox_id, items[j].provider_sandbox_id) == 0 ||
                strcmp(rows[i].sandbox_id, items[j].sandbox_id) == 0) {
                ret[found++] = rows[i];
                break;
            }
        }
    }
    return found;
}

static size_t compare_by(size_t page)
{
    struct store_sweep_row named[MAX];
    compare_done(&sweep);
    for (size_t at = 0; at < listed_count; at += page) {
        size_t items = listed_count - at < page ? listed_count - at : page;
        compare_page(&sweep, listed + at, items, named, rows_of(listed + at, items, named));
    }
    for (size_t at = 0; at < row_count; at += page) {
        compare_rows(&sweep, rows + at, row_count - at < page ? row_count - at : page);
    }
    return sweep.count;
}

static size_t compare(void)
{
    return compare_by(MAX);
}

/* The only finding, or NOTHING. */
static int only_finding(void)
{
    size_t count = compare();
    assert_true(count <= 1);
    return count == 0 ? NOTHING : (int)sweep.findings[0].kind;
}

static void test_every_status_against_every_state(void **state)
{
    static const enum provider_state seen[] = {PROVIDER_STATE_RUNNING, PROVIDER_STATE_PAUSED,
                                               PROVIDER_STATE_UNKNOWN, PROVIDER_STATE_ABSENT};
    /* rows are never deleted or failed ones: the last two columns of the table are not asked for */
    static const int expected[SANDBOX_DELETED][4] = {
        [SANDBOX_CREATING] = {NOTHING, NOTHING, NOTHING, COMPARE_ABSENT},
        [SANDBOX_RUNNING] = {NOTHING, COMPARE_MISMATCH, NOTHING, COMPARE_ABSENT},
        [SANDBOX_PAUSING] = {COMPARE_MISMATCH, COMPARE_MISMATCH, NOTHING, COMPARE_ABSENT},
        [SANDBOX_PAUSED] = {COMPARE_MISMATCH, NOTHING, NOTHING, COMPARE_ABSENT},
        [SANDBOX_RESUMING] = {COMPARE_MISMATCH, COMPARE_MISMATCH, NOTHING, COMPARE_ABSENT},
        [SANDBOX_DELETING] = {NOTHING, NOTHING, NOTHING, COMPARE_ABSENT},
    };
    for (int status = 0; status < SANDBOX_DELETED; status++) {
        for (int i = 0; i < 4; i++) {
            for (int busy = 0; busy < 2; busy++) {
                reset(state);
                row("s1", "p1", (enum sandbox_status)status, busy != 0);
                if (seen[i] != PROVIDER_STATE_ABSENT) {
                    at_provider("p1", "s1", seen[i]);
                }
                /* what a job is at is the job's affair */
                assert_int_equal(only_finding(), busy ? NOTHING : expected[status][i]);
            }
        }
    }
}

static void test_listed_and_named_by_no_row(void **state)
{
    for (int busy = 0; busy < 2; busy++) {
        reset(state); /* its sandbox is unknown, deleted or failed */
        at_provider("p1", "s1", PROVIDER_STATE_RUNNING);
        row("s2", "p2", SANDBOX_RUNNING, busy != 0);
        at_provider("p2", "s2", PROVIDER_STATE_RUNNING);
        assert_int_equal(only_finding(), COMPARE_ORPHAN);
        assert_string_equal(sweep.findings[0].provider_sandbox_id, "p1");

        reset(state); /* a copy beside the one that its row names */
        row("s1", "p2", SANDBOX_PAUSED, busy != 0);
        at_provider("p2", "s1", PROVIDER_STATE_PAUSED);
        at_provider("p1", "s1", PROVIDER_STATE_RUNNING);
        assert_int_equal(only_finding(), COMPARE_ORPHAN);
        assert_string_equal(sweep.findings[0].provider_sandbox_id, "p1");

        reset(state); /* its create has not heard of it */
        row("s1", "", SANDBOX_CREATING, busy != 0);
        at_provider("p1", "s1", PROVIDER_STATE_RUNNING);
        assert_int_equal(only_finding(), COMPARE_UNADOPTED);
        assert_string_equal(sweep.findings[0].sandbox_id, "s1");

        reset(state); /* which is being made at another provider, and may come back to it */
        row("s1", "", SANDBOX_CREATING, busy != 0);
        rows[0].elsewhere = true;
        at_provider("p1", "s1", PROVIDER_STATE_RUNNING);
        assert_int_equal(only_finding(), NOTHING);

        reset(state); /* the delete finds it by its tags */
        row("s1", "", SANDBOX_DELETING, busy != 0);
        at_provider("p1", "s1", PROVIDER_STATE_RUNNING);
        assert_int_equal(only_finding(), NOTHING);
    }
}

static void test_a_create_that_nothing_shows_of_is_no_finding(void **state)
{
    reset(state);
    row("s1", "", SANDBOX_CREATING, true);
    row("s2", "", SANDBOX_DELETING, true);
    assert_int_equal(only_finding(), NOTHING);
}

static void test_an_empty_list_and_no_rows(void **state)
{
    reset(state);
    assert_int_equal(compare(), 0);
    for (int i = 0; i < 5; i++) {
        char id[8];
        snprintf(id, sizeof(id), "p%d", i);
        row(id, id, SANDBOX_RUNNING, i == 2);
    }
    assert_int_equal(compare(), 4);
    reset(state);
    at_provider("p1", "s1", PROVIDER_STATE_RUNNING);
    assert_int_equal(compare(), 1);
}

/* A row that is missing and listed again is asked for by its id, whatever its state there. */
static void test_a_missing_row_that_is_listed_is_found(void **state)
{
    static const enum provider_state states[] = {PROVIDER_STATE_RUNNING, PROVIDER_STATE_PAUSED,
                                                 PROVIDER_STATE_UNKNOWN};
    for (size_t i = 0; i < 3; i++) {
        for (int busy = 0; busy < 2; busy++) {
            reset(state);
            row("s1", "p1", SANDBOX_RUNNING, busy != 0);
            rows[0].missing_since_ms = 5;
            at_provider("p1", "s1", states[i]);
            assert_int_equal(only_finding(), busy ? NOTHING : COMPARE_FOUND);
        }
    }
    reset(state);
    row("s1", "p1", SANDBOX_RUNNING, false);
    rows[0].missing_since_ms = 5;
    assert_int_equal(only_finding(), COMPARE_ABSENT);
}

/* What a list proves of the rows that it does not hold, for fleets of every size. */
static void test_what_a_list_proves(void **state)
{
    static const struct {
        int present, absent;
        int64_t made_ms, missing_ms; /* the present ones were made, the absent ones first missed */
        enum absence_evidence expected;
    } cases[] = {
        {0, 1, 0, 100, ABSENCE_UNPROVEN}, /* an empty list: perhaps another team's */
        {0, 9, 0, 100, ABSENCE_UNPROVEN},
        {1, 1, 50, 100, ABSENCE_PROVEN},
        {1, 8, 50, 100, ABSENCE_PROVEN},
        {1, 1, 100, 100, ABSENCE_UNPROVEN}, /* made since with a key that may be wrong */
        {3, 1, 200, 100, ABSENCE_UNPROVEN},
        {10, 10, 50, 100, ABSENCE_PROVEN},
        {9, 10, 50, 100, ABSENCE_UNPROVEN}, /* most of a fleet gone: rather the list is wrong */
        {12, 3, 50, 100, ABSENCE_PROVEN},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        reset(state);
        for (int j = 0; j < cases[i].present + cases[i].absent; j++) {
            char id[8];
            snprintf(id, sizeof(id), "p%02d", j);
            row(id, id, SANDBOX_RUNNING, false);
            if (j < cases[i].present) {
                rows[j].created_at_ms = cases[i].made_ms + j;
                at_provider(id, id, PROVIDER_STATE_RUNNING);
            } else {
                rows[j].missing_since_ms = cases[i].missing_ms;
            }
        }
        size_t count = compare();
        assert_int_equal(count, (size_t)cases[i].absent);
        assert_int_equal(compare_evidence(&sweep, &sweep.findings[0]), cases[i].expected);
    }
}

/* Order, repetition and the size of the pages change nothing: pages overlap while sandboxes come
 * and go. */
static void test_order_and_repetition(void **state)
{
    unsigned seed = 7;
    for (int round = 0; round < 200; round++) {
        int kinds[COMPARE_KIND_COUNT] = {0};
        reset(state);
        row("s1", "p1", SANDBOX_RUNNING, false); /* absent */
        row("s2", "p2", SANDBOX_RUNNING, false); /* fine */
        row("s3", "p3", SANDBOX_PAUSED, false);  /* mismatch */
        row("s4", "", SANDBOX_CREATING, true);   /* unadopted */
        row("s5", "p5", SANDBOX_PAUSED, false);  /* absent */
        row("s0", "p9", SANDBOX_PAUSED, false);  /* fine, and a copy */
        at_provider("p9", "s0", PROVIDER_STATE_PAUSED);
        at_provider("p2", "s2", PROVIDER_STATE_RUNNING);
        at_provider("p3", "s3", PROVIDER_STATE_RUNNING);
        at_provider("p4", "s4", PROVIDER_STATE_RUNNING);
        at_provider("p0", "s0", PROVIDER_STATE_RUNNING); /* orphan */
        at_provider("p7", "s7", PROVIDER_STATE_RUNNING); /* orphan */
        for (int copies = rand_r(&seed) % 6; copies > 0; copies--) {
            listed[listed_count] = listed[(size_t)rand_r(&seed) % listed_count];
            listed_count++;
        }
        for (size_t i = listed_count - 1; i > 0; i--) {
            size_t other = (size_t)rand_r(&seed) % (i + 1);
            struct provider_listed swap = listed[i];
            listed[i] = listed[other];
            listed[other] = swap;
        }
        for (size_t i = row_count - 1; i > 0; i--) {
            size_t other = (size_t)rand_r(&seed) % (i + 1);
            struct store_sweep_row swap = rows[i];
            rows[i] = rows[other];
            rows[other] = swap;
        }
        assert_int_equal(compare_by(1 + (size_t)round % 7), 6);
        assert_int_equal(sweep.listed, 6);
        assert_int_equal(sweep.rows, row_count);
        for (int i = 0; i < 6; i++) {
            kinds[sweep.findings[i].kind]++;
        }
        assert_int_equal(kinds[COMPARE_ABSENT], 2);
        assert_int_equal(kinds[COMPARE_MISMATCH], 1);
        assert_int_equal(kinds[COMPARE_UNADOPTED], 1);
        assert_int_equal(kinds[COMPARE_ORPHAN], 2);
    }
}

/* A page on which nothing is new says so: a list that goes in circles comes to its end. */
static void test_a_page_with_nothing_new(void **state)
{
    reset(state);
    at_provider("p1", "s1", PROVIDER_STATE_RUNNING);
    at_provider("p2", "s2", PROVIDER_STATE_RUNNING);
    assert_true(compare_page(&sweep, listed, 1, NULL, 0));
    assert_true(compare_page(&sweep, listed, 2, NULL, 0));
    assert_false(compare_page(&sweep, listed, 2, NULL, 0));
    assert_int_equal(sweep.count, 2);
}

/* All are counted, since the count tells what a list proves; but only so many are kept. */
static void test_what_is_kept_is_bounded(void **state)
{
    enum { GONE = 60000 };
    struct store_sweep_row gone = {.status = SANDBOX_RUNNING, .missing_since_ms = 5};
    reset(state);
    for (int i = 0; i < GONE; i++) {
        snprintf(gone.sandbox_id, sizeof(gone.sandbox_id), "s%d", i);
        snprintf(gone.provider_sandbox_id, sizeof(gone.provider_sandbox_id), "p%d", i);
        compare_rows(&sweep, &gone, 1);
    }
    assert_int_equal(sweep.found[COMPARE_ABSENT], GONE);
    assert_int_equal(sweep.count, COMPARE_KEPT_MAX);
    assert_string_equal(sweep.findings[0].sandbox_id, "s0"); /* the same ones the next time */
    reset(state);
}

static void test_ids_are_told_apart(void **state)
{
    enum { MANY = 200000 };
    struct idset set = {0};
    char id[16];
    (void)state;
    assert_false(idset_has(&set, "i0"));
    for (int i = 0; i < MANY; i++) {
        snprintf(id, sizeof(id), "i%d", i);
        assert_true(idset_add(&set, id));
    }
    for (int i = 0; i < MANY; i++) {
        snprintf(id, sizeof(id), "i%d", i);
        assert_false(idset_add(&set, id));
        assert_true(idset_has(&set, id));
        id[0] = 'j';
        assert_false(idset_has(&set, id));
    }
    assert_int_equal(set.count, MANY);
    assert_true(set.capacity <= 4 * MANY);
    idset_done(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_status_against_every_state),
        cmocka_unit_test(test_listed_and_named_by_no_row),
        cmocka_unit_test(test_a_create_that_nothing_shows_of_is_no_finding),
        cmocka_unit_test(test_an_empty_list_and_no_rows),
        cmocka_unit_test(test_a_missing_row_that_is_listed_is_found),
        cmocka_unit_test(test_what_a_list_proves),
        cmocka_unit_test(test_order_and_repetition),
        cmocka_unit_test(test_a_page_with_nothing_new),
        cmocka_unit_test(test_what_is_kept_is_bounded),
        cmocka_unit_test(test_ids_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
