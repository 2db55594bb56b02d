/*
 * connection - see connection.h.
 *
 * A connection is in one state. advance() does what its sockets allow and goes from state to state
 * until it has to wait for a socket, a worker or a deadline.
 */
#include "common/proxy/connection.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/proxy/error_answers.h"
#include "common/proxy/head.h"
#include "common/proxy/loop.h"
#include "common/proxy/relay.h"
#include "common/proxy/servers.h"
#include "common/proxy/tls.h"

enum {
    LINGER_MS = 1000,
    READ_BYTES = 16384,
    CROWDED_IDLE_MS = 1000, /* how long a connection may idle while most are taken */
};

enum state {
    FIRST_BYTE, /* TLS or HTTP? */
    HEAD,       /* waits for a request, or for the rest of its head */
    WORKING,    /* a worker runs one of the program's callbacks */
    RELAYING,
    ANSWERING, /* sends an answer that is not a server's, then ends */
    LINGERING, /* lets the client read the answer, though it may still be sending */
    CLOSED,
};

enum job { RESOLVE, CONNECT, UNANSWERED };

struct connection {
    struct loop_watch watch; /* first: on_client() casts */
    struct connection_group *group;
    struct connection *previous, *next;
    enum state state;
    struct relay_ready ready;
    int64_t deadline_ms;
    bool refused;
    char peer[PROXY_PEER_BYTES];
    struct strbuf ahead; /* read from the client and not used yet */

    /* one exchange */
    char *head;
    struct proxy_request request;
    struct proxy_target *target; /* NULL before the request is known */
    bool resolved;               /* the program decided to relay: it will be told of the end */
    struct server *server;
    bool server_reused;
    struct relay *relay;
    struct strbuf answer;
    size_t answer_sent;

    /* with a worker */
    struct work work;
    enum job job;
    enum proxy_decision decision;
    int connected; /* socket to the server, -1 = none */

    struct loop_task opened, worked, more, freed;
    bool more_queued;
};

#define OWNER(pointer, member)                                                                     \
    ((struct connection *)((char *)(pointer)-offsetof(struct connection, member)))

static void advance(struct connection *connection);

static const struct proxy_options *options_of(const struct connection *connection)
{
    return &connection->group->shared->options;
}

/* ---- the end ---- */

static void free_connection(struct loop_task *task)
{
    struct connection *connection = OWNER(task, freed);
    struct connection_shared *shared = connection->group->shared;

    free(connection);
    atomic_fetch_sub(&shared->count, 1);
}

static void end_exchange(struct connection *connection)
{
    const struct proxy_options *options = options_of(connection);

    if (connection->server != NULL) {
        const bool unused = connection->relay == NULL && connection->target->key[0] != '\0';

        if (unused || (connection->relay != NULL && relay_keeps_server(connection->relay))) {
            servers_put_back(connection->server);
        } else {
            servers_close(connection->server);
        }
        connection->server = NULL;
    }
    relay_free(connection->relay);
    connection->relay = NULL;
    if (connection->resolved && options->callbacks.ended != NULL) {
        options->callbacks.ended(options->arg, connection->target);
    }
    connection->resolved = false;
    if (connection->target != NULL) {
        strbuf_done(&connection->target->path);
        strbuf_done(&connection->target->set_headers);
        free(connection->target);
        connection->target = NULL;
    }
    free(connection->head);
    connection->head = NULL;
}

static void close_now(struct connection *connection)
{
    struct connection_group *group = connection->group;

    end_exchange(connection);
    if (connection->watch.fd >= 0) {
        loop_unwatch(group->loop, &connection->watch);
        close(connection->watch.fd);
        connection->watch.fd = -1;
    }
    strbuf_done(&connection->ahead);
    strbuf_done(&connection->answer);
    *(connection->previous != NULL ? &connection->previous->next : &group->first) =
        connection->next;
    if (connection->next != NULL) {
        connection->next->previous = connection->previous;
    }
    connection->state = CLOSED;
    /* events of it may be at hand: it is freed after them */
    loop_later(group->loop, &connection->freed);
}

static void linger(struct connection *connection)
{
    end_exchange(connection);
    shutdown(connection->watch.fd, SHUT_WR);
    connection->state = LINGERING;
    connection->deadline_ms = clock_mono_ms() + LINGER_MS;
}

static void do_linger(struct connection *connection)
{
    char waste[4096];

    while (connection->ready.in) {
        const ssize_t n = recv(connection->watch.fd, waste, sizeof(waste), MSG_DONTWAIT);

        if (n < 0 && errno == EAGAIN) {
            connection->ready.in = false;
        } else if (n <= 0) {
            close_now(connection);
            return;
        }
    }
}

/* ---- answers that are not a server's ---- */

/* `answer` is filled. */
static void begin_answer(struct connection *connection)
{
    connection->state = ANSWERING;
    connection->answer_sent = 0;
    connection->deadline_ms = clock_mono_ms() + options_of(connection)->stall_timeout_ms;
}

static void answer_plain(struct connection *connection, const char *head, int status,
                         const char *reason, const char *message)
{
    strbuf_reset(&connection->answer);
    error_answer_plain(&connection->answer, head, status, reason, message);
    begin_answer(connection);
}

static void do_answer(struct connection *connection)
{
    const struct strbuf *answer = &connection->answer;

    while (connection->answer_sent < answer->length) {
        const ssize_t n =
            send(connection->watch.fd, answer->data + connection->answer_sent,
                 answer->length - connection->answer_sent, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EAGAIN) {
            connection->ready.out = false;
            return;
        }
        if (n <= 0) {
            close_now(connection);
            return;
        }
        connection->answer_sent += (size_t)n;
        connection->deadline_ms = clock_mono_ms() + options_of(connection)->stall_timeout_ms;
    }
    linger(connection);
}

/* ---- with a worker ---- */

static void do_work(struct work *work)
{
    struct connection *connection = OWNER(work, work);
    const struct proxy_options *options = options_of(connection);
    const struct proxy_callbacks *callbacks = &options->callbacks;
    struct strbuf *answer = &connection->answer;
    bool connects = connection->job == CONNECT;

    connection->connected = -1;
    if (connection->job == RESOLVE) {
        connection->decision =
            callbacks->resolve(options->arg, &connection->request, connection->target, answer);
        connection->resolved = connection->decision == PROXY_RELAY;
        connects = connection->resolved && connection->target->key[0] == '\0';
    }
    if (connects) {
        connection->connected =
            callbacks->connect(options->arg, &connection->request, connection->target, answer);
    }
    if (connection->job == UNANSWERED) {
        callbacks->unanswered(options->arg, &connection->request, connection->target, answer);
    }
    loop_post(connection->group->loop, &connection->worked);
}

static void begin_work(struct connection *connection, enum job job)
{
    connection->state = WORKING;
    connection->job = job;
    connection->deadline_ms = INT64_MAX;
    workers_run(connection->group->shared->workers, &connection->work);
}

/* ---- the relay ---- */

static void on_server(void *owner)
{
    struct connection *connection = owner;

    if (connection->state == RELAYING) {
        advance(connection);
    }
}

/* connection->server is there. */
static void begin_relay(struct connection *connection, bool reused)
{
    const struct proxy_target *target = connection->target;
    const char *head = connection->head;
    const struct relay_spec spec = {
        .client = connection->watch.fd,
        .server = connection->server->watch.fd,
        .head = head,
        .edit = {.host = target->host[0] != '\0' ? target->host : NULL,
                 .path = target->path.length > 0 ? target->path.data : NULL,
                 .set = target->set_headers.length > 0 ? target->set_headers.data : NULL,
                 .drop = target->drop_headers},
        .ahead = &connection->ahead,
        .keep_alive = head_keeps_alive(head),
        .keep_server = target->key[0] != '\0',
        .cors_lines = target->cors ? error_answer_cors_lines(head) : "",
        .stall_ms = options_of(connection)->stall_timeout_ms,
        .buffers = &connection->group->buffers,
    };

    connection->server_reused = reused;
    connection->server->owner = connection;
    connection->server->on_ready = on_server;
    connection->relay = relay_new(&spec);
    if (connection->relay == NULL) {
        answer_plain(connection, head, 400, "Bad Request", "ambiguous body length");
        return;
    }
    connection->state = RELAYING;
    connection->deadline_ms = INT64_MAX; /* on_tick() asks the relay */
}

static void to_server(struct connection *connection)
{
    struct connection_group *group = connection->group;

    connection->server = connection->target->key[0] != '\0'
                             ? servers_take(group->servers, connection->target->key)
                             : NULL;
    if (connection->server != NULL) {
        begin_relay(connection, true);
    } else {
        begin_work(connection, CONNECT);
    }
}

static void connected(struct connection *connection)
{
    if (connection->connected < 0) {
        begin_answer(connection);
        return;
    }
    connection->server =
        servers_add(connection->group->servers, connection->target->key, connection->connected);
    if (connection->server == NULL) {
        answer_plain(connection, connection->head, 503, "Service Unavailable",
                     "too many connections");
        return;
    }
    begin_relay(connection, false);
}

static void on_worked(struct loop_task *task)
{
    struct connection *connection = OWNER(task, worked);

    if (connection->job == UNANSWERED || connection->decision != PROXY_RELAY) {
        begin_answer(connection);
    } else if (connection->job == RESOLVE && connection->target->key[0] != '\0') {
        to_server(connection);
    } else {
        connected(connection);
    }
    advance(connection);
}

/* The server closed the connection before it answered. */
static void begin_again(struct connection *connection)
{
    const bool repeat = connection->server_reused && relay_may_repeat(connection->relay);

    relay_free(connection->relay);
    connection->relay = NULL;
    servers_close(connection->server);
    connection->server = NULL;
    begin_work(connection, repeat ? CONNECT : UNANSWERED);
}

static void begin_head(struct connection *connection);

static void do_relay(struct connection *connection)
{
    const enum relay_result result =
        relay_run(connection->relay, &connection->ready, &connection->server->ready);

    switch (result) {
    case RELAY_WAITS:
        break;
    case RELAY_MORE:
        if (!connection->more_queued) {
            connection->more_queued = true;
            loop_later(connection->group->loop, &connection->more);
        }
        break;
    case RELAY_NEXT:
        end_exchange(connection);
        begin_head(connection);
        break;
    case RELAY_CLOSE:
        linger(connection);
        break;
    case RELAY_ABORT:
        close_now(connection);
        break;
    case RELAY_UNANSWERED:
        begin_again(connection);
        break;
    }
}

static void on_more(struct loop_task *task)
{
    struct connection *connection = OWNER(task, more);

    connection->more_queued = false;
    if (connection->state == RELAYING) {
        advance(connection);
    }
}

/* ---- heads ---- */

/*
 * A client without TCP_NODELAY that sends head and body apart holds the body back until the head is
 * acknowledged, which the kernel of a connection in use delays by 40 ms (tcp(7), TCP_QUICKACK).
 */
static void acknowledge(int fd)
{
    const int on = 1;

    (void)setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
}

/* A new connection has head_timeout_ms for its head; one that carried a request may idle first. */
static void begin_head(struct connection *connection)
{
    const struct proxy_options *options = options_of(connection);
    const int count = atomic_load(&connection->group->shared->count);
    const bool crowded = count > options->max_connections / 4 * 3;

    if (connection->ahead.length == 0) {
        strbuf_done(&connection->ahead); /* an idle connection holds no memory */
        strbuf_init(&connection->ahead, RELAY_AHEAD_BYTES);
    }
    connection->state = HEAD;
    connection->deadline_ms =
        clock_mono_ms() + (connection->ahead.length > 0 ? options->head_timeout_ms
                           : crowded                    ? CROWDED_IDLE_MS
                                                        : options->idle_timeout_ms);
}

/* The connection ends while no request is being served. */
static void end_idle(struct connection *connection)
{
    if (connection->ahead.length == 0) {
        close_now(connection); /* nothing is left to be read */
    } else {
        linger(connection);
    }
}

/* The head in connection->head is whole. */
static void begin_request(struct connection *connection)
{
    const struct proxy_options *options = options_of(connection);
    struct proxy_target *target = xcalloc(1, sizeof(*target));

    connection->target = target;
    connection->request.head = connection->head;
    strbuf_init(&target->path, HEAD_MAX_BYTES);
    strbuf_init(&target->set_headers, HEAD_MAX_BYTES);
    strbuf_reset(&connection->answer);
    connection->decision =
        options->callbacks.resolve_quick == NULL
            ? PROXY_LATER
            : options->callbacks.resolve_quick(options->arg, &connection->request, target,
                                               &connection->answer);
    if (connection->decision == PROXY_LATER) {
        begin_work(connection, RESOLVE);
    } else if (connection->decision == PROXY_ANSWER) {
        begin_answer(connection);
    } else {
        connection->resolved = true;
        to_server(connection);
    }
}

static void take_head(struct connection *connection, size_t length)
{
    connection->head = xstrndup(connection->ahead.data, length);
    strbuf_consume(&connection->ahead, length);
    if (connection->refused) {
        answer_plain(connection, connection->head, 503, "Service Unavailable",
                     "too many connections");
    } else if (strlen(connection->head) != length) {
        answer_plain(connection, "", 400, "Bad Request", "NUL in the head");
    } else {
        if (connection->ahead.length == 0 && !head_method_is(connection->head, "GET")) {
            acknowledge(connection->watch.fd);
        }
        begin_request(connection);
    }
}

static void read_head(struct connection *connection)
{
    char piece[READ_BYTES];
    const bool begun = connection->ahead.length > 0;
    const ssize_t n = recv(connection->watch.fd, piece, sizeof(piece), MSG_DONTWAIT);

    if (n < 0 && errno == EAGAIN) {
        connection->ready.in = false;
    } else if (n <= 0 || strbuf_append(&connection->ahead, piece, (size_t)n) != 0) {
        end_idle(connection);
    } else {
        connection->ready.in = n == READ_BYTES || connection->ready.ended;
        if (!begun) {
            connection->deadline_ms = clock_mono_ms() + options_of(connection)->head_timeout_ms;
        }
    }
}

static void do_head(struct connection *connection)
{
    const struct strbuf *ahead = &connection->ahead;
    const size_t length = head_length(ahead->data, ahead->length);

    if (length > 0) {
        take_head(connection, length);
    } else if (ahead->length >= HEAD_MAX_BYTES) {
        answer_plain(connection, "", 431, "Request Header Fields Too Large",
                     "request head too large");
    } else if (connection->ready.in) {
        read_head(connection);
    } else if (ahead->length > 0) {
        acknowledge(connection->watch.fd);
    }
}

/* ---- the beginning ---- */

/* The connection is replaced by the plain one that it carries. */
static void begin_tls(struct connection *connection)
{
    const struct proxy_options *options = options_of(connection);
    struct loop *loop = connection->group->loop;

    loop_unwatch(loop, &connection->watch);
    connection->watch.fd = tls_accept(options->tls, connection->watch.fd, options->head_timeout_ms,
                                      options->stall_timeout_ms);
    connection->request.tls = true;
    connection->ready = (struct relay_ready){.out = true};
    if (connection->watch.fd < 0 || loop_watch(loop, &connection->watch) < 0) {
        close_now(connection);
    } else {
        connection->state = HEAD;
    }
}

static void do_first_byte(struct connection *connection)
{
    unsigned char first;
    const ssize_t n = recv(connection->watch.fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);

    if (n < 0 && errno == EAGAIN) {
        connection->ready.in = false;
    } else if (n != 1) {
        close_now(connection);
    } else if (tls_is_hello(first)) {
        begin_tls(connection);
    } else {
        connection->state = HEAD;
    }
}

/* ---- turns ---- */

/* One step. false: it has to wait. */
static bool step(struct connection *connection)
{
    const enum state before = connection->state;
    const bool in = connection->ready.in;

    switch (before) {
    case FIRST_BYTE:
        if (in) {
            do_first_byte(connection);
        }
        break;
    case HEAD:
        do_head(connection);
        return connection->state != HEAD || in;
    case RELAYING:
        do_relay(connection);
        break;
    case ANSWERING:
        if (connection->ready.out) {
            do_answer(connection);
        }
        break;
    case LINGERING:
        do_linger(connection);
        break;
    case WORKING:
    case CLOSED:
        break;
    }
    return connection->state != before;
}

static void advance(struct connection *connection)
{
    while (step(connection)) {}
}

static void on_client(struct loop_watch *watch, uint32_t events)
{
    struct connection *connection = (struct connection *)watch;
    struct relay_ready *ready = &connection->ready;

    if (connection->state == CLOSED) {
        return;
    }
    ready->ended |= (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    ready->broken |= (events & (EPOLLHUP | EPOLLERR)) != 0;
    ready->in |= ready->ended || (events & EPOLLIN) != 0;
    ready->out |= (events & EPOLLOUT) != 0;
    advance(connection);
}

static void on_deadline(struct connection *connection)
{
    switch (connection->state) {
    case HEAD:
        end_idle(connection);
        break;
    case RELAYING:
        advance(connection);
        break;
    case FIRST_BYTE:
    case ANSWERING:
    case LINGERING:
        close_now(connection);
        break;
    case WORKING:
    case CLOSED:
        break;
    }
}

struct connection *connection_tick(struct connection *connection, int64_t now_ms, bool stopping)
{
    struct connection *next = connection->next;
    const bool idle = connection->state == HEAD || connection->state == FIRST_BYTE;
    const int64_t deadline_ms = connection->state == RELAYING ? relay_deadline_ms(connection->relay)
                                                              : connection->deadline_ms;

    if (now_ms >= deadline_ms || (stopping && idle)) {
        on_deadline(connection);
    }
    return next;
}

static void on_opened(struct loop_task *task)
{
    struct connection *connection = OWNER(task, opened);
    struct connection_group *group = connection->group;

    connection->next = group->first;
    if (group->first != NULL) {
        group->first->previous = connection;
    }
    group->first = connection;
    if (loop_watch(group->loop, &connection->watch) < 0) {
        close_now(connection);
    }
}

void connection_open(struct connection_group *group, int fd, const char *peer, bool refused)
{
    struct connection *connection = xcalloc(1, sizeof(*connection));

    connection->watch = (struct loop_watch){.fd = fd, .ready = on_client};
    connection->group = group;
    connection->state = FIRST_BYTE;
    connection->ready.out = true;
    connection->deadline_ms = clock_mono_ms() + group->shared->options.head_timeout_ms;
    connection->refused = refused;
    connection->connected = -1;
    memcpy(connection->peer, peer, sizeof(connection->peer));
    memcpy(connection->request.peer, peer, sizeof(connection->request.peer));
    strbuf_init(&connection->ahead, RELAY_AHEAD_BYTES);
    strbuf_init(&connection->answer, PROXY_ANSWER_BYTES);
    connection->work.run = do_work;
    connection->opened.run = on_opened;
    connection->worked.run = on_worked;
    connection->more.run = on_more;
    connection->freed.run = free_connection;
    loop_post(group->loop, &connection->opened);
}
