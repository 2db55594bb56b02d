/*
 * Idempotency-Keys in a real PostgreSQL (DATABASE_URL): whose they are, when a claim is taken over,
 * what is kept. Its own schema, see store_fixture.h.
 */
#include "tests/integration/store_fixture.h"

enum { RETENTION_MS = 86400000, TAKEOVER_MS = 30000 };

static int setup(void **state)
{
    (void)state;
    fixture_open("test_store_keys");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_close();
    return 0;
}

/* Claims `key` for a request of this hash under a fresh claim, which goes to claim_id. */
static void claim_key(const char *key, const char *hash, bool once, char claim_id[UUID_BYTES],
                      struct store_key *ret)
{
    const struct store_key_ask ask = {.owner = "alice",
                                      .key = key,
                                      .hash = hash,
                                      .claim = claim_id,
                                      .retention_ms = RETENTION_MS,
                                      .takeover_ms = TAKEOVER_MS,
                                      .once = once,
                                      .again = 1u << OUTCOME_TRANSIENT | 1u << OUTCOME_CAPACITY};

    id_uuid(claim_id);
    OK(store_key_claim(store, &ask, ret, &err));
}

/* True when a new request gets the key. */
static bool is_free(const char *key, const char *hash)
{
    char claim_id[UUID_BYTES];
    struct store_key known;

    claim_key(key, hash, false, claim_id, &known);
    store_key_done(&known);
    return known.mine;
}

static void make_older(const char *key, int seconds)
{
    sql("UPDATE idempotency_keys SET claimed_at = claimed_at - interval '%d seconds' WHERE key = "
        "'%s'",
        seconds, key);
}

static void test_a_stale_claim_is_taken_over_by_the_same_request_only(void **state)
{
    char claim_id[UUID_BYTES];
    struct store_key known;

    (void)state;
    claim_key("stale", "hash", false, claim_id, &known);
    assert_true(known.mine);
    store_key_done(&known);
    assert_false(is_free("stale", "hash"));
    make_older("stale", 31);
    claim_key("stale", "another body", false, claim_id, &known);
    assert_false(known.mine);
    assert_string_equal(known.request_hash, "hash");
    store_key_done(&known);
    assert_true(is_free("stale", "hash"));
    /* the new claim is young again */
    assert_false(is_free("stale", "hash"));
}

static void test_a_claim_of_what_must_not_run_twice_is_never_taken_over(void **state)
{
    char claim_id[UUID_BYTES];
    struct store_key known;

    (void)state;
    claim_key("once", "hash", true, claim_id, &known);
    assert_true(known.mine);
    store_key_done(&known);
    make_older("once", 7200);
    claim_key("once", "hash", true, claim_id, &known);
    assert_false(known.mine);
    assert_true(known.once);
    assert_in_range(known.claimed_ago_ms, 7200000, 7260000);
    store_key_done(&known);
    sql("UPDATE idempotency_keys SET created_at = now() - interval '25 hours' WHERE key = 'once'");
    assert_true(is_free("once", "another body"));
}

/* A key whose create job ended in `end` with `outcome`. */
static void key_with_job(const char *key, const char *end, const char *outcome)
{
    char claim_id[UUID_BYTES];
    struct sandbox sandbox;
    struct wakeup wakeup;
    struct store_key known;

    claim_key(key, "hash", false, claim_id, &known);
    store_key_done(&known);
    new_sandbox(&sandbox, &wakeup);
    sql("SELECT bind_idempotency_key('alice', '%s', '%s', '%s', '%s')", key, claim_id,
        wakeup.job_id, sandbox.id);
    sql("UPDATE jobs SET state = '%s', outcome = '%s' WHERE id = '%s'", end, outcome,
        wakeup.job_id);
}

static void test_only_a_failure_that_says_try_again_frees_the_key(void **state)
{
    static const struct {
        const char *end, *outcome;
        bool frees;
    } cases[] = {
        {"failed", "transient", true},     {"dead", "capacity", true},
        {"failed", "permanent", false},    {"done", "ok", false},
        {"superseded", "capacity", false}, {"retry_wait", "transient", false},
        {"running", "transient", false},
    };
    char key[32];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        snprintf(key, sizeof(key), "job %zu", i);
        key_with_job(key, cases[i].end, cases[i].outcome);
        assert_false(is_free(key, "another body"));
        if (is_free(key, "hash") != cases[i].frees) {
            fail_msg("%s, %s", cases[i].end, cases[i].outcome);
        }
    }
}

static void test_the_first_answer_is_the_one_that_is_kept(void **state)
{
    char claim_id[UUID_BYTES];
    struct store_key_ask ask = {
        .owner = "alice", .key = "kept", .hash = "whole", .claim = claim_id};
    struct store_key known;

    (void)state;
    claim_key("kept", "part", false, claim_id, &known);
    store_key_done(&known);
    OK(store_key_answer(store, &ask, "", 200, "first", &known, &err));
    assert_string_equal(known.body, "first");
    store_key_done(&known);
    OK(store_key_answer(store, &ask, "", 200, "second", &known, &err));
    assert_string_equal(known.body, "first");
    assert_string_equal(known.request_hash, "whole");
    store_key_done(&known);
    make_older("kept", 3600);
    assert_false(is_free("kept", "whole"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_stale_claim_is_taken_over_by_the_same_request_only),
        cmocka_unit_test(test_a_claim_of_what_must_not_run_twice_is_never_taken_over),
        cmocka_unit_test(test_only_a_failure_that_says_try_again_frees_the_key),
        cmocka_unit_test(test_the_first_answer_is_the_one_that_is_kept),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
