/*
 * Unit tests of the proxy over loopback sockets, with a server in the test that answers as each
 * case needs: connections to servers are reused, repeated and given up; waiting callbacks do not
 * hold up other clients; every exchange ends once; memory of open WebSockets is bounded.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/proxy/error_answers.h"
#include "common/proxy/head.h"
#include "common/proxy/proxy.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifdef SANITIZED
enum { SANITIZER_FACTOR = 8 }; /* shadow memory, and stacks that are touched whole */
#else
enum { SANITIZER_FACTOR = 1 };
#endif

/* ---- sockets ---- */

static struct sockaddr_in loopback(int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static int connect_port(int port)
{
    const struct timeval patience = {.tv_sec = 60};
    const struct sockaddr_in address = loopback(port);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    assert_true(fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0);
    return fd;
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Reads until `text` has come; false at the end of the connection. */
static bool hear(int fd, const char *text)
{
    char got[4096] = "";
    size_t length = 0;

    while (strstr(got, text) == NULL) {
        const ssize_t n = recv(fd, got + length, sizeof(got) - 1 - length, 0);
        if (n <= 0) {
            return false;
        }
        length += (size_t)n;
        got[length] = '\0';
    }
    return true;
}

/* ---- the server ---- */

/*
 * Answers by path: /ok, /close (says so), /drop (closes once a connection carried a request before,
 * else answers), /never (closes without a word), /surplus (bytes behind the answer), /ws.
 */
struct server {
    int listener, port;
    pthread_t thread;
    atomic_int accepted;
};

static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
static const char surplus[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                              "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";

/* false: the connection ends. */
static bool serve_one(int fd, const char *head, bool first)
{
    char path[64], query[64];

    assert_true(head_target(head, path, sizeof(path), query, sizeof(query)));
    if (strcmp(path, "/never") == 0 || (strcmp(path, "/drop") == 0 && !first)) {
        return false;
    }
    if (strcmp(path, "/close") == 0) {
        say(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
        return false;
    }
    if (strcmp(path, "/ws") == 0) {
        say(fd, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\n\r\n");
        while (hear(fd, "ping")) {
            say(fd, "pong");
        }
        return false;
    }
    say(fd, strcmp(path, "/surplus") == 0 ? surplus : ok);
    return true;
}

static void *serve_connection(void *arg)
{
    const int fd = *(int *)arg;
    char head[4096];
    bool more = true;

    free(arg);
    for (bool first = true; more; first = false) {
        size_t length = 0;
        ssize_t n;

        /* requests here have no body and do not come before the last answer */
        while (head_length(head, length) == 0 &&
               (n = recv(fd, head + length, sizeof(head) - 1 - length, 0)) > 0) {
            length += (size_t)n;
        }
        head[length] = '\0';
        more = head_length(head, length) > 0 && serve_one(fd, head, first);
    }
    close(fd);
    return NULL;
}

static void *accept_served(void *arg)
{
    struct server *server = arg;
    pthread_attr_t attributes;
    pthread_t thread;
    int fd;

    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 128 * 1024);
    while ((fd = accept(server->listener, NULL, NULL)) >= 0) {
        int *own = malloc(sizeof(*own));

        assert_non_null(own);
        *own = fd;
        atomic_fetch_add(&server->accepted, 1);
        assert_int_equal(pthread_create(&thread, &attributes, serve_connection, own), 0);
    }
    pthread_attr_destroy(&attributes);
    return NULL;
}

static void start_server(struct server *server)
{
    struct sockaddr_in address = loopback(0);
    socklen_t bytes = sizeof(address);

    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server->listener, (const struct sockaddr *)&address, bytes), 0);
    assert_int_equal(listen(server->listener, 1024), 0);
    assert_int_equal(getsockname(server->listener, (struct sockaddr *)&address, &bytes), 0);
    server->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&server->thread, NULL, accept_served, server), 0);
}

static void stop_server(struct server *server)
{
    shutdown(server->listener, SHUT_RDWR);
    pthread_join(server->thread, NULL);
    close(server->listener);
}

/* ---- the program that uses the proxy ---- */

struct fixture {
    struct server server;
    struct proxy *proxy;
    atomic_int resolved, ended; /* exchanges that began and ended */
    sem_t waits, go;            /* a resolve that waits says so, and goes on when told */
};

static enum proxy_decision resolve(void *arg, const struct proxy_request *request,
                                   struct proxy_target *target, struct strbuf *answer)
{
    struct fixture *fixture = arg;

    if (strncmp(request->head, "GET /forbidden", 14) == 0) {
        error_answer_plain(answer, request->head, 403, "Forbidden", "no");
        return PROXY_ANSWER;
    }
    if (strncmp(request->head, "GET /slow", 9) == 0) {
        sem_post(&fixture->waits);
        sem_wait(&fixture->go);
    }
    snprintf(target->key, sizeof(target->key), "server");
    atomic_fetch_add(&fixture->resolved, 1);
    return PROXY_RELAY;
}

static enum proxy_decision resolve_quick(void *arg, const struct proxy_request *request,
                                         struct proxy_target *target, struct strbuf *answer)
{
    return strncmp(request->head, "GET /slow", 9) == 0 ? PROXY_LATER
                                                       : resolve(arg, request, target, answer);
}

static int connect_server(void *arg, const struct proxy_request *request,
                          const struct proxy_target *target, struct strbuf *answer)
{
    struct fixture *fixture = arg;

    (void)target;
    if (strncmp(request->head, "GET /nowhere", 12) == 0) {
        error_answer_plain(answer, request->head, 502, "Bad Gateway", "nowhere");
        return -1;
    }
    return connect_port(fixture->server.port);
}

static void unanswered(void *arg, const struct proxy_request *request,
                       const struct proxy_target *target, struct strbuf *answer)
{
    (void)arg;
    (void)target;
    error_answer_plain(answer, request->head, 502, "Bad Gateway", "gone");
}

static void ended(void *arg, struct proxy_target *target)
{
    struct fixture *fixture = arg;

    (void)target;
    atomic_fetch_add(&fixture->ended, 1);
}

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    struct error err = ERROR_INIT;

    assert_non_null(fixture);
    start_server(&fixture->server);
    sem_init(&fixture->waits, 0, 0);
    sem_init(&fixture->go, 0, 0);
    const struct proxy_options options = {.listen = "127.0.0.1:0",
                                          .listen_name = "LISTEN",
                                          .max_connections = 2000,
                                          .head_timeout_ms = 60000,
                                          .idle_timeout_ms = 60000,
                                          .stall_timeout_ms = 60000,
                                          .callbacks = {.resolve = resolve,
                                                        .resolve_quick = resolve_quick,
                                                        .connect = connect_server,
                                                        .unanswered = unanswered,
                                                        .ended = ended},
                                          .arg = fixture};
    fixture->proxy = proxy_start(&options, &err);
    assert_non_null(fixture->proxy);
    *state = fixture;
    return 0;
}

/* Every exchange that began has ended, once. */
static int tear_down(void **state)
{
    struct fixture *fixture = *state;

    proxy_stop(fixture->proxy);
    assert_int_equal(atomic_load(&fixture->resolved), atomic_load(&fixture->ended));
    stop_server(&fixture->server);
    sem_destroy(&fixture->waits);
    sem_destroy(&fixture->go);
    free(fixture);
    return 0;
}

static int connect_proxy(const struct fixture *fixture)
{
    return connect_port(proxy_port(fixture->proxy));
}

static void get(int fd, const char *path)
{
    char head[128];

    snprintf(head, sizeof(head), "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path);
    say(fd, head);
}

/* ---- tests ---- */

static void test_a_connection_to_a_server_is_reused(void **state)
{
    struct fixture *fixture = *state;
    const int client = connect_proxy(fixture);

    for (int i = 0; i < 20; i++) {
        get(client, "/ok");
        assert_true(hear(client, "\r\n\r\nok"));
    }
    assert_int_equal(atomic_load(&fixture->server.accepted), 1);
    /* not after an answer that says close, and not after bytes that belong to no answer */
    get(client, "/close");
    assert_true(hear(client, "\r\n\r\nok"));
    get(client, "/surplus");
    assert_true(hear(client, "\r\n\r\nok"));
    get(client, "/ok");
    assert_true(hear(client, "\r\n\r\nok"));
    assert_in_range(atomic_load(&fixture->server.accepted), 2, 3);
    close(client);
}

static void test_a_server_that_drops_a_kept_connection_is_asked_again(void **state)
{
    struct fixture *fixture = *state;
    const int client = connect_proxy(fixture);

    for (int i = 0; i < 5; i++) {
        get(client, "/ok");
        assert_true(hear(client, "\r\n\r\nok"));
        get(client, "/drop");
        assert_true(hear(client, "\r\n\r\nok"));
    }
    close(client);
}

static void test_what_no_server_answers_the_program_answers(void **state)
{
    static const struct {
        const char *path, *status;
    } cases[] = {
        {"/forbidden", "HTTP/1.1 403 "}, {"/nowhere", "HTTP/1.1 502 "}, {"/never", "502 "}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const int client = connect_proxy(*state);

        get(client, cases[i].path);
        assert_true(hear(client, cases[i].status));
        while (hear(client, "never sent")) {} /* to its end */
        close(client);
    }
}

static void test_a_callback_that_waits_holds_up_nobody(void **state)
{
    enum { SLOW = 40 };
    struct fixture *fixture = *state;
    const int client = connect_proxy(fixture);
    int slow[SLOW];

    for (int i = 0; i < SLOW; i++) {
        slow[i] = connect_proxy(fixture);
        get(slow[i], "/slow");
    }
    for (int i = 0; i < SLOW; i++) {
        sem_wait(&fixture->waits);
    }
    get(client, "/ok");
    assert_true(hear(client, "\r\n\r\nok"));
    for (int i = 0; i < SLOW; i++) {
        sem_post(&fixture->go);
    }
    for (int i = 0; i < SLOW; i++) {
        assert_true(hear(slow[i], "\r\n\r\nok"));
        close(slow[i]);
    }
    close(client);
}

static long resident_kb(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    long total, resident = 0;

    assert_non_null(file);
    assert_int_equal(fscanf(file, "%ld %ld", &total, &resident), 2);
    fclose(file);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void test_a_thousand_websockets_stay_small(void **state)
{
    enum { COUNT = 1000, LEAST = 200, KB_OF_ONE = 64 };
    struct rlimit files;
    int *clients = calloc(COUNT, sizeof(*clients)), count = COUNT;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    files.rlim_cur = files.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
    if (files.rlim_max < 5 * COUNT) {
        count = LEAST; /* four descriptors each in this process */
    }
    const long before_kb = resident_kb();
    for (int i = 0; i < count; i++) {
        clients[i] = connect_proxy(*state);
        say(clients[i], "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
                        "Upgrade: websocket\r\n\r\n");
    }
    for (int i = 0; i < count; i++) {
        assert_true(hear(clients[i], "\r\n\r\n"));
    }
    for (int turn = 0; turn < 2; turn++) {
        for (int i = 0; i < count; i++) {
            say(clients[i], "ping");
        }
        for (int i = 0; i < count; i++) {
            assert_true(hear(clients[i], "pong"));
        }
    }
    /* with the test's own server, whose threads are most of it; sanitizers need more for all */
    const long grown_kb = resident_kb() - before_kb;
    print_message("%d WebSockets: %ld KiB\n", count, grown_kb);
    assert_true(grown_kb < (long)count * KB_OF_ONE * SANITIZER_FACTOR);
    for (int i = 0; i < count; i++) {
        close(clients[i]);
    }
    free(clients);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_connection_to_a_server_is_reused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_server_that_drops_a_kept_connection_is_asked_again,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_no_server_answers_the_program_answers, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_callback_that_waits_holds_up_nobody, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_thousand_websockets_stay_small, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
