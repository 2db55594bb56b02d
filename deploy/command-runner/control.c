/* control - see control.h. */
#include "deploy/command-runner/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "deploy/command-runner/place.h"

enum { LINE_MAX_BYTES = 128, ASK_TIMEOUT_S = 5 };

static struct sockaddr_un address_of(const char *id)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char path[PLACE_BYTES];

    place_path(path, id, "ctl");
    (void)str_copy(address.sun_path, sizeof(address.sun_path), path);
    return address;
}

int control_open(struct control *control, const char *id)
{
    const struct sockaddr_un address = address_of(id);

    for (int i = 0; i < CONTROL_CLIENTS; i++) {
        control->clients[i] = (struct control_client){.fd = -1};
    }
    control->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (control->listen_fd >= 0 &&
        (bind(control->listen_fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
         listen(control->listen_fd, CONTROL_CLIENTS) < 0)) {
        close(control->listen_fd);
        control->listen_fd = -1;
    }
    return control->listen_fd < 0 ? -1 : 0;
}

static void hang_up(struct control_client *client)
{
    if (client->fd >= 0) {
        close(client->fd);
    }
    free(client->bytes);
    *client = (struct control_client){.fd = -1};
}

void control_close(struct control *control)
{
    for (int i = 0; i < CONTROL_CLIENTS; i++) {
        hang_up(&control->clients[i]);
    }
    if (control->listen_fd >= 0) {
        close(control->listen_fd);
    }
    control->listen_fd = -1;
}

int control_poll(const struct control *control, struct pollfd *ret)
{
    bool room = false;
    int count = 0;

    for (int i = 0; i < CONTROL_CLIENTS; i++) {
        if (control->clients[i].fd >= 0) {
            ret[count++] = (struct pollfd){.fd = control->clients[i].fd, .events = POLLIN};
        } else {
            room = true;
        }
    }
    if (room && control->listen_fd >= 0) {
        ret[count++] = (struct pollfd){.fd = control->listen_fd, .events = POLLIN};
    }
    return count;
}

static void accept_clients(struct control *control)
{
    for (int i = 0; i < CONTROL_CLIENTS && control->listen_fd >= 0; i++) {
        if (control->clients[i].fd < 0) {
            control->clients[i].fd =
                accept4(control->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
            if (control->clients[i].fd < 0) {
                return;
            }
        }
    }
}

/* 1 = whole, 0 = more is to come, -1 = nonsense */
static int parse(const struct control_client *client, struct control_request *ret)
{
    const char *end = memchr(client->bytes, '\n', client->used);
    char line[LINE_MAX_BYTES];
    size_t length = end != NULL ? (size_t)(end - client->bytes) : client->used;

    if (length >= sizeof(line)) {
        return -1;
    }
    if (end == NULL) {
        return 0;
    }
    memcpy(line, client->bytes, length);
    line[length] = '\0';
    *ret = (struct control_request){.verb = line[0], .data = end + 1};
    (void)sscanf(line + (length > 0), "%lld %lld %lld", &ret->first, &ret->second, &ret->third);
    if (ret->verb == 'I') {
        if (ret->second < 0 || ret->second > CONTROL_DATA_MAX_BYTES) {
            return -1;
        }
        ret->bytes = (size_t)ret->second;
    }
    return client->used - length - 1 >= ret->bytes ? 1 : 0;
}

static void take(struct control_client *client, control_fn handle, void *arg)
{
    for (;;) {
        struct control_request request;
        char answer[CONTROL_ANSWER_BYTES + 1] = "no such request";
        ssize_t got;
        int whole;

        if (client->used == client->room) {
            client->room = client->room > 0 ? client->room * 2 : 4096;
            client->bytes = xrealloc(client->bytes, client->room);
        }
        got = read(client->fd, client->bytes + client->used, client->room - client->used);
        if (got < 0 && errno == EAGAIN) {
            return;
        }
        if (got <= 0) {
            break;
        }
        client->used += (size_t)got;
        whole = parse(client, &request);
        if (whole == 0) {
            continue;
        }
        if (whole > 0) {
            handle(arg, &request, answer);
            size_t length = strlen(answer);

            answer[length++] = '\n'; /* in place of the NUL: handlers leave room */
            (void)send(client->fd, answer, length, MSG_NOSIGNAL);
        }
        break;
    }
    hang_up(client);
}

void control_serve(struct control *control, control_fn handle, void *arg)
{
    for (int i = 0; i < CONTROL_CLIENTS; i++) {
        if (control->clients[i].fd >= 0) {
            take(&control->clients[i], handle, arg);
        }
    }
    accept_clients(control);
}

static int send_all(int fd, const char *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t sent = send(fd, data, bytes, MSG_NOSIGNAL);

        if (sent <= 0) {
            return -1;
        }
        data += sent;
        bytes -= (size_t)sent;
    }
    return 0;
}

int control_ask(const char *id, const char *line, const char *data, size_t bytes,
                char answer[CONTROL_ANSWER_BYTES])
{
    const struct sockaddr_un address = address_of(id);
    const struct timeval limit = {.tv_sec = ASK_TIMEOUT_S};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), status = -1;
    size_t used = 0;
    ssize_t got;

    if (fd < 0) {
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
        send_all(fd, line, strlen(line)) == 0 && send_all(fd, data, bytes) == 0) {
        while (used < CONTROL_ANSWER_BYTES - 1 &&
               (got = read(fd, answer + used, CONTROL_ANSWER_BYTES - 1 - used)) > 0) {
            used += (size_t)got;
        }
        if (used > 0 && answer[used - 1] == '\n') {
            answer[used - 1] = '\0';
            status = 0;
        }
    }
    close(fd);
    return status;
}
