/*
 * The event feed: a reader that goes on from its cursor sees every event once, whatever the order
 * in which the writers commit; owners see their own; each event has a type, an actor and an owner.
 */
#include "tests/integration/store_fixture.h"

#include <stdatomic.h>

#include "common/base/clock.h"
#include "common/store/event_json.h"
#include "common/store/store_events.h"

enum { WRITERS = 16, ROUNDS = 25, BOXES = 6, PAGE = 7, EVENTS_MAX = 4096, SETTLE_MS = 30000 };

static int setup(void **state)
{
    (void)state;
    fixture_open("test_store_events");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_close();
    return 0;
}

static const struct store_event_cursor oldest = {0};

/* ---- commits in any order ------------------------------------------------------------------ */

struct writer {
    int number;
    const struct sandbox *boxes;
};
static atomic_int writing, write_failures;

__attribute__((format(printf, 2, 3))) static void run(PGconn *pg, const char *format, ...)
{
    char text[512];
    PGresult *result;
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    result = PQexec(pg, text);
    if (PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK) {
        print_error("%s: %s\n", text, PQerrorMessage(pg));
        atomic_fetch_add(&write_failures, 1);
    }
    PQclear(result);
}

/* The sandbox's version, which its row lock keeps in the order of the commits, is the reason. */
static void write_one(PGconn *pg, const char *sandbox_id)
{
    run(pg,
        "WITH u AS (UPDATE sandboxes SET version = version + 1 WHERE id = '%s' RETURNING id, "
        "version) "
        "INSERT INTO events (sandbox_id, from_status, to_status, reason, actor) "
        "SELECT id, 'running', 'paused', version, 'writer' FROM u",
        sandbox_id);
}

static void *write_events(void *arg)
{
    const struct writer *writer = arg;
    PGconn *pg = PQconnectdb(fixture_conninfo);

    for (int i = 0; i < ROUNDS; i++) {
        uint32_t first = id_random_below(BOXES), second = first + 1 + id_random_below(BOXES);

        run(pg, "BEGIN");
        if (id_random_below(3) == 0) {
            run(pg, "SELECT pg_current_xact_id()"); /* an old transaction that writes late */
            clock_sleep_ms(id_random_below(8));
        }
        write_one(pg, writer->boxes[first].id);
        clock_sleep_ms(id_random_below(10) == 0 ? 40 : id_random_below(4));
        if (second < BOXES) { /* in one order, so that none deadlock */
            write_one(pg, writer->boxes[second].id);
        }
        run(pg, id_random_below(8) == 0 ? "ROLLBACK" : "COMMIT");
    }
    PQfinish(pg);
    atomic_fetch_sub(&writing, 1);
    return NULL;
}

static size_t read_page(struct store_event_cursor *cursor, struct store_event *all, size_t have)
{
    const struct store_event_filter filter = {.owner = "alice", .after = *cursor, .limit = PAGE};
    struct store_event *events;
    size_t count;
    bool more;

    OK(store_event_feed(store, &filter, &events, &count, cursor, &more, &err));
    assert_true(have + count <= EVENTS_MAX);
    memcpy(all + have, events, count * sizeof(*events));
    free(events);
    return count;
}

static void assert_each_once_in_order(const struct store_event *all, size_t count,
                                      const struct sandbox *boxes)
{
    for (int b = 0; b < BOXES; b++) {
        int64_t expected = sql("SELECT version FROM sandboxes WHERE id = '%s'", boxes[b].id),
                at = 0;

        for (size_t i = 0; i < count; i++) {
            if (strcmp(all[i].sandbox_id, boxes[b].id) == 0) {
                int64_t version = strtoll(all[i].reason, NULL, 10);

                assert_true(at == 0 || version == at + 1);
                at = version;
            }
        }
        assert_int_equal(at, expected);
    }
}

static void test_each_event_once_while_writers_commit_in_any_order(void **state)
{
    static struct store_event all[EVENTS_MAX];
    struct sandbox boxes[BOXES];
    struct writer writers[WRITERS];
    pthread_t threads[WRITERS];
    struct store_event_cursor cursor;
    size_t count = 0, behind = 0, got = 1;
    int64_t newest_id, written, until_ms;

    (void)state;
    for (int b = 0; b < BOXES; b++) {
        create_running(&boxes[b]);
    }
    OK(store_events_end(store, &cursor, &newest_id, &err));
    assert_true(newest_id > 0);
    written = sql("SELECT max(id) FROM events");
    atomic_store(&writing, WRITERS);
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.number = i, .boxes = boxes};
        pthread_create(&threads[i], NULL, write_events, &writers[i]);
    }
    until_ms = clock_mono_ms() + SETTLE_MS;
    while (true) {
        /* a transaction of another database of this server, too, holds the horizon back */
        bool last = atomic_load(&writing) == 0 &&
                    (clock_mono_ms() >= until_ms ||
                     (int64_t)count ==
                         sql("SELECT count(*) FROM events WHERE id > %lld", (long long)written));

        got = read_page(&cursor, all, count);
        count += got;
        for (size_t i = count - got; i > 0 && i < count; i++) {
            behind += all[i].cursor.id < all[i - 1].cursor.id;
        }
        if (got == 0 && last) {
            break;
        }
    }
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(write_failures, 0);
    assert_int_equal(count, sql("SELECT count(*) FROM events WHERE id > %lld", (long long)written));
    assert_each_once_in_order(all, count, boxes);
    print_message("%zu events, %zu of them behind a greater id\n", count, behind);
}

static void test_an_open_transaction_holds_back_what_came_after_it(void **state)
{
    PGconn *pg = PQconnectdb(fixture_conninfo);
    struct sandbox early, late;
    struct store_event *settled, *whole;
    struct store_event_cursor cursor;
    static struct store_event all[EVENTS_MAX];
    int64_t newest_id;
    size_t held_back, settled_count, whole_count;

    (void)state;
    create_running(&early);
    create_running(&late);
    OK(store_events_end(store, &cursor, &newest_id, &err));
    run(pg, "BEGIN");
    write_one(pg, early.id);
    sql("UPDATE sandboxes SET version = 100 WHERE id = '%s'", late.id);
    sql("INSERT INTO events (sandbox_id, from_status, to_status, reason, actor) "
        "VALUES ('%s', 'running', 'paused', 'late', 'writer')",
        late.id);
    held_back = read_page(&cursor, all, 0);
    OK(store_events(store, late.id, &oldest, 10, false, &settled, &settled_count, &err));
    OK(store_events(store, late.id, &oldest, 10, true, &whole, &whole_count, &err));
    run(pg, "COMMIT"); /* before anything can fail: an open transaction would keep the schema */
    PQfinish(pg);
    assert_int_equal(held_back, 0);
    assert_int_equal(settled_count, 2);
    assert_int_equal(whole_count, 3);
    assert_true(whole[1].settled && !whole[2].settled);
    free(settled);
    free(whole);
    assert_int_equal(read_page(&cursor, all, 0), 2);
    assert_string_equal(all[0].sandbox_id, early.id);
    assert_string_equal(all[1].sandbox_id, late.id);
    assert_int_equal(read_page(&cursor, all, 0), 0);
}

/* ---- what an event says -------------------------------------------------------------------- */

static const char *const type_names[] = {
#define TYPE(code, name, meaning) name,
#define ACTOR(code, name, meaning)
#include "common/domain/event_types.def"
#undef TYPE
#undef ACTOR
};
enum { TYPE_COUNT = sizeof(type_names) / sizeof(type_names[0]) };

static void test_every_change_has_a_type_of_the_list(void **state)
{
    char list[1024] = "";

    (void)state;
    for (int i = 0; i < TYPE_COUNT; i++) {
        size_t used = strlen(list);

        snprintf(list + used, sizeof(list) - used, "%s'%s'", i > 0 ? "," : "", type_names[i]);
    }
    /* each that is listed can come about, and none else */
    assert_int_equal(
        sql("SELECT count(DISTINCT event_type(f, t, r)) FROM unnest(ARRAY['', 'creating', "
            "'running', 'pausing', 'paused', 'resuming', 'deleting', 'deleted', 'failed']) f, "
            "unnest(ARRAY['creating', 'running', 'pausing', 'paused', 'resuming', 'deleting', "
            "'deleted', 'failed']) t, unnest(ARRAY['', 'provider_lost', 'missing_at_provider', "
            "'seen_at_provider', 'at x, because y', 'pause started by deadline']) r "
            "WHERE NOT (f <> t AND f <> 'deleted' AND t = 'creating' AND f <> '')"),
        TYPE_COUNT);
    assert_int_equal(sql("SELECT count(*) FROM events WHERE type NOT IN (%s)", list), 0);
    assert_int_equal(sql("SELECT count(*) FROM unnest(ARRAY[%s]) t WHERE t = event_type('', "
                         "'creating', 'x') OR t = event_type('pausing', 'paused', 'provider_lost')",
                         list),
                     2);
}

static void test_an_event_tells_who_asked(void **state)
{
    char key_id[UUID_BYTES], job_id[UUID_BYTES];
    struct store_accept accept = {
        .owner = "alice", .op = JOB_PAUSE, .origin = "client", .max_attempts = 5, .key_id = key_id};
    struct sandbox sandbox;
    struct store_event *events;
    struct wakeup wakeup;
    size_t count;
    bool joined;

    (void)state;
    create_running(&sandbox);
    id_uuid(key_id);
    id_uuid(job_id);
    accept.sandbox_id = sandbox.id;
    OK(store_accept_job(store, &accept, job_id, &wakeup, &joined, &err));
    run_job(wakeup.job_id, SANDBOX_PAUSED);
    accept_op(sandbox.id, JOB_RESUME, false, &wakeup, &joined);
    run_job(wakeup.job_id, SANDBOX_RUNNING);
    OK(store_events(store, sandbox.id, &oldest, 10, true, &events, &count, &err));
    assert_int_equal(count, 6);
    for (size_t i = 0; i < count; i++) {
        static const char *const types[] = {"sandbox.created",  "sandbox.running",
                                            "sandbox.pausing",  "sandbox.paused",
                                            "sandbox.resuming", "sandbox.resumed"};
        bool by_key =
            i == 2 || i == 3; /* what follows is not: the setting ended with its statement */

        assert_string_equal(events[i].type, types[i]);
        assert_string_equal(events[i].actor_kind, by_key ? "key" : "user");
        assert_string_equal(events[i].actor_id, by_key  ? key_id
                                                : i > 3 ? "alice"
                                                        : events[i].actor_id);
    }
    assert_string_equal(events[0].actor_id, "alice");
    free(events);
    sql("UPDATE sandboxes SET expires_at = now() - interval '1 second' WHERE id = '%s'",
        sandbox.id);
    struct wakeup *due;
    OK(store_reap_deadlines(store, 100, &due, &count, &err));
    assert_int_equal(count, 1);
    run_job(due[0].job_id, SANDBOX_PAUSED);
    free(due);
    OK(store_events(store, sandbox.id, &oldest, 10, true, &events, &count, &err));
    assert_int_equal(count, 8);
    assert_string_equal(events[6].type, "deadline.reached");
    assert_string_equal(events[7].type, "sandbox.paused");
    assert_string_equal(events[7].actor_kind, "timer");
    free(events);
}

static void test_a_filter_gives_its_types_and_goes_on_past_the_others(void **state)
{
    struct store_event_filter filter = {
        .owner = "carol", .types = "sandbox.failed,sandbox.lost", .limit = 10};
    struct store_event *events;
    struct store_event_cursor next;
    size_t count;
    bool more;

    (void)state;
    sql("INSERT INTO events (from_status, to_status, reason, actor, owner) "
        "SELECT 'running', CASE WHEN n %% 1500 = 0 THEN 'failed' ELSE 'paused' END, n, 'x', "
        "'carol' "
        "FROM generate_series(1, 4500) n");
    for (int page = 0; page < 3; page++) {
        OK(store_event_feed(store, &filter, &events, &count, &next, &more, &err));
        assert_int_equal(count, 1);
        assert_string_equal(events[0].type, "sandbox.failed");
        assert_int_equal(more, page < 2);
        filter.after = next;
        free(events);
    }
    OK(store_event_feed(store, &filter, &events, &count, &next, &more, &err));
    assert_true(count == 0 && !more && next.id == filter.after.id);
    free(events);
    filter = (struct store_event_filter){.owner = "dave", .limit = 10};
    OK(store_event_feed(store, &filter, &events, &count, &next, &more, &err));
    assert_int_equal(count, 0); /* nobody else's */
    free(events);
}

static void test_positions_go_on_in_a_cluster_whose_transactions_begin_again(void **state)
{
    struct sandbox sandbox;
    struct store_event_cursor cursor;
    static struct store_event all[EVENTS_MAX];
    int64_t newest_id;

    (void)state;
    create_running(&sandbox);
    OK(store_event_clock_mend(store, &err));
    assert_int_equal(sql("SELECT added FROM event_clock"), 0);
    /* as a dump of a cluster with many more transactions would be */
    sql("UPDATE events SET position = position + 1000000000");
    cursor.position = sql("SELECT max(position) FROM events");
    cursor.id = sql("SELECT max(id) FROM events");
    OK(store_event_clock_mend(store, &err));
    write_one(raw, sandbox.id);
    assert_int_equal(read_page(&cursor, all, 0), 1);
    OK(store_events_end(store, &cursor, &newest_id, &err));
    assert_int_equal(newest_id, all[0].cursor.id);
}

static void test_cursors_go_out_and_come_back(void **state)
{
    static const char *const bad[] = {
        "", "1", "_", "1_", "_1", "-1_2", "1_-2", "1_2x", " 1_2", "1_99999999999999999999", "now"};
    struct store_event_cursor cursor = {.position = INT64_MAX, .id = 7}, back;
    char text[EVENT_CURSOR_BYTES];

    (void)state;
    event_cursor_print(&cursor, text);
    OK(event_cursor_parse(text, &back, &err));
    assert_true(back.position == cursor.position && back.id == cursor.id);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        FAILS(event_cursor_parse(bad[i], &back, &err), ERR_INVALID);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_event_once_while_writers_commit_in_any_order),
        cmocka_unit_test(test_an_open_transaction_holds_back_what_came_after_it),
        cmocka_unit_test(test_every_change_has_a_type_of_the_list),
        cmocka_unit_test(test_an_event_tells_who_asked),
        cmocka_unit_test(test_a_filter_gives_its_types_and_goes_on_past_the_others),
        cmocka_unit_test(test_positions_go_on_in_a_cluster_whose_transactions_begin_again),
        cmocka_unit_test(test_cursors_go_out_and_come_back),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
