/*
 * relay - byte copying between the host's UNIX connections and loopback ports; see relay.h.
 *
 * Both ends are registered once, edge-triggered, for reading and writing; an event runs the copy
 * in both directions until it would block. A direction owns no memory while its bytes fit into the
 * receiver's socket; what does not fit waits in a buffer of at most RELAY_CHUNK bytes, and nothing
 * more is read meanwhile.
 */
#include "deploy/sandbox-host/agent/relay.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/alloc.h"

#define RELAY_CHUNK      65536
#define RELAY_TURNS      8    /* chunks one direction copies before the others get their turn */
#define RELAY_MAX        2048 /* relays at once; more wait in the listener's backlog */
#define RELAY_EVENTS     64
#define RELAY_BACKOFF_MS 50

enum relay_state { RELAY_PORT, RELAY_CONNECTING, RELAY_COPYING };

struct relay_pipe {
    char *pending; /* NULL, or bytes read that the receiver did not take yet */
    size_t start, end;
    bool eof;  /* the sender has finished */
    bool shut; /* and the receiver was told */
};

struct relay_end {
    struct relay *relay;
    int fd;
};

struct relay {
    struct relay_end host, port; /* port.fd is -1 until connected */
    struct relay_pipe up, down;  /* host -> port, port -> host */
    enum relay_state state;
    unsigned char head[2];
    size_t head_bytes;
    uint16_t number;
    bool tried_ipv6;
    bool host_left; /* the host closed its end altogether: nobody reads an answer */
    bool queued, dead;
    struct relay *next_ready, *next_dead;
};

struct relay_loop {
    int epoll_fd, listen_fd;
    bool listening;
    int count;
    struct relay *ready, *dead;
    char *chunk;
};

/* Out of the epoll set by name: a child between fork and exec still has a copy of the descriptor,
 * which would keep the registration, and its pointer, alive past the close. */
static void relay_close(struct relay_loop *loop, struct relay_end *end)
{
    if (end->fd >= 0) {
        (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, end->fd, NULL);
        close(end->fd);
        end->fd = -1;
    }
}

static void relay_kill(struct relay_loop *loop, struct relay *relay)
{
    if (relay->dead) {
        return;
    }
    relay->dead = true;
    relay_close(loop, &relay->host);
    relay_close(loop, &relay->port);
    relay->next_dead = loop->dead;
    loop->dead = relay;
}

static void relay_enqueue(struct relay_loop *loop, struct relay *relay)
{
    if (!relay->queued) {
        relay->queued = true;
        relay->next_ready = loop->ready;
        loop->ready = relay;
    }
}

static int relay_watch(struct relay_loop *loop, struct relay_end *end)
{
    struct epoll_event event = {
        .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
        .data.ptr = end,
    };
    return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, end->fd, &event);
}

/* Writes what is pending. 1 = nothing left, 0 = the receiver is full, -1 = broken. */
static int pipe_drain(struct relay_pipe *pipe, int to)
{
    while (pipe->pending != NULL) {
        ssize_t n = send(to, pipe->pending + pipe->start, pipe->end - pipe->start, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            return errno == EAGAIN ? 0 : -1;
        }
        pipe->start += (size_t)n;
        if (pipe->start == pipe->end) {
            free(pipe->pending);
            pipe->pending = NULL;
        }
    }
    return 1;
}

/* One direction, until it would block. 1 = has more to do, 0 = waits, -1 = broken. */
static int pipe_copy(struct relay_loop *loop, struct relay_pipe *pipe, int from, int to)
{
    for (int turn = 0; turn < RELAY_TURNS; turn++) {
        const int drained = pipe_drain(pipe, to);
        if (drained <= 0) {
            return drained;
        }
        if (pipe->eof) {
            if (!pipe->shut) {
                pipe->shut = true;
                shutdown(to, SHUT_WR);
            }
            return 0;
        }
        const ssize_t n = recv(from, loop->chunk, RELAY_CHUNK, 0);
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            return errno == EAGAIN ? 0 : -1;
        }
        if (n == 0) {
            pipe->eof = true;
            continue;
        }
        ssize_t sent = send(to, loop->chunk, (size_t)n, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN && errno != EINTR) {
                return -1;
            }
            sent = 0;
        }
        if (sent < n) {
            pipe->pending = xmalloc((size_t)(n - sent));
            memcpy(pipe->pending, loop->chunk + sent, (size_t)(n - sent));
            pipe->start = 0;
            pipe->end = (size_t)(n - sent);
        }
    }
    return 1;
}

/* Starts a connection to the wanted port. 0 = under way or done, -1 = refused. */
static int relay_dial(struct relay_loop *loop, struct relay *relay, bool ipv6)
{
    const struct sockaddr_in v4 = {
        .sin_family = AF_INET,
        .sin_port = htons(relay->number),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    const struct sockaddr_in6 v6 = {
        .sin6_family = AF_INET6,
        .sin6_port = htons(relay->number),
        .sin6_addr = IN6ADDR_LOOPBACK_INIT,
    };
    const struct sockaddr *address =
        ipv6 ? (const struct sockaddr *)&v6 : (const struct sockaddr *)&v4;
    const int one = 1;

    relay->tried_ipv6 = ipv6;
    const int fd = socket(ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (connect(fd, address, ipv6 ? sizeof(v6) : sizeof(v4)) != 0 && errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    relay->port.fd = fd;
    relay->state = RELAY_CONNECTING;
    if (relay_watch(loop, &relay->port) != 0) {
        close(fd);
        relay->port.fd = -1;
        return -1;
    }
    return 0;
}

static void relay_answer(struct relay_loop *loop, struct relay *relay, unsigned char status)
{
    /* the first byte on an empty socket always fits */
    if (send(relay->host.fd, &status, 1, MSG_NOSIGNAL) != 1 || status != 0) {
        relay_kill(loop, relay);
    } else {
        relay->state = RELAY_COPYING;
    }
}

static void relay_dial_any(struct relay_loop *loop, struct relay *relay, bool ipv6)
{
    if (!ipv6 && relay_dial(loop, relay, false) == 0) {
        return;
    }
    if (relay_dial(loop, relay, true) != 0) {
        relay_answer(loop, relay, 1);
    }
}

static void relay_check_connected(struct relay_loop *loop, struct relay *relay)
{
    int failure = 0;
    socklen_t size = sizeof(failure);
    struct sockaddr_storage peer;
    socklen_t peer_size = sizeof(peer);

    if (getsockopt(relay->port.fd, SOL_SOCKET, SO_ERROR, &failure, &size) != 0) {
        failure = errno;
    }
    if (failure == 0) {
        if (getpeername(relay->port.fd, (struct sockaddr *)&peer, &peer_size) != 0) {
            return; /* not yet */
        }
        relay_answer(loop, relay, 0);
        return;
    }
    relay_close(loop, &relay->port);
    if (relay->tried_ipv6) {
        relay_answer(loop, relay, 1);
    } else {
        relay_dial_any(loop, relay, true);
    }
}

static void relay_read_port(struct relay_loop *loop, struct relay *relay)
{
    while (relay->head_bytes < sizeof(relay->head)) {
        const ssize_t n = recv(relay->host.fd, relay->head + relay->head_bytes,
                               sizeof(relay->head) - relay->head_bytes, 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n <= 0) {
            relay_kill(loop, relay);
            return;
        }
        relay->head_bytes += (size_t)n;
    }
    relay->number = (uint16_t)(relay->head[0] << 8 | relay->head[1]);
    relay_dial_any(loop, relay, false);
}

static void relay_run(struct relay_loop *loop, struct relay *relay)
{
    if (!relay->dead && relay->state == RELAY_PORT) {
        relay_read_port(loop, relay);
    }
    if (!relay->dead && relay->state == RELAY_CONNECTING) {
        relay_check_connected(loop, relay);
    }
    if (relay->dead || relay->state != RELAY_COPYING) {
        return;
    }
    const int up = pipe_copy(loop, &relay->up, relay->host.fd, relay->port.fd);
    const int down = up < 0 ? -1 : pipe_copy(loop, &relay->down, relay->port.fd, relay->host.fd);
    if (down < 0 || (relay->up.shut && (relay->down.shut || relay->host_left))) {
        relay_kill(loop, relay);
    } else if (up > 0 || down > 0) {
        relay_enqueue(loop, relay);
    }
}

static void relay_listen(struct relay_loop *loop, bool on)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};

    if (on != loop->listening && epoll_ctl(loop->epoll_fd, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL,
                                           loop->listen_fd, &event) == 0) {
        loop->listening = on;
    }
}

/* False when the process is out of descriptors: the caller waits before it tries again. */
static bool relay_accept(struct relay_loop *loop)
{
    while (loop->count < RELAY_MAX) {
        const int fd = accept4(loop->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EINTR || errno == ECONNABORTED) {
                continue;
            }
            return errno == EAGAIN;
        }
        struct relay *relay = xcalloc(1, sizeof(*relay));
        relay->host = (struct relay_end){.relay = relay, .fd = fd};
        relay->port = (struct relay_end){.relay = relay, .fd = -1};
        loop->count++;
        if (relay_watch(loop, &relay->host) != 0) {
            relay_kill(loop, relay);
        } else {
            relay_run(loop, relay); /* the port usually came with the connection */
        }
    }
    relay_listen(loop, false);
    return true;
}

/* Frees the dead, but for those the ready list still points to: they are due next turn. */
static void relay_bury(struct relay_loop *loop)
{
    struct relay **link = &loop->dead;

    while (*link != NULL) {
        struct relay *relay = *link;
        if (relay->queued) {
            link = &relay->next_dead;
            continue;
        }
        *link = relay->next_dead;
        free(relay->up.pending);
        free(relay->down.pending);
        free(relay);
        loop->count--;
    }
}

static void *relay_main(void *arg)
{
    struct relay_loop *loop = arg;
    struct epoll_event events[RELAY_EVENTS];
    bool starved = false;

    for (;;) {
        const int timeout = loop->ready != NULL ? 0 : starved ? RELAY_BACKOFF_MS : -1;
        const int n = epoll_wait(loop->epoll_fd, events, RELAY_EVENTS, timeout);
        struct relay *ready = loop->ready;
        bool incoming = starved;

        loop->ready = NULL;
        for (int i = 0; i < n; i++) {
            struct relay_end *end = events[i].data.ptr;
            if (end == NULL) {
                incoming = true;
            } else {
                if (end == &end->relay->host && (events[i].events & EPOLLHUP) != 0) {
                    end->relay->host_left = true;
                }
                relay_run(loop, end->relay);
            }
        }
        while (ready != NULL) {
            struct relay *relay = ready;
            ready = relay->next_ready;
            relay->queued = false;
            relay_run(loop, relay);
        }
        if (incoming) {
            starved = !relay_accept(loop);
            relay_listen(loop, !starved && loop->count < RELAY_MAX);
        }
        relay_bury(loop);
        if (!starved && loop->count < RELAY_MAX) {
            relay_listen(loop, true);
        }
    }
    return NULL;
}

int relay_start(int listen_fd, struct error *err)
{
    struct relay_loop *loop = xcalloc(1, sizeof(*loop));
    pthread_t thread;

    loop->listen_fd = listen_fd;
    if (fcntl(listen_fd, F_SETFL, O_NONBLOCK) != 0) {
        free(loop);
        return error_set_errno(err, ERR_CONFIG, errno, "relay: descriptor %d", listen_fd);
    }
    loop->chunk = xmalloc(RELAY_CHUNK);
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "relay: epoll");
    }
    relay_listen(loop, true);
    if (!loop->listening) {
        return error_set(err, ERR_CONFIG, "relay: descriptor %d cannot be waited for", listen_fd);
    }
    const int failure = pthread_create(&thread, NULL, relay_main, loop);
    if (failure != 0) {
        return error_set_errno(err, ERR_INTERNAL, failure, "relay: thread");
    }
    pthread_detach(thread);
    return 0;
}
