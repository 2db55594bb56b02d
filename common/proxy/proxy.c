/* proxy - see proxy.h. Accepts connections and hands them to the event loops (connection.h). */
#include "common/proxy/proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/proxy/connection.h"
#include "common/proxy/connection_group.h"
#include "common/proxy/route.h"

enum {
    BACKLOG = 1024,
    STOP_MS = 1000,
    LOOPS = 2,         /* threads that carry connections */
    WORKERS_MAX = 256, /* threads for callbacks that may wait */
    REFUSED_MAX = 64,  /* connections above the limit that are answered; more are just closed */
};

struct proxy {
    struct connection_shared shared;
    int listener;
    int stop_fd; /* readable once the proxy stops */
    pthread_t acceptor;
    struct connection_group *groups[LOOPS];
};

static void accept_one(struct proxy *proxy, struct connection_group *group)
{
    const int64_t max = proxy->shared.options.max_connections;
    struct sockaddr_in peer = {.sin_family = AF_INET};
    socklen_t peer_bytes = sizeof(peer);
    const int fd = accept4(proxy->listener, (struct sockaddr *)&peer, &peer_bytes, SOCK_CLOEXEC);
    const int on = 1;
    char name[PROXY_PEER_BYTES] = "";

    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE) {
            clock_sleep_ms(10); /* the backlog stays readable: no busy loop */
        }
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    const int before = atomic_fetch_add(&proxy->shared.count, 1);
    if (before >= max + REFUSED_MAX) {
        atomic_fetch_sub(&proxy->shared.count, 1);
        close(fd);
        return;
    }
    inet_ntop(AF_INET, &peer.sin_addr, name, sizeof(name));
    connection_open(group, fd, name, before >= max);
}

static void *accept_connections(void *arg)
{
    struct proxy *proxy = arg;
    struct pollfd fds[] = {{.fd = proxy->listener, .events = POLLIN},
                           {.fd = proxy->stop_fd, .events = POLLIN}};

    for (int turn = 0;; turn++) {
        if (poll(fds, 2, -1) > 0 && fds[1].revents != 0) {
            return NULL;
        }
        if (fds[0].revents != 0) {
            accept_one(proxy, proxy->groups[turn % LOOPS]);
        }
    }
}

static int parse_listen(const struct proxy_options *options, struct sockaddr_in *ret,
                        struct error *err)
{
    const char *colon = strrchr(options->listen, ':');
    char name[64];
    int port = 0;

    if (colon == NULL || (size_t)(colon - options->listen) >= sizeof(name) ||
        (strcmp(colon + 1, "0") != 0 && !route_parse_port(colon + 1, strlen(colon + 1), &port))) {
        return error_set(err, ERR_CONFIG, "%s: not an address:port", options->listen_name);
    }
    memcpy(name, options->listen, (size_t)(colon - options->listen));
    name[colon - options->listen] = '\0';
    *ret = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, name, &ret->sin_addr) != 1) {
        return error_set(err, ERR_CONFIG, "%s: %s is no IPv4 address", options->listen_name, name);
    }
    return 0;
}

static int open_listener(const struct proxy_options *options, struct error *err)
{
    struct sockaddr_in address;
    const int on = 1;

    if (parse_listen(options, &address, err) < 0) {
        return -1;
    }
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(fd, BACKLOG) < 0) {
        error_set_errno(err, ERR_CONFIG, errno, "%s: %s", options->listen_name, options->listen);
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    return fd;
}

static void free_proxy(struct proxy *proxy)
{
    for (int i = 0; i < LOOPS; i++) {
        connection_group_stop(proxy->groups[i]);
    }
    workers_free(proxy->shared.workers);
    if (proxy->listener >= 0) {
        close(proxy->listener);
    }
    if (proxy->stop_fd >= 0) {
        close(proxy->stop_fd);
    }
    free(proxy);
}

static int start_threads(struct proxy *proxy, struct error *err)
{
    int status;

    proxy->shared.workers = workers_new(WORKERS_MAX, PROXY_STACK_BYTES, err);
    if (proxy->shared.workers == NULL) {
        return -1;
    }
    for (int i = 0; i < LOOPS; i++) {
        proxy->groups[i] = connection_group_start(&proxy->shared, err);
        if (proxy->groups[i] == NULL) {
            return -1;
        }
    }
    status = pthread_create(&proxy->acceptor, NULL, accept_connections, proxy);
    return status == 0
               ? 0
               : error_set_errno(err, ERR_INTERNAL, status, "starting the proxy's listener");
}

struct proxy *proxy_start(const struct proxy_options *options, struct error *err)
{
    struct proxy *proxy = xcalloc(1, sizeof(*proxy));

    proxy->shared.options = *options;
    proxy->listener = open_listener(options, err);
    proxy->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (proxy->listener >= 0 && proxy->stop_fd < 0) {
        error_set_errno(err, ERR_INTERNAL, errno, "eventfd");
    } else if (proxy->listener >= 0 && start_threads(proxy, err) == 0) {
        return proxy;
    }
    free_proxy(proxy);
    return NULL;
}

int proxy_port(const struct proxy *proxy)
{
    struct sockaddr_in address = {.sin_port = 0};
    socklen_t bytes = sizeof(address);

    (void)getsockname(proxy->listener, (struct sockaddr *)&address, &bytes);
    return ntohs(address.sin_port);
}

int proxy_connections(const struct proxy *proxy)
{
    return atomic_load(&proxy->shared.count);
}

/* Threads that did not end in time use their proxy until the process ends. A leak checker finds it
 * only where it is stored. */
static struct proxy *volatile still_used;

void proxy_stop(struct proxy *proxy)
{
    const int64_t until_ms = clock_mono_ms() + STOP_MS;
    const uint64_t one = 1;

    if (proxy == NULL) {
        return;
    }
    if (write(proxy->stop_fd, &one, sizeof(one)) != sizeof(one)) {
        return; /* cannot be: the counter is far from its end */
    }
    pthread_join(proxy->acceptor, NULL);
    shutdown(proxy->listener, SHUT_RDWR);
    atomic_store(&proxy->shared.stopping, true);
    while (atomic_load(&proxy->shared.count) > 0 && clock_mono_ms() < until_ms) {
        clock_sleep_ms(10);
    }
    if (atomic_load(&proxy->shared.count) > 0) {
        still_used = proxy;
        return;
    }
    free_proxy(proxy);
}
