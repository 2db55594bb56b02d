/*
 * test_queue - common/queue against a real Redis, and what happens when that Redis goes away.
 *
 * REDIS_HOST and REDIS_PORT name the server (its data is flushed); without them the test fails.
 * The last tests start a redis-server of their own, to kill it.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/queue/keys.h"
#include "common/queue/queue.h"

#define JOBS_PREFIX QUEUE_PREFIX_DEFAULT QUEUE_KEY_JOBS
#define CREATE_KEY  JOBS_PREFIX "create"
#define DELETE_KEY  JOBS_PREFIX "delete"
#define DEAD_KEY    QUEUE_PREFIX_DEFAULT QUEUE_KEY_DEAD

static int redis_port;

/* ---- a raw client, so that the tests do not see Redis through the code they test ------------ */

static int raw_connect(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Runs one inline command; the raw reply in a static buffer, "" when there is no server. */
static const char *raw(int port, const char *command)
{
    static char reply[65536];
    size_t length = 0;
    int fd = raw_connect(port);
    reply[0] = '\0';
    if (fd < 0) {
        return reply;
    }
    dprintf(fd, "%s\r\n", command);
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    int patience = 2000;
    while (length < sizeof(reply) - 1 && poll(&poll_fd, 1, patience) > 0) {
        ssize_t got = read(fd, reply + length, sizeof(reply) - 1 - length);
        if (got <= 0) {
            break;
        }
        length += (size_t)got;
        patience = 20;
    }
    reply[length] = '\0';
    close(fd);
    return reply;
}

static long raw_int(const char *command)
{
    const char *reply = raw(redis_port, command);
    assert_int_equal(reply[0], ':');
    return strtol(reply + 1, NULL, 10);
}

static struct queue_options options_for(int port)
{
    struct queue_options options = {
        .host = "127.0.0.1", .port = port, .connect_timeout_ms = 1000, .command_timeout_ms = 2000};
    return options;
}

static struct wakeup wakeup_new(enum job_op op)
{
    struct wakeup wakeup;
    memset(&wakeup, 0, sizeof(wakeup));
    id_uuid(wakeup.job_id);
    id_uuid(wakeup.sandbox_id);
    wakeup.op = op;
    wakeup.attempt = 2;
    wakeup.enqueued_at_ms = 1234567890123;
    str_copy(wakeup.reply_to, sizeof(wakeup.reply_to), "gw:1");
    str_copy(wakeup.request_id, sizeof(wakeup.request_id), "a request%s \"quoted\"\r\n");
    str_copy(wakeup.traceparent, sizeof(wakeup.traceparent), "00-ab-cd-01");
    return wakeup;
}

#define OK(call) assert_int_equal_text((call), &err, __LINE__)
static void assert_int_equal_text(int status, const struct error *err, int line)
{
    if (status != 0) {
        fail_msg("line %d: %s", line, err->message);
    }
}

/* Parks and waits until entries or the end of the read. */
static size_t read_once(struct queue_reader *reader, struct queue_entry *entries, size_t max)
{
    struct error err = ERROR_INIT;
    size_t count = 0;
    bool done = false;
    OK(queue_reader_park(reader, (int)max, &err));
    while (!done) {
        struct pollfd poll_fd = {.fd = queue_reader_fd(reader), .events = POLLIN};
        assert_true(poll(&poll_fd, 1, 5000) > 0);
        OK(queue_reader_take(reader, entries, max, &count, &done, &err));
    }
    return count;
}

/* Reads until `wanted` entries have come, or none has for a while. */
static size_t read_many(struct queue_reader *reader, struct queue_entry *entries, size_t wanted)
{
    size_t total = 0;
    int64_t last = clock_mono_ms();
    while (total < wanted && clock_mono_ms() - last < 1500) {
        size_t count = read_once(reader, entries + total, wanted - total);
        if (count > 0) {
            last = clock_mono_ms();
        }
        total += count;
    }
    return total;
}

static struct queue *fresh_queue(void)
{
    struct error err = ERROR_INIT;
    bool wiped = false;
    assert_string_equal(raw(redis_port, "FLUSHALL"), "+OK\r\n");
    struct queue_options options = options_for(redis_port);
    struct queue *queue = queue_new(&options);
    OK(queue_prepare(queue, &wiped, &err));
    assert_true(wiped);
    OK(queue_prepare(queue, &wiped, &err));
    assert_false(wiped);
    return queue;
}

/* ---- tests -------------------------------------------------------------------------------- */

static void test_round_trip(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct queue *queue = fresh_queue();
    struct queue_options options = options_for(redis_port);
    struct queue_reader *reader = queue_reader_new(&options, "host:1:a", 200);
    struct queue_entry entries[8];
    struct wakeup sent[2] = {wakeup_new(JOB_CREATE), wakeup_new(JOB_DELETE)};
    int64_t length, pending;

    OK(queue_add(queue, sent, 2, &err));
    assert_int_equal(read_many(reader, entries, 2), 2);
    for (int i = 0; i < 2; i++) {
        const struct wakeup *wakeup = &sent[entries[i].op == JOB_CREATE ? 0 : 1];
        assert_memory_equal(&entries[i].wakeup, wakeup, sizeof(*wakeup));
    }
    OK(queue_depth(queue, &length, &pending, &err));
    assert_int_equal(length, 2);
    assert_int_equal(pending, 2);

    struct queue_reply reply = {.gateway = "gw:1", .state = JOB_STATE_DONE};
    str_copy(reply.job_id, sizeof(reply.job_id), sent[0].job_id);
    struct wakeup next = wakeup_new(JOB_PAUSE);
    OK(queue_settle(queue, entries, 2, &reply, 1, &next, 1, &err));
    OK(queue_depth(queue, &length, &pending, &err));
    assert_int_equal(length, 1);
    assert_int_equal(pending, 0);
    assert_true(raw_int("TTL sandbox:reply:gw:1") > 3000);

    struct queue_reply_reader *replies = queue_reply_reader_new(&options, "gw:1");
    struct queue_reply got[4];
    size_t count;
    OK(queue_reply_read(replies, 500, got, 4, &count, &err));
    assert_int_equal(count, 1);
    assert_string_equal(got[0].job_id, sent[0].job_id);
    assert_int_equal(got[0].state, JOB_STATE_DONE);
    int64_t start = clock_mono_ms();
    OK(queue_reply_read(replies, 150, got, 4, &count, &err));
    assert_int_equal(count, 0);
    assert_in_range(clock_mono_ms() - start, 100, 1500);

    queue_reply_reader_free(replies);
    queue_reader_free(reader);
    queue_free(queue);
}

static void test_count_is_kept(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct queue *queue = fresh_queue();
    struct queue_options options = options_for(redis_port);
    struct queue_reader *reader = queue_reader_new(&options, "host:1:a", 100);
    static struct queue_entry entries[1000];
    static struct wakeup sent[600];
    for (int i = 0; i < 600; i++) {
        sent[i] = wakeup_new((enum job_op)(i % JOB_OP_COUNT));
    }
    OK(queue_add(queue, sent, 600, &err));
    assert_int_equal(read_many(reader, entries, 600), 600);
    OK(queue_settle(queue, entries, 600, NULL, 0, NULL, 0, &err));
    OK(queue_add(queue, sent, 600, &err));
    /* room for two: never more than two, and no stream is left out for ever */
    size_t total = 0;
    bool seen[JOB_OP_COUNT] = {false};
    for (int turn = 0; turn < 24; turn++) {
        size_t count = read_once(reader, entries, 2);
        assert_true(count <= 2);
        for (size_t i = 0; i < count; i++) {
            seen[entries[i].op] = true;
        }
        total += count;
    }
    assert_int_equal(total, 48);
    for (int op = 0; op < JOB_OP_COUNT; op++) {
        assert_true(seen[op]);
    }
    queue_reader_free(reader);
    queue_free(queue);
}

/* Where there is room for fewer entries than there are streams, one read finds what there is. */
static void test_little_room(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct queue *queue = fresh_queue();
    struct queue_options options = options_for(redis_port);
    struct queue_reader *reader = queue_reader_new(&options, "host:1:a", 2000);
    struct queue_entry entries[JOB_OP_COUNT];
    struct wakeup sent[16];

    for (int i = 0; i < 16; i++) {
        sent[i] = wakeup_new(i < 10 ? JOB_TIMEOUT : JOB_CREATE);
    }
    assert_int_equal(read_once(reader, entries, JOB_OP_COUNT), 0); /* nothing from before */
    /* one stream alone has entries: every read finds them, and as many as there is room for */
    OK(queue_add(queue, sent, 10, &err));
    assert_int_equal(read_once(reader, entries, 1), 1);
    assert_string_equal(entries[0].wakeup.job_id, sent[0].job_id);
    assert_int_equal(read_once(reader, entries, 1), 1);
    assert_int_equal(read_once(reader, entries, 4), 4);
    assert_string_equal(entries[3].wakeup.job_id, sent[5].job_id);
    /* two streams take turns */
    OK(queue_add(queue, sent + 10, 6, &err));
    int creates = 0;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(read_once(reader, entries, 1), 1);
        creates += entries[0].op == JOB_CREATE;
    }
    assert_int_equal(creates, 2);
    assert_int_equal(read_once(reader, entries, 5), 5); /* all but one of what is left */
    assert_int_equal(read_once(reader, entries, 5), 1);
    /* streams found empty a while ago are looked at again before a read that may give one of each
     */
    OK(queue_add(queue, (struct wakeup[]){wakeup_new(JOB_CREATE), wakeup_new(JOB_PAUSE)}, 2, &err));
    clock_sleep_ms(100);
    assert_int_equal(read_once(reader, entries, 1), 1);
    assert_int_equal(read_once(reader, entries, 1), 1);
    /* and one that has found nothing waits for any of them */
    assert_int_equal(read_once(reader, entries, 1), 0);
    for (int op = 0; op < JOB_OP_COUNT; op++) {
        struct wakeup late = wakeup_new((enum job_op)op);
        OK(queue_reader_park(reader, 1, &err));
        OK(queue_add(queue, &late, 1, &err));
        assert_int_equal(read_many(reader, entries, 1), 1);
        assert_string_equal(entries[0].wakeup.job_id, late.job_id);
    }
    queue_reader_free(reader);
    queue_free(queue);
}

static void test_id_zero_first_after_reconnect(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct queue *queue = fresh_queue();
    struct queue_options options = options_for(redis_port);
    struct queue_reader *reader = queue_reader_new(&options, "host:1:a", 100);
    struct queue_entry first[4], again[4];
    struct wakeup sent[2] = {wakeup_new(JOB_CREATE), wakeup_new(JOB_CREATE)};

    OK(queue_add(queue, sent, 2, &err));
    assert_int_equal(read_many(reader, first, 2), 2);
    /* one is done; the other's answer is lost with the connection */
    OK(queue_settle(queue, first, 1, NULL, 0, NULL, 0, &err));
    assert_string_not_equal(raw(redis_port, "CLIENT KILL TYPE normal"), "");
    size_t count = 0;
    bool done = false;
    if (queue_reader_park(reader, 4, &err) == 0) {
        struct pollfd poll_fd = {.fd = queue_reader_fd(reader), .events = POLLIN};
        poll(&poll_fd, 1, 1000);
        assert_int_equal(queue_reader_take(reader, again, 4, &count, &done, &err), -1);
    }
    assert_int_equal(err.code, ERR_QUEUE_DOWN);
    assert_int_equal(queue_reader_fd(reader), -1);
    clock_sleep_ms(260);
    assert_int_equal(read_many(reader, again, 1), 1);
    assert_string_equal(again[0].id, first[1].id);
    assert_string_equal(again[0].wakeup.job_id, sent[1].job_id);
    /* then the new ones; a pending entry deleted meanwhile comes without a job */
    struct wakeup fresh = wakeup_new(JOB_DELETE);
    OK(queue_add(queue, &fresh, 1, &err)); /* its connection was killed too: it makes another */
    assert_int_equal(read_many(reader, again, 1), 1);
    assert_string_equal(again[0].wakeup.job_id, fresh.job_id);

    char command[128];
    snprintf(command, sizeof(command), "XDEL %s %s", DELETE_KEY, again[0].id);
    assert_int_equal(raw_int(command), 1);
    queue_reader_free(reader);
    reader = queue_reader_new(&options, "host:1:a", 100);
    size_t total = read_many(reader, again, 2);
    assert_int_equal(total, 2);
    int ghosts = 0;
    for (size_t i = 0; i < total; i++) {
        ghosts += again[i].wakeup.job_id[0] == '\0';
    }
    assert_int_equal(ghosts, 1);
    OK(queue_settle(queue, again, total, NULL, 0, NULL, 0, &err));
    int64_t length, pending;
    OK(queue_depth(queue, &length, &pending, &err));
    assert_int_equal(length + pending, 0);
    queue_reader_free(reader);
    queue_free(queue);
}

static void test_malformed_entries(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct queue *queue = fresh_queue();
    struct queue_options options = options_for(redis_port);
    struct queue_reader *reader = queue_reader_new(&options, "host:1:a", 100);
    struct queue_entry entries[8];
    raw(redis_port, "XADD " CREATE_KEY " * nonsense 1");
    raw(redis_port, "XADD " CREATE_KEY " * job_id not-a-uuid op create");
    raw(redis_port, "XADD " CREATE_KEY " * job_id 00000000-0000-4000-8000-0000000000AA");
    assert_int_equal(read_many(reader, entries, 3), 3);
    for (int i = 0; i < 3; i++) {
        assert_string_equal(entries[i].wakeup.job_id, "");
    }
    OK(queue_settle(queue, entries, 3, NULL, 0, NULL, 0, &err));
    assert_int_equal(raw_int("XLEN " CREATE_KEY), 0);
    queue_reader_free(reader);
    queue_free(queue);
}

static void test_autoclaim(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct queue *queue = fresh_queue();
    struct queue_options options = options_for(redis_port);
    struct queue_reader *dead = queue_reader_new(&options, "host:1:dead", 100);
    static struct queue_entry entries[128], taken[128];
    static struct wakeup sent[60];
    for (int i = 0; i < 60; i++) {
        sent[i] = wakeup_new(i % 2 == 0 ? JOB_CREATE : JOB_TIMEOUT);
    }
    OK(queue_add(queue, sent, 60, &err));
    assert_int_equal(read_many(dead, entries, 60), 60);
    queue_reader_free(dead);

    size_t count;
    OK(queue_autoclaim(queue, "host:2:b", 60000, taken, 128, &count, &err));
    assert_int_equal(count, 0);
    clock_sleep_ms(550);
    /* two entries vanish: Redis 7 names them, older ones answer nil; neither is an error */
    char command[256];
    for (int i = 0; i < 2; i++) {
        snprintf(command, sizeof(command), "XDEL %s%s %.31s", JOBS_PREFIX,
                 job_op_name(entries[i].op), entries[i].id);
        assert_int_equal(raw_int(command), 1);
    }
    OK(queue_autoclaim(queue, "host:2:b", 500, taken, 7, &count, &err));
    assert_int_equal(count, 7);
    size_t total = count;
    OK(queue_autoclaim(queue, "host:3:c", 500, taken, 128, &count, &err));
    total += count;
    assert_int_equal(total, 58);

    /* consumers: the dead one has nothing pending and is removed, the others stay */
    clock_sleep_ms(30);
    OK(queue_consumers_prune(queue, 10, &err));
    const char *consumers = raw(redis_port, "XINFO CONSUMERS " CREATE_KEY " " QUEUE_GROUP);
    assert_null(strstr(consumers, "host:1:dead"));
    assert_non_null(strstr(consumers, "host:3:c"));
    int64_t length, pending;
    OK(queue_depth(queue, &length, &pending, &err));
    assert_int_equal(pending, 58);
    queue_free(queue);
}

static void test_holds_and_heartbeats(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct queue *queue = fresh_queue();
    int64_t left;
    char why[QUEUE_HOLD_BYTES];
    OK(queue_hold_get(queue, "e2b", &left, why, &err));
    assert_int_equal(left, 0);
    assert_string_equal(why, "");
    OK(queue_hold_set(queue, "e2b", 5000, "rate_limited", &err));
    OK(queue_hold_set(queue, "e2b", 100, "auth", &err)); /* never shortens */
    OK(queue_hold_get(queue, "e2b", &left, why, &err));
    assert_in_range(left, 4000, 5000);
    assert_string_equal(why, "rate_limited");
    OK(queue_hold_set(queue, "e2b", 20000, "auth", &err));
    OK(queue_hold_get(queue, "e2b", &left, why, &err));
    assert_in_range(left, 19000, 20000);
    assert_string_equal(why, "auth");

    int alive;
    OK(queue_workers_alive(queue, &alive, &err));
    assert_int_equal(alive, 0);
    char name[32];
    for (int i = 0; i < 25; i++) {
        snprintf(name, sizeof(name), "host:%d:x", i);
        OK(queue_heartbeat(queue, name, 60000, "{}", &err));
    }
    OK(queue_heartbeat(queue, "host:short:x", 50, "{}", &err));
    OK(queue_reaper_heartbeat(queue, "host:r:x", 60000, "{}", &err));
    OK(queue_heartbeat_remove(queue, "host:3:x", &err));
    clock_sleep_ms(80);
    OK(queue_workers_alive(queue, &alive, &err));
    assert_int_equal(alive, 24);

    struct wakeup dead = wakeup_new(JOB_CREATE);
    bool listed = true;
    OK(queue_dead_present(queue, &listed, &err));
    assert_false(listed);
    OK(queue_add_dead(queue, &dead, "three crashes", &err));
    OK(queue_dead_present(queue, &listed, &err));
    assert_true(listed);
    const char *list = raw(redis_port, "XRANGE " DEAD_KEY " - +");
    assert_non_null(strstr(list, dead.job_id));
    assert_non_null(strstr(list, "three crashes"));
    queue_free(queue);
}

static void test_wiped_in_the_middle(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct queue *queue = fresh_queue();
    struct queue_options options = options_for(redis_port);
    struct queue_reader *reader = queue_reader_new(&options, "host:1:a", 2000);
    struct queue_entry entries[8];
    size_t count = 0;
    bool done = false;
    bool wiped = false;
    bool present = true;

    /* nothing was given before, nothing is new: the next read waits */
    assert_int_equal(read_once(reader, entries, 8), 0);
    assert_int_equal(read_once(reader, entries, 8), 0);
    /* a blocked reader is woken by the flush */
    OK(queue_reader_park(reader, 8, &err));
    clock_sleep_ms(50);
    raw(redis_port, "FLUSHALL");
    struct pollfd poll_fd = {.fd = queue_reader_fd(reader), .events = POLLIN};
    if (poll(&poll_fd, 1, 3000) > 0) {
        assert_int_equal(queue_reader_take(reader, entries, 8, &count, &done, &err), -1);
        assert_int_equal(err.code, ERR_NOT_FOUND);
    }
    OK(queue_mark_present(queue, &present, &err));
    assert_false(present);
    /* an entry added before the group is back is not lost */
    struct wakeup early = wakeup_new(JOB_RESUME);
    OK(queue_add(queue, &early, 1, &err));
    OK(queue_reader_park(reader, 8, &err)); /* at once: the connection was good */
    poll_fd.fd = queue_reader_fd(reader);
    assert_true(poll(&poll_fd, 1, 3000) > 0);
    assert_int_equal(queue_reader_take(reader, entries, 8, &count, &done, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND); /* NOGROUP */
    OK(queue_prepare(queue, &wiped, &err));
    assert_true(wiped);
    assert_int_equal(read_many(reader, entries, 1), 1);
    assert_string_equal(entries[0].wakeup.job_id, early.job_id);
    queue_reader_free(reader);
    queue_free(queue);
}

static void test_wrong_password_is_an_error(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct queue_options options = options_for(redis_port);
    options.username = "nobody";
    options.password = "s3cret-value";
    struct queue *queue = queue_new(&options);
    assert_int_equal(queue_ping(queue, &err), -1);
    assert_int_equal(err.code, ERR_QUEUE_DOWN);
    assert_null(strstr(err.message, "s3cret"));
    queue_free(queue);
}

/* ---- a server to kill --------------------------------------------------------------------- */

struct server {
    int port;
    pid_t pid;
    char folder[64];
    char socket[80];
};

static void server_start(struct server *server)
{
    char port[16];
    snprintf(port, sizeof(port), "%d", server->port);
    server->pid = fork();
    assert_true(server->pid >= 0);
    if (server->pid == 0) {
        prctl(PR_SET_PDEATHSIG,
              SIGKILL); /* a failed test leaves no server, not even a stopped one */
        if (freopen("/dev/null", "w", stdout) != NULL) {
            execlp("redis-server", "redis-server", "--port", port, "--bind", "127.0.0.1", "--dir",
                   server->folder, "--appendonly", "yes", "--save", "", "--unixsocket",
                   server->socket, (char *)NULL);
        }
        _exit(127);
    }
    for (int i = 0; i < 500; i++) {
        if (strncmp(raw(server->port, "PING"), "+PONG", 5) == 0) {
            return;
        }
        clock_sleep_ms(20);
    }
    fail_msg("redis-server did not start");
}

static void server_kill(struct server *server)
{
    kill(server->pid, SIGKILL);
    waitpid(server->pid, NULL, 0);
}

static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static void server_new(struct server *server)
{
    memset(server, 0, sizeof(*server));
    server->port = free_port();
    str_copy(server->folder, sizeof(server->folder), "/tmp/test-queue-XXXXXX");
    assert_non_null(mkdtemp(server->folder));
    snprintf(server->socket, sizeof(server->socket), "%s/socket", server->folder);
    server_start(server);
}

static void server_done(struct server *server)
{
    server_kill(server);
    char *remove[] = {"rm", "-rf", server->folder, NULL};
    pid_t pid = fork();
    if (pid == 0) {
        execvp("rm", remove);
        _exit(127);
    }
    waitpid(pid, NULL, 0);
}

/* What a queue adds must arrive at `server`. */
static void adds_to(struct queue *queue, const struct server *server)
{
    struct error err = ERROR_INIT;
    struct wakeup wakeup = wakeup_new(JOB_CREATE);
    OK(queue_add(queue, &wakeup, 1, &err));
    assert_string_equal(raw(server->port, "XLEN " CREATE_KEY), ":1\r\n");
    (void)raw(server->port, "DEL " CREATE_KEY);
}

/* The name, which may be there already, leads to the server of that socket from now on. */
static void point(const char *name, const char *socket_path)
{
    (void)unlink(name);
    assert_int_equal(symlink(socket_path, name), 0);
}

/* By a name; the connection is made anew at MAX_AGE_MS. */
enum { MAX_AGE_MS = 60000, SILENCE_MS = 1000 };
static struct queue *queue_by_name(const char *name, int command_timeout_ms)
{
    struct queue_options options = options_for(0);
    options.host = name;
    options.max_age_ms = MAX_AGE_MS;
    options.command_timeout_ms = command_timeout_ms;
    return queue_new(&options);
}

/* A name that points elsewhere, as after a failover, is followed though the old server answers. */
static void test_a_name_that_moves_is_followed(void **state)
{
    (void)state;
    struct server before, after;
    server_new(&before);
    server_new(&after);
    char name[96];
    snprintf(name, sizeof(name), "%s/name", before.folder);
    point(name, before.socket);
    struct queue *queue = queue_by_name(name, 2000);
    adds_to(queue, &before);
    point(name, after.socket);
    adds_to(queue, &before); /* not at once */
    clock_test_advance_ms(MAX_AGE_MS);
    adds_to(queue, &after);
    assert_int_equal(unlink(name), 0);
    clock_test_advance_ms(MAX_AGE_MS);
    adds_to(queue, &after); /* there is no better one */
    queue_free(queue);
    server_done(&before);
    server_done(&after);
}

/* Connections made to a listening socket since the last look. */
static int connections_to(int listener)
{
    int count = 0;
    struct pollfd waiting = {.fd = listener, .events = POLLIN};
    while (poll(&waiting, 1, 0) == 1) {
        int fd = accept(listener, NULL, NULL);
        assert_true(fd >= 0);
        close(fd);
        count++;
    }
    return count;
}

/* What the name points to now takes connections and says nothing: the old server does, and is not
 * left waiting for each time. */
static void test_a_silent_successor_is_not_taken(void **state)
{
    (void)state;
    struct server server;
    server_new(&server);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/silent", server.folder);
    int silent = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(silent, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(silent, 4), 0);
    char name[96];
    snprintf(name, sizeof(name), "%s/name", server.folder);
    point(name, server.socket);
    struct queue *queue = queue_by_name(name, SILENCE_MS);
    adds_to(queue, &server);
    point(name, address.sun_path);
    clock_test_advance_ms(MAX_AGE_MS);
    adds_to(queue, &server);
    assert_int_equal(connections_to(silent), 1);
    clock_test_advance_ms(MAX_AGE_MS);
    adds_to(queue, &server);
    assert_int_equal(connections_to(silent), 0);
    clock_test_advance_ms((int64_t)1000 * SILENCE_MS);
    adds_to(queue, &server);
    assert_int_equal(connections_to(silent), 1);
    queue_free(queue);
    close(silent);
    server_done(&server);
}

static void test_server_killed_and_restarted(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct server server;
    server_new(&server);
    struct queue_options options = options_for(server.port);
    struct queue *queue = queue_new(&options);
    struct queue_reader *reader = queue_reader_new(&options, "host:1:a", 2000);
    struct queue_reply_reader *replies = queue_reply_reader_new(&options, "gw");
    struct queue_entry entries[8];
    struct queue_reply reply = {.gateway = "gw", .state = JOB_STATE_FAILED};
    struct queue_reply got[4];
    size_t count = 0;
    bool done = false;
    bool wiped = false;
    struct wakeup sent[2] = {wakeup_new(JOB_CREATE), wakeup_new(JOB_CREATE)};
    OK(queue_prepare(queue, &wiped, &err));
    OK(queue_add(queue, sent, 2, &err));
    assert_int_equal(read_many(reader, entries, 2), 2);
    id_uuid(reply.job_id);
    OK(queue_settle(queue, entries, 1, &reply, 1, NULL, 0, &err));
    OK(queue_reply_read(replies, 500, got, 4, &count, &err));
    assert_int_equal(count, 1);
    clock_sleep_ms(1100); /* appendfsync everysec */

    assert_int_equal(read_once(reader, entries, 8), 0); /* no more: the next read waits */
    OK(queue_reader_park(reader, 8, &err));
    server_kill(&server);
    struct pollfd poll_fd = {.fd = queue_reader_fd(reader), .events = POLLIN};
    assert_true(poll(&poll_fd, 1, 3000) > 0);
    assert_int_equal(queue_reader_take(reader, entries, 8, &count, &done, &err), -1);
    assert_int_equal(err.code, ERR_QUEUE_DOWN);
    assert_false(queue_reader_parked(reader));
    assert_int_equal(queue_ping(queue, &err), -1);
    int64_t start = clock_mono_ms();
    for (int i = 0; i < 50; i++) {
        assert_int_equal(queue_ping(queue, &err), -1);
        assert_int_equal(err.code, ERR_QUEUE_DOWN);
    }
    assert_true(clock_mono_ms() - start < 2000); /* an absent server costs no time */

    server_start(&server);
    clock_sleep_ms(260);
    OK(queue_ping(queue, &err));
    count = read_many(reader, entries, 1); /* what was not acknowledged */
    assert_int_equal(count, 1);
    assert_string_equal(entries[0].wakeup.job_id, sent[1].job_id);
    id_uuid(reply.job_id);
    OK(queue_settle(queue, entries, 1, &reply, 1, NULL, 0, &err));
    if (queue_reply_read(replies, 500, got, 4, &count, &err) != 0) {
        clock_sleep_ms(260);
        OK(queue_reply_read(replies, 500, got, 4, &count, &err));
    }
    assert_int_equal(count, 1); /* goes on behind the last one read */
    assert_string_equal(got[0].job_id, reply.job_id);

    /* a server that stops answering without closing, while a read is parked and nothing is left */
    assert_int_equal(read_many(reader, entries, 1), 0);
    OK(queue_reader_park(reader, 8, &err));
    clock_sleep_ms(50);
    kill(server.pid, SIGSTOP);
    start = clock_mono_ms();
    assert_int_equal(queue_ping(queue, &err), -1);
    assert_in_range(clock_mono_ms() - start, 1500, 4000);
    OK(queue_reader_take(reader, entries, 8, &count, &done, &err));
    assert_false(done);
    clock_test_advance_ms(5100);
    assert_int_equal(queue_reader_take(reader, entries, 8, &count, &done, &err), -1);
    assert_int_equal(queue_reader_fd(reader), -1);
    kill(server.pid, SIGCONT);

    queue_reply_reader_free(replies);
    queue_reader_free(reader);
    queue_free(queue);
    server_done(&server);
}

/* ---- several deployments on one Redis ------------------------------------------------------ */

static struct queue *queue_of(struct queue_owner *owner, const char *prefix)
{
    struct queue_options options = options_for(redis_port);
    options.owner = owner;
    options.prefix = prefix;
    return queue_new(&options);
}

static void test_two_deployments_share_no_key(void **state)
{
    struct queue_owner here = {.known = false}, there = {.known = false};
    struct queue *ours = queue_of(&here, "one:"), *theirs = queue_of(&there, "two:");
    struct wakeup wakeup = wakeup_new(JOB_PAUSE);
    struct error err = ERROR_INIT;
    bool wiped, present;
    int64_t length, pending;
    char id[UUID_BYTES];

    (void)state;
    raw(redis_port, "FLUSHALL");
    queue_owner_set(&here, (id_uuid(id), id));
    queue_owner_set(&there, (id_uuid(id), id));
    OK(queue_prepare(ours, &wiped, &err));
    assert_true(wiped);
    OK(queue_prepare(theirs, &wiped, &err));
    assert_true(wiped);
    OK(queue_add(ours, &wakeup, 1, &err));
    OK(queue_heartbeat(ours, "w", 10000, "{}", &err));
    OK(queue_hold_set(ours, "e2b", 10000, "auth", &err));
    assert_int_equal(raw_int("XLEN one:jobs:pause"), 1);
    OK(queue_depth(theirs, &length, &pending, &err));
    assert_int_equal(length, 0);
    int alive = 1;
    OK(queue_workers_alive(theirs, &alive, &err));
    assert_int_equal(alive, 0);
    OK(queue_workers_alive(ours, &alive, &err));
    assert_int_equal(alive, 1);
    char why[QUEUE_HOLD_BYTES];
    OK(queue_hold_get(theirs, "e2b", &length, why, &err));
    assert_int_equal(length, 0);
    OK(queue_mark_present(ours, &present, &err));
    assert_true(present);
    queue_free(ours);
    queue_free(theirs);
}

static void test_a_second_deployment_is_refused_with_both_ids(void **state)
{
    struct queue_owner here = {.known = false}, there = {.known = false};
    struct queue *ours = queue_of(&here, NULL), *theirs = queue_of(&there, NULL);
    struct wakeup wakeup = wakeup_new(JOB_PAUSE);
    struct error err = ERROR_INIT;
    bool wiped, present;
    char command[128];

    (void)state;
    raw(redis_port, "FLUSHALL");
    raw(redis_port, "SET sandbox:mark 2026-01-02T03:04:05.678Z"); /* of a version without ids */
    queue_owner_set(&here, "11111111-1111-4111-8111-111111111111");
    OK(queue_prepare(ours, &wiped, &err));
    assert_false(wiped);
    OK(queue_add(theirs, &wakeup, 1, &err)); /* connected before it knew its own id */
    queue_owner_set(&there, "22222222-2222-4222-8222-222222222222");
    assert_int_equal(queue_prepare(theirs, &wiped, &err), -1);
    assert_int_equal(err.code, ERR_CONFIG);
    assert_non_null(strstr(err.message, here.deployment_id));
    assert_non_null(strstr(err.message, there.deployment_id));
    assert_int_equal(queue_add(theirs, &wakeup, 1, &err), -1);
    assert_int_equal(raw_int("XLEN sandbox:jobs:pause"), 1);
    OK(queue_add(ours, &wakeup, 1, &err));

    /* wiped, and the other was quicker: every connection of ours is closed until it is gone */
    struct queue *other = queue_of(&here, NULL);
    OK(queue_ping(other, &err));
    snprintf(command, sizeof(command), "SET sandbox:mark %s", there.deployment_id);
    raw(redis_port, command);
    OK(queue_ping(other, &err));
    assert_int_equal(queue_mark_present(ours, &present, &err), -1);
    assert_int_equal(err.code, ERR_CONFIG);
    assert_int_equal(queue_ping(other, &err), -1);
    raw(redis_port, "DEL sandbox:mark");
    clock_sleep_ms(300); /* between two connects */
    OK(queue_prepare(ours, &wiped, &err));
    assert_true(wiped);
    OK(queue_ping(other, &err));
    queue_free(other);
    queue_free(ours);
    queue_free(theirs);
}

/* ---- a Redis that refuses ------------------------------------------------------------------ */

static void test_a_key_of_another_type_breaks_its_own_stream_only(void **state)
{
    struct queue_options options = options_for(redis_port);
    struct queue *queue = queue_new(&options);
    struct queue_reader *reader = queue_reader_new(&options, "c1", 50);
    struct wakeup wakeups[2] = {wakeup_new(JOB_PAUSE), wakeup_new(JOB_CREATE)};
    struct queue_entry entries[16];
    struct error err = ERROR_INIT;
    char text[QUEUE_CONDITION_BYTES];
    bool wiped;

    (void)state;
    raw(redis_port, "FLUSHALL");
    raw(redis_port, "SET sandbox:jobs:pause x");
    assert_int_equal(queue_prepare(queue, &wiped, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    assert_non_null(strstr(err.message, "sandbox:jobs:pause"));
    assert_true(wiped); /* the rest of it is made */
    assert_int_equal(queue_add(queue, wakeups, 2, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    assert_non_null(strstr(err.message, "sandbox:jobs:pause"));
    /* what was given to this consumer before, what is there, what comes */
    size_t count = 0;
    for (int i = 0; i < 4 && count == 0; i++) {
        count = read_once(reader, entries, 16);
        assert_non_null(queue_reader_fault(reader));
    }
    assert_int_equal(count, 1);
    assert_string_equal(entries[0].wakeup.job_id, wakeups[1].job_id);
    assert_non_null(strstr(queue_reader_fault(reader), "sandbox:jobs:pause"));
    OK(queue_settle(queue, entries, 1, NULL, 0, NULL, 0, &err));
    assert_int_equal(raw_int("XLEN sandbox:jobs:create"), 0);
    OK(queue_autoclaim(queue, "c1", 0, entries, 16, &count, &err));
    OK(queue_condition(queue, text, &err));
    assert_string_equal(text, "sandbox:jobs:pause is a string, not a stream");

    raw(redis_port, "DEL sandbox:jobs:pause");
    OK(queue_prepare(queue, &wiped, &err));
    OK(queue_add(queue, wakeups, 1, &err));
    count = 0;
    for (int i = 0; i < 4 && count == 0; i++) {
        count = read_once(reader, entries, 16);
    }
    assert_int_equal(count, 1);
    assert_null(queue_reader_fault(reader));
    OK(queue_condition(queue, text, &err));
    assert_string_equal(text, "");
    queue_reader_free(reader);
    queue_free(queue);
}

static void test_a_full_redis_is_still_read(void **state)
{
    struct queue_options options = options_for(redis_port);
    struct queue *queue = queue_new(&options);
    struct queue_reader *reader = queue_reader_new(&options, "c1", 50);
    struct wakeup wakeup = wakeup_new(JOB_DELETE);
    struct queue_reply reply = {.gateway = "gw:1", .state = JOB_STATE_DONE};
    struct queue_entry entries[16];
    struct error err = ERROR_INIT;
    char text[QUEUE_CONDITION_BYTES];
    bool wiped;

    (void)state;
    raw(redis_port, "FLUSHALL");
    OK(queue_prepare(queue, &wiped, &err));
    OK(queue_add(queue, &wakeup, 1, &err));
    raw(redis_port, "CONFIG SET maxmemory 1mb");
    OK(queue_condition(queue, text, &err));
    assert_ptr_equal(strstr(text, "it is full"), text);
    assert_int_equal(queue_heartbeat(queue, "w", 1000, "{}", &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    assert_int_equal(queue_add(queue, &wakeup, 1, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    OK(queue_ping(queue, &err)); /* on the same connection: a new one would have to wait */
    size_t count = 0;
    for (int i = 0; i < 4 && count == 0; i++) {
        count = read_once(reader, entries, 16);
    }
    assert_int_equal(count, 1);
    id_uuid(reply.job_id);
    assert_int_equal(queue_settle(queue, entries, 1, &reply, 1, NULL, 0, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    assert_int_equal(raw_int("XLEN sandbox:jobs:delete"), 0); /* acknowledged all the same */
    raw(redis_port, "CONFIG SET maxmemory 0");
    OK(queue_heartbeat(queue, "w", 1000, "{}", &err));
    queue_reader_free(reader);
    queue_free(queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_deployments_share_no_key),
        cmocka_unit_test(test_a_key_of_another_type_breaks_its_own_stream_only),
        cmocka_unit_test(test_a_full_redis_is_still_read),
        cmocka_unit_test(test_a_second_deployment_is_refused_with_both_ids),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_count_is_kept),
        cmocka_unit_test(test_little_room),
        cmocka_unit_test(test_id_zero_first_after_reconnect),
        cmocka_unit_test(test_malformed_entries),
        cmocka_unit_test(test_autoclaim),
        cmocka_unit_test(test_holds_and_heartbeats),
        cmocka_unit_test(test_wiped_in_the_middle),
        cmocka_unit_test(test_wrong_password_is_an_error),
        cmocka_unit_test(test_a_name_that_moves_is_followed),
        cmocka_unit_test(test_a_silent_successor_is_not_taken),
        cmocka_unit_test(test_server_killed_and_restarted),
    };
    const char *host = getenv("REDIS_HOST");
    const char *port = getenv("REDIS_PORT");
    signal(SIGPIPE, SIG_IGN);
    if (host == NULL || port == NULL || strcmp(host, "127.0.0.1") != 0) {
        fprintf(stderr, "REDIS_HOST (127.0.0.1) and REDIS_PORT must name a Redis for tests\n");
        return 1;
    }
    redis_port = (int)strtol(port, NULL, 10);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
