/* connection - see connection.h. */
#include "common/proxy/connection.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/proxy/error_answers.h"
#include "common/proxy/head.h"
#include "common/proxy/relay.h"
#include "common/proxy/tls.h"

enum {
    LINGER_MS = 1000,
    READ_BYTES = 16384,
    CROWDED_IDLE_MS = 1000, /* how long a connection may idle while most are taken */
};

struct client {
    struct connection *connection;
    const struct proxy_options *options;
    int fd;
    bool tls;
    struct strbuf ahead; /* read and not used yet */
};

/* ---- answers of the proxy itself ---- */

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

/* A client that does not take the answer within stall_timeout_ms loses it. */
static void send_answer(const struct client *client, struct strbuf *answer)
{
    (void)!send_all(client->fd, answer->data, answer->length);
    strbuf_done(answer);
}

static void answer_plain(const struct client *client, const char *head, int status,
                         const char *reason, const char *message)
{
    struct strbuf answer;

    strbuf_init(&answer, HEAD_MAX_BYTES);
    error_answer_plain(&answer, head, status, reason, message);
    send_answer(client, &answer);
}

/* Lets the client read the answer before the socket closes, though it may still be sending. */
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

/*
 * Reads until a head is whole; returns its length, or 0 at the end of the connection. A new
 * connection has head_timeout_ms for it; one that carried a request may idle first.
 */
static size_t read_head(struct client *client, bool first)
{
    const struct proxy_options *options = client->options;
    const bool crowded =
        atomic_load(client->connection->connections) > options->max_connections / 4 * 3;
    const int64_t idle_ms = first     ? options->head_timeout_ms
                            : crowded ? CROWDED_IDLE_MS
                                      : options->idle_timeout_ms;
    int64_t until_ms = clock_mono_ms() + idle_ms;
    bool begun = client->ahead.length > 0;
    char *piece = xmalloc(READ_BYTES);
    size_t length = head_length(client->ahead.data, client->ahead.length);

    while (length == 0 && client->ahead.length < HEAD_MAX_BYTES) {
        struct pollfd fds[] = {{.fd = client->fd, .events = POLLIN},
                               {.fd = client->connection->stop_fd, .events = POLLIN}};
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
            until_ms = clock_mono_ms() + options->head_timeout_ms;
        }
        length = head_length(client->ahead.data, client->ahead.length);
    }
    free(piece);
    if (length == 0 && client->ahead.length >= HEAD_MAX_BYTES) {
        answer_plain(client, "", 431, "Request Header Fields Too Large", "request head too large");
    }
    return length;
}

/* ---- one exchange ---- */

static enum relay_result relay(struct client *client, const struct proxy_request *request,
                               const struct proxy_target *target, int server)
{
    const struct relay_spec spec = {
        .client = client->fd,
        .server = server,
        .head = request->head,
        .edit = {.host = target->host[0] != '\0' ? target->host : NULL,
                 .path = target->path.length > 0 ? target->path.data : NULL,
                 .set = target->set_headers.length > 0 ? target->set_headers.data : NULL,
                 .drop = target->drop_headers},
        .ahead = &client->ahead,
        .keep_alive = head_keeps_alive(request->head),
        .cors_lines = target->cors ? error_answer_cors_lines(request->head) : "",
        .stall_ms = client->options->stall_timeout_ms,
    };

    return relay_exchange(&spec);
}

/* True: the connection may carry another request. `*ret_gone`: it is to be closed at once. */
static bool exchange(struct client *client, const struct proxy_request *request,
                     const struct proxy_target *target, bool *ret_gone)
{
    const struct proxy_callbacks *callbacks = &client->options->callbacks;
    struct strbuf answer;
    enum relay_result result;
    int server;

    strbuf_init(&answer, PROXY_ANSWER_BYTES);
    server = callbacks->connect(client->options->arg, request, target, &answer);
    if (server < 0) {
        send_answer(client, &answer);
        return false;
    }
    result = relay(client, request, target, server);
    close(server);
    if (result == RELAY_REFUSED) {
        answer_plain(client, request->head, 400, "Bad Request", "ambiguous body length");
    } else if (result == RELAY_UNANSWERED) {
        callbacks->unanswered(client->options->arg, request, target, &answer);
        send_answer(client, &answer);
        return false;
    }
    strbuf_done(&answer);
    *ret_gone = result == RELAY_ABORT;
    return result == RELAY_NEXT;
}

/* True: the connection may carry another request. `*ret_gone`: it is to be closed at once. */
static bool serve_request(struct client *client, const char *head, bool *ret_gone)
{
    const struct proxy_callbacks *callbacks = &client->options->callbacks;
    struct proxy_request request = {.head = head, .tls = client->tls};
    struct proxy_target *target = xcalloc(1, sizeof(*target));
    struct strbuf answer;
    bool more = false;

    memcpy(request.peer, client->connection->peer, sizeof(request.peer));
    strbuf_init(&answer, PROXY_ANSWER_BYTES);
    strbuf_init(&target->path, HEAD_MAX_BYTES);
    strbuf_init(&target->set_headers, HEAD_MAX_BYTES);
    if (callbacks->resolve(client->options->arg, &request, target, &answer) == PROXY_ANSWER) {
        send_answer(client, &answer);
    } else {
        strbuf_done(&answer);
        more = exchange(client, &request, target, ret_gone);
        if (callbacks->ended != NULL) {
            callbacks->ended(client->options->arg, target);
        }
    }
    strbuf_done(&target->path);
    strbuf_done(&target->set_headers);
    free(target);
    return more;
}

/* ---- the connection ---- */

static void set_stall(int fd, const struct proxy_options *options)
{
    const int64_t stall_ms = options->stall_timeout_ms;
    const struct timeval stall = {.tv_sec = stall_ms / 1000, .tv_usec = stall_ms % 1000 * 1000};

    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &stall, sizeof(stall));
}

/* A connection that begins with TLS is replaced by the plain one that it carries. False: it is
 * closed. */
static bool open_tls(struct client *client)
{
    const struct proxy_options *options = client->options;
    struct pollfd fds[] = {{.fd = client->fd, .events = POLLIN},
                           {.fd = client->connection->stop_fd, .events = POLLIN}};
    unsigned char first;

    if (poll(fds, 2, (int)options->head_timeout_ms) <= 0 || fds[1].revents != 0 ||
        recv(client->fd, &first, 1, MSG_PEEK) != 1) {
        close(client->fd);
        return false;
    }
    if (!tls_is_hello(first)) {
        return true;
    }
    client->fd =
        tls_accept(options->tls, client->fd, options->head_timeout_ms, options->stall_timeout_ms);
    client->tls = true;
    if (client->fd >= 0) {
        set_stall(client->fd, options);
    }
    return client->fd >= 0;
}

static bool serve_head(struct client *client, size_t length, bool *ret_gone)
{
    char *head = xstrndup(client->ahead.data, length);
    bool more = false;

    strbuf_consume(&client->ahead, length);
    if (client->connection->refused) {
        answer_plain(client, head, 503, "Service Unavailable", "too many connections");
    } else if (strlen(head) == length) {
        more = serve_request(client, head, ret_gone);
    } else {
        answer_plain(client, "", 400, "Bad Request", "NUL in the head");
    }
    free(head);
    return more;
}

void connection_run(struct connection *connection)
{
    struct client client = {
        .connection = connection, .options = connection->options, .fd = connection->fd};
    bool gone = false, more = true;

    set_stall(client.fd, client.options);
    if (!open_tls(&client)) {
        return;
    }
    strbuf_init(&client.ahead, RELAY_AHEAD_BYTES);
    for (bool first = true; more; first = false) {
        const size_t length = read_head(&client, first);

        if (length == 0) {
            gone = client.ahead.length == 0; /* between requests nothing is left to be read */
            break;
        }
        more = serve_head(&client, length, &gone);
    }
    if (gone) {
        close(client.fd);
    } else {
        close_gently(client.fd);
    }
    strbuf_done(&client.ahead);
}
