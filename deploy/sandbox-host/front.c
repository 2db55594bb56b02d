/* front - see front.h. */
#include "deploy/sandbox-host/front.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "deploy/sandbox-host/head.h"
#include "deploy/sandbox-host/isolation/spawn.h"
#include "deploy/sandbox-host/pass.h"
#include "deploy/sandbox-host/refuse.h"
#include "deploy/sandbox-host/route.h"
#include "deploy/sandbox-host/sandbox/sandbox.h"
#include "deploy/sandbox-host/tls.h"

enum {
    BACKLOG = 1024,
    STACK_BYTES = 128 * 1024,
    LINGER_MS = 1000,
    STOP_MS = 1000,
    READ_BYTES = 16384,
    BUSY_IDLE_MS = 1000, /* how long a connection may idle while most are taken */
    REFUSED_MAX = 64,    /* connections above the limit that are told so; more are just closed */
};

struct front {
    const struct host_config *config;
    int listener, api_port;
    int stop_fd; /* readable once the front stops */
    pthread_t acceptor;
    _Atomic int connections;
};

struct client {
    struct front *front;
    int fd;
    bool above_limit;    /* only to be told so */
    struct strbuf ahead; /* read and not used yet */
};

/* ---- answers of our own ---- */

static int send_all(int fd, const char *data, size_t length)
{
    while (length > 0) {
        const ssize_t n = send(fd, data, length, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return -1;
        }
        data += n;
        length -= (size_t)n;
    }
    return 0;
}

/* Sends a whole answer and frees it. A client that does not take it has itself to blame. */
static void send_answer(int fd, struct strbuf *answer)
{
    (void)!send_all(fd, answer->data, answer->length);
    strbuf_done(answer);
}

static void answer_plain(int fd, const char *head, int status, const char *reason,
                         const char *message)
{
    struct strbuf answer;

    strbuf_init(&answer, HEAD_MAX_BYTES);
    refuse_plain(&answer, head, status, reason, message);
    send_answer(fd, &answer);
}

static void answer_refusal(int fd, const char *head, const struct route_target *target,
                           enum refusal why)
{
    struct strbuf answer;

    strbuf_init(&answer, HEAD_MAX_BYTES);
    refuse_sandbox(&answer, head, target, why);
    send_answer(fd, &answer);
}

/* Lets the client read the answer before the socket goes, though it may still be sending. */
static void close_gently(int fd)
{
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    const int64_t until_ms = clock_mono_ms() + LINGER_MS;
    char waste[4096];

    shutdown(fd, SHUT_WR);
    while (clock_mono_ms() < until_ms && poll(&readable, 1, LINGER_MS) > 0 &&
           recv(fd, waste, sizeof(waste), MSG_DONTWAIT) > 0) {}
    close(fd);
}

/* ---- the way in ---- */

static int connect_api(int port)
{
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)port),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        close(fd);
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

/* A socket into the sandbox, and what its server is told as Host ("" = what the client said); or -1
 * with the client answered. */
static int connect_sandbox(int fd, const char *head, const struct route_target *target,
                           char ret_host[ROUTE_MASK_BYTES])
{
    char access[128], traffic[128];
    const bool has_access = head_value(head, "X-Access-Token", access, sizeof(access));
    const bool has_traffic = head_value(head, REFUSE_TOKEN_HEADER, traffic, sizeof(traffic));
    struct error err = ERROR_INIT;

    if (box_admit(target->id, target->port, has_access ? access : NULL,
                  has_traffic ? traffic : NULL, ret_host, &err) < 0) {
        answer_refusal(fd, head, target,
                       err.code == ERR_TOKEN_MISSING     ? REFUSE_TOKEN_MISSING
                       : err.code == ERR_TOKEN_SIGNATURE ? REFUSE_TOKEN_WRONG
                                                         : REFUSE_NOT_FOUND);
        return -1;
    }
    const int inside = spawn_connect(target->id, target->port, &err);
    if (inside < 0) {
        answer_refusal(fd, head, target,
                       err.code == ERR_CONFLICT ? REFUSE_PORT_CLOSED : REFUSE_NOT_FOUND);
    }
    return inside;
}

/* The sandbox whose token signed a file URL. */
static bool find_signer(const struct route_signed *url, struct route_target *ret)
{
    struct box_view *boxes = NULL;
    size_t count = 0;
    bool found = false;

    box_list(&boxes, &count);
    for (size_t i = 0; i < count; i++) {
        if (!found && boxes[i].token[0] != '\0' && route_signed_matches(url, boxes[i].token)) {
            found = true;
            snprintf(ret->id, sizeof(ret->id), "%s", boxes[i].id);
            ret->port = ROUTE_ENVD_PORT;
        }
        box_view_done(&boxes[i]);
    }
    free(boxes);
    return found;
}

/* A request that names no sandbox: the API's, unless it is a signed file URL. */
static enum route_kind find_nameless(const struct client *client, const char *head,
                                     struct route_target *ret)
{
    enum route_kind kind = ROUTE_API;

    if (strstr(head, "signature=") == NULL) {
        return kind;
    }
    struct route_signed *url = xmalloc(sizeof(*url));
    char *path = xmalloc(HEAD_MAX_BYTES), *query = xmalloc(HEAD_MAX_BYTES);
    const char *method = head_method_is(head, "POST")   ? "POST"
                         : head_method_is(head, "GET")  ? "GET"
                         : head_method_is(head, "HEAD") ? "HEAD"
                                                        : "";
    if (head_target(head, path, HEAD_MAX_BYTES, query, HEAD_MAX_BYTES) &&
        route_signed_parse(method, path, query, url)) {
        kind = find_signer(url, ret) ? ROUTE_SANDBOX : ROUTE_BAD;
        if (kind == ROUTE_BAD) {
            answer_plain(client->fd, head, 401, "Unauthorized", "invalid signature");
        }
    }
    free(url);
    free(path);
    free(query);
    return kind;
}

/* ROUTE_BAD: answered. */
static enum route_kind find_target(const struct client *client, const char *head,
                                   struct route_target *ret)
{
    char host[256], id[64], port[16];
    const bool has_host = head_value(head, "Host", host, sizeof(host));
    const bool has_id = head_value(head, "E2b-Sandbox-Id", id, sizeof(id));
    const bool has_port = head_value(head, "E2b-Sandbox-Port", port, sizeof(port));
    const enum route_kind kind =
        route_request(has_host ? host : NULL, has_id ? id : NULL, has_port ? port : NULL, ret);

    if (kind == ROUTE_BAD) {
        answer_plain(client->fd, head, 400, "Bad Request", "invalid sandbox routing headers");
    }
    return kind == ROUTE_API ? find_nameless(client, head, ret) : kind;
}

/* ---- one client ---- */

/*
 * A client without TCP_NODELAY that sends head and body apart holds the body back until the head is
 * acknowledged, which the kernel of a connection in use delays by 40 ms (tcp(7), TCP_QUICKACK).
 */
static void acknowledge(int fd)
{
    const int on = 1;

    (void)setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
}

/*
 * Reads until a head is whole; returns its length, or 0 at the end of the connection. A new
 * connection has head_timeout_ms for it; one that carried a request may idle first.
 */
static size_t read_head(struct client *client, bool first)
{
    const struct host_config *config = client->front->config;
    const bool busy = atomic_load(&client->front->connections) > config->max_connections / 4 * 3;
    const int64_t idle_ms = first  ? config->head_timeout_ms
                            : busy ? BUSY_IDLE_MS
                                   : config->idle_timeout_ms;
    int64_t until_ms = clock_mono_ms() + idle_ms;
    bool begun = client->ahead.length > 0;
    char *piece = xmalloc(READ_BYTES);
    size_t length = head_length(client->ahead.data, client->ahead.length);

    while (length == 0 && client->ahead.length < HEAD_MAX_BYTES) {
        struct pollfd fds[] = {{.fd = client->fd, .events = POLLIN},
                               {.fd = client->front->stop_fd, .events = POLLIN}};
        const int64_t left_ms = until_ms - clock_mono_ms();

        if (left_ms <= 0 || poll(fds, 2, (int)left_ms) <= 0 || fds[1].revents != 0) {
            break;
        }
        const ssize_t n = recv(client->fd, piece, READ_BYTES, 0);
        if (n <= 0 || strbuf_append(&client->ahead, piece, (size_t)n) != 0) {
            break;
        }
        acknowledge(client->fd);
        if (!begun) {
            begun = true;
            until_ms = clock_mono_ms() + config->head_timeout_ms;
        }
        length = head_length(client->ahead.data, client->ahead.length);
    }
    free(piece);
    if (length == 0 && client->ahead.length >= HEAD_MAX_BYTES) {
        answer_plain(client->fd, "", 431, "Request Header Fields Too Large",
                     "request head too large");
    }
    return length;
}

/* Serves one request. True: the connection may carry another. `*ret_gone`: it is over as it is. */
static bool serve_request(struct client *client, const char *head, bool *ret_gone)
{
    struct route_target target = {.port = 0};
    char host[ROUTE_MASK_BYTES];
    struct pass_spec spec = {.client = client->fd,
                             .head = head,
                             .ahead = &client->ahead,
                             .keep_alive = head_keeps_alive(head),
                             .cors_lines = "",
                             .stall_ms = client->front->config->stall_timeout_ms};
    const enum route_kind kind = find_target(client, head, &target);

    if (kind == ROUTE_BAD) {
        return false;
    }
    if (kind == ROUTE_API || target.port == ROUTE_ENVD_PORT) {
        /* as E2B's API and envd, for programs that run in a page */
        if (refuse_is_preflight(head)) {
            struct strbuf answer;
            strbuf_init(&answer, HEAD_MAX_BYTES);
            refuse_answer_preflight(&answer, head);
            send_answer(client->fd, &answer);
            return false;
        }
        spec.cors_lines = refuse_cors_lines(head);
    }
    if (kind == ROUTE_API) {
        spec.inside = connect_api(client->front->api_port);
        if (spec.inside < 0) {
            answer_plain(client->fd, head, 503, "Service Unavailable", "stopping");
            return false;
        }
    } else {
        spec.inside = connect_sandbox(client->fd, head, &target, host);
        if (spec.inside < 0) {
            return false;
        }
        spec.host = host[0] != '\0' ? host : NULL;
    }
    const enum pass_result result = pass_exchange(&spec);
    close(spec.inside);
    switch (result) {
    case PASS_NEXT:
        return true;
    case PASS_CLOSE:
        return false;
    case PASS_ABORT:
        *ret_gone = true;
        return false;
    case PASS_REFUSED:
        answer_plain(client->fd, head, 400, "Bad Request", "ambiguous body length");
        return false;
    case PASS_UNANSWERED:
        break;
    }
    struct error err = ERROR_INIT;
    struct box_view view;
    if (kind == ROUTE_API) {
        answer_plain(client->fd, head, 503, "Service Unavailable", "stopping");
    } else {
        /* it may be the sandbox that ended, or the server in it */
        const bool there = box_get(target.id, &view, &err) == 0;

        answer_refusal(client->fd, head, &target,
                       there && view.state == BOX_RUNNING ? REFUSE_PORT_CLOSED : REFUSE_NOT_FOUND);
        if (there) {
            box_view_done(&view);
        }
    }
    return false;
}

static void set_stall(int fd, const struct host_config *config)
{
    const int64_t stall_ms = config->stall_timeout_ms;
    const struct timeval stall = {.tv_sec = stall_ms / 1000, .tv_usec = stall_ms % 1000 * 1000};

    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &stall, sizeof(stall));
}

/* A connection that begins with TLS becomes the plain one inside it. False: it is closed. */
static bool open_tls(struct client *client)
{
    const struct host_config *config = client->front->config;
    struct pollfd fds[] = {{.fd = client->fd, .events = POLLIN},
                           {.fd = client->front->stop_fd, .events = POLLIN}};
    unsigned char first;

    if (poll(fds, 2, (int)config->head_timeout_ms) <= 0 || fds[1].revents != 0 ||
        recv(client->fd, &first, 1, MSG_PEEK) != 1) {
        close(client->fd);
        return false;
    }
    if (!tls_is_hello(first)) {
        return true;
    }
    client->fd = tls_accept(client->fd, config->head_timeout_ms, config->stall_timeout_ms);
    if (client->fd >= 0) {
        set_stall(client->fd, config);
    }
    return client->fd >= 0;
}

static void *run_client(void *arg)
{
    struct client *client = arg;
    bool more = open_tls(client), gone = !more;
    const bool open = more;

    for (bool first = true; more; first = false) {
        const size_t length = read_head(client, first);
        if (length == 0) {
            gone = client->ahead.length == 0; /* between requests nothing is left to be read */
            break;
        }
        char *head = xstrndup(client->ahead.data, length);
        strbuf_consume(&client->ahead, length);
        if (client->above_limit) {
            answer_plain(client->fd, head, 503, "Service Unavailable", "too many connections");
            more = false;
        } else if (strlen(head) == length) {
            more = serve_request(client, head, &gone);
        } else {
            answer_plain(client->fd, "", 400, "Bad Request", "NUL in the head");
            more = false;
        }
        free(head);
    }
    if (open && gone) {
        close(client->fd);
    } else if (open) {
        close_gently(client->fd);
    }
    atomic_fetch_sub(&client->front->connections, 1);
    strbuf_done(&client->ahead);
    free(client);
    return NULL;
}

/* ---- listening ---- */

static void accept_one(struct front *front, const pthread_attr_t *attributes)
{
    const int fd = accept4(front->listener, NULL, NULL, SOCK_CLOEXEC), on = 1;
    pthread_t thread;

    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE) {
            clock_sleep_ms(10); /* the backlog stays readable: no busy loop */
        }
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    set_stall(fd, front->config);
    const int64_t before = atomic_fetch_add(&front->connections, 1);
    if (before >= front->config->max_connections + REFUSED_MAX) {
        atomic_fetch_sub(&front->connections, 1);
        close(fd);
        return;
    }
    struct client *client = xcalloc(1, sizeof(*client));
    client->front = front;
    client->fd = fd;
    client->above_limit = before >= front->config->max_connections;
    strbuf_init(&client->ahead, PASS_AHEAD_BYTES);
    if (pthread_create(&thread, attributes, run_client, client) != 0) {
        atomic_fetch_sub(&front->connections, 1);
        close(fd);
        strbuf_done(&client->ahead);
        free(client);
    }
}

static void *accept_clients(void *arg)
{
    struct front *front = arg;
    struct pollfd fds[] = {{.fd = front->listener, .events = POLLIN},
                           {.fd = front->stop_fd, .events = POLLIN}};
    pthread_attr_t attributes;

    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    for (;;) {
        if (poll(fds, 2, -1) > 0 && fds[1].revents != 0) {
            break;
        }
        if (fds[0].revents != 0) {
            accept_one(front, &attributes);
        }
    }
    pthread_attr_destroy(&attributes);
    return NULL;
}

static int open_listener(const char *listen_on, struct error *err)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    const char *colon = strrchr(listen_on, ':');
    char name[64];
    int on = 1, port;

    if (colon == NULL || (size_t)(colon - listen_on) >= sizeof(name) ||
        !route_parse_port(colon + 1, strlen(colon + 1), &port)) {
        return error_set(err, ERR_CONFIG, "SANDBOX_HOST_LISTEN: not an address:port");
    }
    memcpy(name, listen_on, (size_t)(colon - listen_on));
    name[colon - listen_on] = '\0';
    address.sin_port = htons((uint16_t)port);
    if (inet_pton(AF_INET, name, &address.sin_addr) != 1) {
        return error_set(err, ERR_CONFIG, "SANDBOX_HOST_LISTEN: %s is no IPv4 address", name);
    }
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(fd, BACKLOG) < 0) {
        error_set_errno(err, ERR_CONFIG, errno, "SANDBOX_HOST_LISTEN: %s", listen_on);
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    return fd;
}

struct front *front_start(const struct host_config *config, int api_port, struct error *err)
{
    struct front *front = xcalloc(1, sizeof(*front));

    front->config = config;
    front->api_port = api_port;
    front->stop_fd = -1;
    front->listener = open_listener(config->listen, err);
    if (front->listener < 0) {
        goto failed;
    }
    front->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (front->stop_fd < 0) {
        error_set_errno(err, ERR_INTERNAL, errno, "eventfd");
        goto failed;
    }
    const int status = pthread_create(&front->acceptor, NULL, accept_clients, front);
    if (status == 0) {
        return front;
    }
    error_set_errno(err, ERR_INTERNAL, status, "starting the listener");
failed:
    if (front->listener >= 0) {
        close(front->listener);
    }
    if (front->stop_fd >= 0) {
        close(front->stop_fd);
    }
    free(front);
    return NULL;
}

/* Threads that did not end in time use it until the process does. Volatile, for nobody reads it and
 * a leak checker finds it only if it is stored. */
static struct front *volatile still_used;

void front_stop(struct front *front)
{
    const int64_t until_ms = clock_mono_ms() + STOP_MS;
    const uint64_t one = 1;

    if (front == NULL) {
        return;
    }
    if (write(front->stop_fd, &one, sizeof(one)) != sizeof(one)) {
        return; /* cannot be: the counter is far from its end */
    }
    pthread_join(front->acceptor, NULL);
    close(front->listener);
    /* sandboxes are gone, so exchanges end by themselves; what is left dies with the process */
    while (atomic_load(&front->connections) > 0 && clock_mono_ms() < until_ms) {
        clock_sleep_ms(10);
    }
    if (atomic_load(&front->connections) > 0) {
        still_used = front;
        return;
    }
    close(front->stop_fd);
    free(front);
}
