/* front - see front.h. */
#include "deploy/sandbox-host/front.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "deploy/sandbox-host/head.h"
#include "deploy/sandbox-host/sandbox.h"
#include "deploy/sandbox-host/spawn.h"

enum {
    BACKLOG = 1024,
    PIPE_BYTES = 65536,
    STACK_BYTES = 128 * 1024,
    ACCEPT_POLL_MS = 200,
    LINGER_MS = 1000
};

struct front {
    const struct host_config *config;
    int listener, api_port;
    pthread_t acceptor;
    _Atomic bool stopping;
    _Atomic int connections;
};

struct client {
    struct front *front;
    int fd;
};

/* ---- routing
 * ------------------------------------------------------------------------------------------ */

static bool valid_id(const char *id, size_t length)
{
    if (length == 0 || length >= 32) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        if (!islower((unsigned char)id[i]) && !isdigit((unsigned char)id[i])) {
            return false;
        }
    }
    return true;
}

static bool parse_port(const char *text, size_t length, int *ret)
{
    int port = 0;

    if (length == 0 || length > 5) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        if (!isdigit((unsigned char)text[i])) {
            return false;
        }
        port = port * 10 + (text[i] - '0');
    }
    *ret = port;
    return port >= 1 && port <= 65535;
}

/* "{port}-{id}.…" */
static bool parse_label(const char *host, struct front_target *ret)
{
    size_t digits = strspn(host, "0123456789");
    const char *id = host + digits + 1;
    size_t length;

    if (digits == 0 || host[digits] != '-') {
        return false;
    }
    length = strcspn(id, ".-:");
    if (id[length] != '.' || !valid_id(id, length) || !parse_port(host, digits, &ret->port)) {
        return false;
    }
    memcpy(ret->id, id, length);
    ret->id[length] = '\0';
    return true;
}

/* E2B honours the routing headers only on these names. */
static bool takes_headers(const char *host)
{
    size_t name = strcspn(host, ":");
    struct in_addr address;
    char text[64];

    if (name >= sizeof(text)) {
        return false;
    }
    memcpy(text, host, name);
    text[name] = '\0';
    return strcasecmp(text, "localhost") == 0 || strncasecmp(text, "sandbox.", 8) == 0 ||
           strchr(text, '.') == NULL || inet_pton(AF_INET, text, &address) == 1;
}

enum front_route front_route(const char *domain, const char *host, const char *id_header,
                             const char *port_header, struct front_target *ret)
{
    size_t id_bytes;

    (void)domain;
    if (host != NULL && parse_label(host, ret)) {
        return FRONT_SANDBOX;
    }
    if ((id_header == NULL && port_header == NULL) || host == NULL || !takes_headers(host)) {
        return FRONT_API;
    }
    if (id_header == NULL || port_header == NULL) {
        return FRONT_BAD;
    }
    id_bytes = strcspn(id_header, "-");
    if (!valid_id(id_header, id_bytes) ||
        !parse_port(port_header, strlen(port_header), &ret->port)) {
        return FRONT_BAD;
    }
    memcpy(ret->id, id_header, id_bytes);
    ret->id[id_bytes] = '\0';
    return FRONT_SANDBOX;
}

/* ---- answers of our own
 * ---------------------------------------------------------------------------------- */

static int send_all(int fd, const char *data, size_t length)
{
    while (length > 0) {
        ssize_t n = send(fd, data, length, MSG_NOSIGNAL);

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

/* Lets the client read the answer before the socket goes, though it may still be sending. */
static void close_gently(int fd)
{
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    int64_t until_ms = clock_mono_ms() + LINGER_MS;
    char waste[4096];

    shutdown(fd, SHUT_WR);
    while (clock_mono_ms() < until_ms && poll(&readable, 1, LINGER_MS) > 0 &&
           recv(fd, waste, sizeof(waste), 0) > 0) {}
    close(fd);
}

static void answer(int fd, int status, const char *reason, const char *type, const char *body)
{
    struct strbuf text;

    strbuf_init(&text, HEAD_MAX_BYTES);
    strbuf_printf(
        &text,
        "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
        status, reason, type, strlen(body), body);
    (void)!send_all(fd, text.data, text.length);
    strbuf_done(&text);
}

/* E2B sends people HTML and programs JSON. */
static bool wants_html(const char *head)
{
    static const char *const browsers[] = {"mozilla", "chrome", "safari", "firefox",
                                           "edge",    "opera",  "msie"};
    char agent[512], accept[512];

    if (head_value(head, "Accept", accept, sizeof(accept)) &&
        strcasestr(accept, "application/json") != NULL) {
        return false;
    }
    if (!head_value(head, "User-Agent", agent, sizeof(agent))) {
        return false;
    }
    for (size_t i = 0; i < sizeof(browsers) / sizeof(browsers[0]); i++) {
        if (strcasestr(agent, browsers[i]) != NULL) {
            return true;
        }
    }
    return false;
}

/* port 0: the sandbox is not there; else: it is, and nothing listens on the port. */
static void answer_502(int fd, const char *head, const struct front_target *target, int port)
{
    const char *message =
        port == 0 ? "The sandbox was not found" : "The sandbox is running but port is not open";
    char body[512], port_field[32] = "";

    if (wants_html(head)) {
        snprintf(body, sizeof(body),
                 "<!DOCTYPE html><html><head><title>502</title></head><body><h1>%s</h1><p>Sandbox "
                 "%s%s</p></body></html>\n",
                 port == 0 ? "Sandbox not found" : "Closed port", target->id,
                 port == 0 ? " is not running." : ": nothing listens on this port yet.");
        answer(fd, 502, "Bad Gateway", "text/html; charset=utf-8", body);
        return;
    }
    if (port != 0) {
        snprintf(port_field, sizeof(port_field), ",\"port\":%d", port);
    }
    snprintf(body, sizeof(body), "{\"sandboxId\":\"%s\",\"message\":\"%s\",\"code\":502%s}",
             target->id, message, port_field);
    answer(fd, 502, "Bad Gateway", "application/json; charset=utf-8", body);
}

/* ---- the relay
 * -------------------------------------------------------------------------------------------- */

struct direction {
    int from, to;
    char *data;
    size_t start, length;
    bool ended;  /* no more to read */
    bool closed; /* the end was passed on */
};

static int move_in(struct direction *d)
{
    ssize_t n = recv(d->from, d->data + d->start + d->length, PIPE_BYTES - d->start - d->length,
                     MSG_DONTWAIT);
    if (n > 0) {
        d->length += (size_t)n;
    } else if (n == 0) {
        d->ended = true;
    } else if (errno != EAGAIN && errno != EINTR) {
        return -1;
    }
    return 0;
}

static int move_out(struct direction *d)
{
    ssize_t n = send(d->to, d->data + d->start, d->length, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n > 0) {
        d->start += (size_t)n;
        d->length -= (size_t)n;
        if (d->length == 0) {
            d->start = 0; /* the whole buffer is room again */
        }
    } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
        return -1;
    }
    return 0;
}

/* Whether the response's head has been passed on, changed to end the connection. */
struct answer_head {
    bool done;
};

/* Holds the response back until its head is whole, then rewrites it. 1xx heads go as they are. */
static int pass_head(struct direction *down, struct answer_head *state, bool upgraded)
{
    while (!state->done) {
        size_t length = head_length(down->data + down->start, down->length);
        struct strbuf head;
        char *text;
        int status;

        if (length == 0) {
            if (down->ended || down->length >= PIPE_BYTES / 2) {
                state->done = true; /* not HTTP: leave it alone */
            }
            return state->done ? 0 : 1;
        }
        text = xstrndup(down->data + down->start, length);
        status = head_status(text);
        strbuf_init(&head, HEAD_MAX_BYTES);
        head_rewrite(text,
                     status == 101 && upgraded       ? NULL
                     : status >= 100 && status < 200 ? NULL
                                                     : "close",
                     &head);
        free(text);
        if (send_all(down->to, head.data, head.length) < 0) {
            strbuf_done(&head);
            return -1;
        }
        strbuf_done(&head);
        down->start += length;
        down->length -= length;
        if (down->length == 0) {
            down->start = 0;
        }
        state->done = status < 100 || status >= 200 || status == 101;
    }
    return 0;
}

struct exchange {
    struct direction up, down; /* client -> inside, inside -> client */
    struct body_scan body;
    bool upgraded;
    struct answer_head answered;
};

/* Only this request's body goes up: what follows belongs to no request we have looked at. */
static void bound_body(struct exchange *x, size_t fresh_at)
{
    size_t taken;

    if (x->upgraded) {
        return;
    }
    taken = body_scan_feed(&x->body, x->up.data + fresh_at, x->up.start + x->up.length - fresh_at);
    x->up.length = fresh_at + taken - x->up.start;
}

static bool wants_more(const struct exchange *x)
{
    return !x->up.ended && x->up.start + x->up.length < PIPE_BYTES &&
           (x->upgraded || (x->body.state != BODY_DONE && x->body.state != BODY_BROKEN));
}

static int relay_turn(struct exchange *x)
{
    struct pollfd fds[2] = {{.fd = x->up.from}, {.fd = x->down.from}};
    bool hold = !x->answered.done;

    fds[0].events = (short)((wants_more(x) ? POLLIN : 0) |
                            (x->down.length > 0 && !hold ? POLLOUT : 0) | POLLRDHUP);
    fds[1].events =
        (short)((!x->down.ended && x->down.start + x->down.length < PIPE_BYTES ? POLLIN : 0) |
                (x->up.length > 0 ? POLLOUT : 0));
    if (x->up.ended) {
        fds[0].events &= (short)~(POLLRDHUP);
    }
    if (poll(fds, 2, -1) < 0 && errno != EINTR) {
        return -1;
    }
    /* a client that went away entirely takes its exchange with it; a half-closed one may still read
     */
    if ((fds[0].revents & (POLLERR | POLLHUP)) != 0) {
        return -1;
    }
    if ((fds[0].revents & POLLIN) != 0) {
        size_t fresh_at = x->up.start + x->up.length;

        if (move_in(&x->up) < 0) {
            return -1;
        }
        bound_body(x, fresh_at);
    } else if ((fds[0].revents & POLLRDHUP) != 0) {
        x->up.ended = true;
    }
    if (x->up.length > 0 && move_out(&x->up) < 0) {
        return -1;
    }
    if (x->up.length == 0 && x->up.ended && !x->up.closed && x->upgraded) {
        shutdown(x->up.to, SHUT_WR);
        x->up.closed = true;
    }
    if ((fds[1].revents & (POLLIN | POLLHUP | POLLERR)) != 0 && !x->down.ended &&
        move_in(&x->down) < 0) {
        return -1;
    }
    if (hold) {
        int status = pass_head(&x->down, &x->answered, x->upgraded);

        if (status < 0) {
            return -1;
        }
    }
    if (x->answered.done && x->down.length > 0 && move_out(&x->down) < 0) {
        return -1;
    }
    return x->down.ended && x->down.length == 0 ? 1 : 0;
}

/* Relays one exchange whose head is read; `rest` is what came behind it. */
static void relay(int client, int inside, const char *head, const char *rest, size_t rest_bytes)
{
    struct exchange x = {.up = {.from = client, .to = inside},
                         .down = {.from = inside, .to = client}};
    char upgrade[64];
    struct strbuf changed;

    x.upgraded = head_value(head, "Upgrade", upgrade, sizeof(upgrade));
    if (!body_scan_init(&x.body, head)) {
        answer(client, 400, "Bad Request", "application/json",
               "{\"code\":400,\"message\":\"ambiguous body length\"}");
        return;
    }
    x.up.data = xmalloc(PIPE_BYTES);
    x.down.data = xmalloc(PIPE_BYTES);
    strbuf_init(&changed, HEAD_MAX_BYTES * 2);
    head_rewrite(head, x.upgraded ? NULL : "close", &changed);
    if (send_all(inside, changed.data, changed.length) == 0) {
        memcpy(x.up.data, rest, rest_bytes);
        x.up.length = rest_bytes;
        bound_body(&x, 0);
        while (relay_turn(&x) == 0) {}
    }
    strbuf_done(&changed);
    free(x.up.data);
    free(x.down.data);
}

/* ---- one client
 * -----------------------------------------------------------------------------------------------
 */

static int connect_api(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        close(fd);
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

/* Reads until the head is whole. Returns its length, or 0. */
static size_t read_head(const struct client *client, char *data, size_t *ret_bytes)
{
    int64_t until_ms = clock_mono_ms() + client->front->config->head_timeout_ms;
    struct pollfd readable = {.fd = client->fd, .events = POLLIN};

    *ret_bytes = 0;
    while (*ret_bytes < HEAD_MAX_BYTES) {
        int64_t left_ms = until_ms - clock_mono_ms();
        size_t length;
        ssize_t n;

        if (left_ms <= 0 || poll(&readable, 1, (int)left_ms) <= 0) {
            return 0;
        }
        n = recv(client->fd, data + *ret_bytes, HEAD_MAX_BYTES - *ret_bytes, 0);
        if (n <= 0) {
            return 0;
        }
        *ret_bytes += (size_t)n;
        length = head_length(data, *ret_bytes);
        if (length > 0) {
            return length;
        }
    }
    answer(client->fd, 431, "Request Header Fields Too Large", "application/json",
           "{\"code\":431,\"message\":\"request head too large\"}");
    return 0;
}

/* A socket into the sandbox, or -1 with the client answered. */
static int connect_sandbox(const struct client *client, const char *head,
                           const struct front_target *target)
{
    struct error err = ERROR_INIT;
    int fd;

    if (box_touch(target->id, &err) < 0) {
        answer_502(client->fd, head, target, 0);
        return -1;
    }
    fd = spawn_connect(target->id, target->port, &err);
    if (fd < 0) {
        answer_502(client->fd, head, target, err.code == ERR_CONFLICT ? target->port : 0);
    }
    return fd;
}

static void serve_client(const struct client *client, char *data)
{
    char host[256], id[64], port[16], *head;
    struct front_target target;
    size_t bytes, length = read_head(client, data, &bytes);
    bool has_host, has_id, has_port;
    int inside = -1;

    if (length == 0) {
        return;
    }
    head = xstrndup(data, length);
    if (strlen(head) != length) {
        answer(client->fd, 400, "Bad Request", "application/json",
               "{\"code\":400,\"message\":\"NUL in the head\"}");
        free(head);
        return;
    }
    has_host = head_value(head, "Host", host, sizeof(host));
    has_id = head_value(head, "E2b-Sandbox-Id", id, sizeof(id));
    has_port = head_value(head, "E2b-Sandbox-Port", port, sizeof(port));
    switch (front_route(client->front->config->domain, has_host ? host : NULL, has_id ? id : NULL,
                        has_port ? port : NULL, &target)) {
    case FRONT_API:
        inside = connect_api(client->front->api_port);
        if (inside < 0) {
            answer(client->fd, 503, "Service Unavailable", "application/json",
                   "{\"code\":503,\"message\":\"stopping\"}");
        }
        break;
    case FRONT_SANDBOX:
        inside = connect_sandbox(client, head, &target);
        break;
    case FRONT_BAD:
        answer(client->fd, 400, "Bad Request", "text/plain", "invalid sandbox routing headers\n");
        break;
    }
    if (inside >= 0) {
        relay(client->fd, inside, head, data + length, bytes - length);
        close(inside);
    }
    free(head);
}

static void *run_client(void *arg)
{
    struct client *client = arg;
    char *data = xmalloc(HEAD_MAX_BYTES);

    serve_client(client, data);
    close_gently(client->fd);
    atomic_fetch_sub(&client->front->connections, 1);
    free(data);
    free(client);
    return NULL;
}

/* ---- listening
 * ----------------------------------------------------------------------------------------------------
 */

static void accept_one(struct front *front, const pthread_attr_t *attributes)
{
    struct client *client;
    pthread_t thread;
    int fd = accept4(front->listener, NULL, NULL, SOCK_CLOEXEC), on = 1;

    if (fd < 0) {
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (atomic_fetch_add(&front->connections, 1) >= front->config->max_connections) {
        answer(fd, 503, "Service Unavailable", "application/json",
               "{\"code\":503,\"message\":\"too many connections\"}");
        atomic_fetch_sub(&front->connections, 1);
        close(fd);
        return;
    }
    client = xcalloc(1, sizeof(*client));
    client->front = front;
    client->fd = fd;
    if (pthread_create(&thread, attributes, run_client, client) != 0) {
        atomic_fetch_sub(&front->connections, 1);
        close(fd);
        free(client);
    }
}

static void *accept_clients(void *arg)
{
    struct front *front = arg;
    struct pollfd readable = {.fd = front->listener, .events = POLLIN};
    pthread_attr_t attributes;

    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    while (!atomic_load(&front->stopping)) {
        if (poll(&readable, 1, ACCEPT_POLL_MS) > 0) {
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
    int fd, on = 1, port;

    if (colon == NULL || (size_t)(colon - listen_on) >= sizeof(name) ||
        !parse_port(colon + 1, strlen(colon + 1), &port)) {
        return error_set(err, ERR_CONFIG, "SANDBOX_HOST_LISTEN: not an address:port");
    }
    memcpy(name, listen_on, (size_t)(colon - listen_on));
    name[colon - listen_on] = '\0';
    address.sin_port = htons((uint16_t)port);
    if (inet_pton(AF_INET, name, &address.sin_addr) != 1) {
        return error_set(err, ERR_CONFIG, "SANDBOX_HOST_LISTEN: %s is no IPv4 address", name);
    }
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
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
    int status;

    front->config = config;
    front->api_port = api_port;
    front->listener = open_listener(config->listen, err);
    if (front->listener < 0) {
        free(front);
        return NULL;
    }
    status = pthread_create(&front->acceptor, NULL, accept_clients, front);
    if (status != 0) {
        error_set_errno(err, ERR_INTERNAL, status, "starting the listener");
        close(front->listener);
        free(front);
        return NULL;
    }
    return front;
}

void front_stop(struct front *front)
{
    int64_t until_ms = clock_mono_ms() + LINGER_MS;

    if (front == NULL) {
        return;
    }
    atomic_store(&front->stopping, true);
    pthread_join(front->acceptor, NULL);
    close(front->listener);
    /* sandboxes are gone, so relays end by themselves; what is left dies with the process */
    while (atomic_load(&front->connections) > 0 && clock_mono_ms() < until_ms) {
        clock_sleep_ms(10);
    }
    if (atomic_load(&front->connections) == 0) {
        free(front);
    }
}
