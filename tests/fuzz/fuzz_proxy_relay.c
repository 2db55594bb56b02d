/*
 * Fuzz target: a whole exchange through the proxy, over socket pairs. The input is a byte of
 * choices, the request's head and what follows it, and behind a line "===" what the server answers
 * before it hangs up. Whatever comes in: the exchange ends; what was relayed as complete is
 * complete by its own framing; a body that follows no request stays with the client's next one.
 */
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/proxy/head.h"
#include "common/proxy/relay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void send_bytes(int fd, const char *data, size_t length)
{
    /* far below what a socket pair holds */
    if (length > 0 && send(fd, data, length, MSG_NOSIGNAL) != (ssize_t)length) {
        abort();
    }
}

/* What the client got of an exchange after which its connection goes on. */
static void check_whole(int fd, const char *request)
{
    static char got[1 << 18];
    struct body_scan scan;
    size_t length = 0, head;
    ssize_t n;

    while ((n = recv(fd, got + length, sizeof(got) - 1 - length, MSG_DONTWAIT)) > 0) {
        length += (size_t)n;
    }
    const char *at = got;
    got[length] = '\0';
    for (;;) {
        char *text;
        head = head_length(at, length);
        if (head == 0) {
            abort();
        }
        text = strndup(at, head);
        if (text == NULL) {
            abort();
        }
        at += head;
        length -= head;
        const int status = head_status(text);
        body_scan_response(&scan, text, head_method_is(request, "HEAD"));
        free(text);
        if (status >= 200) {
            break;
        }
    }
    if (body_scan_feed(&scan, at, length) != length || scan.state != BODY_DONE) {
        abort();
    }
}

static void take_events(struct relay_ready *ready, short events)
{
    ready->ended |= (events & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
    ready->broken |= (events & (POLLHUP | POLLERR)) != 0;
    ready->in |= ready->ended || (events & POLLIN) != 0;
    ready->out |= (events & POLLOUT) != 0;
}

static enum relay_result exchange(struct relay *relay, const struct relay_spec *spec)
{
    struct relay_ready client = {.out = true}, server = {.out = true};
    enum relay_result result = RELAY_WAITS;

    for (int turn = 0; result == RELAY_WAITS || result == RELAY_MORE; turn++) {
        struct pollfd fds[2] = {{.fd = spec->client, .events = POLLIN | POLLOUT | POLLRDHUP},
                                {.fd = spec->server, .events = POLLIN | POLLOUT | POLLRDHUP}};

        if (poll(fds, 2, 0) < 0 || turn > 10000) {
            abort();
        }
        take_events(&client, fds[0].revents);
        take_events(&server, fds[1].revents);
        result = relay_run(relay, &client, &server);
        if (result == RELAY_WAITS && turn > 1000) {
            break; /* the request is not whole, and its client still there */
        }
    }
    return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int client[2], server[2];
    struct strbuf ahead;

    if (size < 1 || size > 16384) {
        return 0;
    }
    const char *text = (const char *)data + 1, *end = (const char *)data + size;
    const char *split = memmem(text, size - 1, "\n===\n", 5);
    const size_t request = split != NULL ? (size_t)(split - text) : size - 1;
    const char *answer = split != NULL ? split + 5 : end;
    const size_t length = head_length(text, request);
    if (length == 0 || memchr(text, '\0', length) != NULL) {
        return 0;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, client) != 0 ||
        socketpair(AF_UNIX, SOCK_STREAM, 0, server) != 0) {
        abort();
    }
    char *head = strndup(text, length);
    if (head == NULL) {
        abort();
    }
    /* some of the rest came with the head, some comes later */
    const size_t rest = request - length, early = rest * (data[0] % 5) / 4;
    strbuf_init(&ahead, RELAY_AHEAD_BYTES);
    strbuf_append(&ahead, text + length, early);
    send_bytes(client[1], text + length + early, rest - early);
    if (memmem(answer, (size_t)(end - answer), " 101", 4) != NULL) {
        shutdown(client[1], SHUT_WR); /* nothing else would end a tunnel */
    }
    send_bytes(server[1], answer, (size_t)(end - answer));
    shutdown(server[1], SHUT_WR);
    struct relay_buffers buffers = {.count = 0};
    const struct relay_spec spec = {
        .client = client[0],
        .server = server[0],
        .head = head,
        .ahead = &ahead,
        .keep_alive = head_keeps_alive(head),
        .keep_server = (data[0] & 0x40) != 0,
        .cors_lines = (data[0] & 0x80) != 0 ? "Access-Control-Allow-Origin: *\r\n" : "",
        .stall_ms = 1000,
        .buffers = &buffers,
    };
    struct relay *relay = relay_new(&spec);
    if (relay != NULL) {
        if (exchange(relay, &spec) == RELAY_NEXT) {
            check_whole(client[1], head);
        }
        if (relay_keeps_server(relay)) {
            abort(); /* this server has hung up */
        }
        relay_free(relay);
    }
    relay_buffers_done(&buffers);
    if (ahead.length > rest) {
        abort();
    }
    for (int i = 0; i < 2; i++) {
        close(client[i]);
        close(server[i]);
    }
    strbuf_done(&ahead);
    free(head);
    return 0;
}
