/* servers - see servers.h. The idle ones form a list in the order in which they became idle. */
#include "common/proxy/servers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"

struct servers {
    struct loop *loop;
    struct server *oldest, *newest, *closed;
    int count, max;
    int64_t idle_ms;
};

struct servers *servers_new(struct loop *loop, int max, int64_t idle_ms)
{
    struct servers *servers = xcalloc(1, sizeof(*servers));

    servers->loop = loop;
    servers->max = max;
    servers->idle_ms = idle_ms;
    return servers;
}

static void unlink_idle(struct server *server)
{
    struct servers *servers = server->servers;

    *(server->older != NULL ? &server->older->newer : &servers->oldest) = server->newer;
    *(server->newer != NULL ? &server->newer->older : &servers->newest) = server->older;
    server->older = server->newer = NULL;
    servers->count--;
}

void servers_close(struct server *server)
{
    loop_unwatch(server->servers->loop, &server->watch);
    close(server->watch.fd);
    server->watch.fd = -1;
    server->on_ready = NULL;
    /* events of it may be at hand: it is freed after them */
    server->next_closed = server->servers->closed;
    server->servers->closed = server;
}

static void on_events(struct loop_watch *watch, uint32_t events)
{
    struct server *server = (struct server *)watch;
    const bool over = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;

    if (watch->fd < 0) {
        return;
    }
    server->ready.in |= over || (events & EPOLLIN) != 0;
    server->ready.out |= (events & EPOLLOUT) != 0;
    server->ready.ended |= over;
    if (server->on_ready != NULL) {
        server->on_ready(server->owner);
    } else if (server->ready.in) {
        unlink_idle(server);
        servers_close(server);
    }
}

struct server *servers_add(struct servers *servers, const char *key, int fd)
{
    struct server *server = xcalloc(1, sizeof(*server));

    server->watch = (struct loop_watch){.fd = fd, .ready = on_events};
    server->ready.out = true;
    server->servers = servers;
    if (loop_watch(servers->loop, &server->watch) < 0) {
        close(fd);
        free(server);
        return NULL;
    }
    server->key = xstrdup(key);
    return server;
}

struct server *servers_take(struct servers *servers, const char *key)
{
    for (struct server *server = servers->newest; server != NULL; server = server->older) {
        if (strcmp(server->key, key) == 0) {
            unlink_idle(server);
            return server;
        }
    }
    return NULL;
}

/* Whether nothing but an answer to come can be read. */
static bool is_silent(struct server *server)
{
    char byte;

    if (server->ready.in && !server->ready.ended &&
        recv(server->watch.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN) {
        server->ready.in = false;
    }
    return !server->ready.in;
}

void servers_put_back(struct server *server)
{
    struct servers *servers = server->servers;

    server->on_ready = NULL;
    if (!is_silent(server)) {
        servers_close(server);
        return;
    }
    server->idle_since_ms = clock_mono_ms();
    server->older = servers->newest;
    *(servers->newest != NULL ? &servers->newest->newer : &servers->oldest) = server;
    servers->newest = server;
    if (++servers->count > servers->max) {
        server = servers->oldest;
        unlink_idle(server);
        servers_close(server);
    }
}

bool servers_sweep(struct servers *servers, int64_t now_ms)
{
    while (servers->oldest != NULL && servers->oldest->idle_since_ms + servers->idle_ms < now_ms) {
        struct server *server = servers->oldest;

        unlink_idle(server);
        servers_close(server);
    }
    while (servers->closed != NULL) {
        struct server *server = servers->closed;

        servers->closed = server->next_closed;
        free(server->key);
        free(server);
    }
    return servers->oldest != NULL;
}

void servers_free(struct servers *servers)
{
    if (servers != NULL) {
        (void)servers_sweep(servers, INT64_MAX);
        free(servers);
    }
}
