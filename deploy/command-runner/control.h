/*
 * control - what is asked of a running command: a line and its data, one answer, over its socket.
 *
 *   K                     kill all of it
 *   S NUMBER              a signal to its process group
 *   W ROWS COLUMNS        size of its terminal
 *   I OFFSET LENGTH EOF   LENGTH bytes of its stdin, from that offset on; EOF 1 = its end
 *   Q                     how it is
 * The answer is "ok ..." or "no WHY", and a line end. Owns: both ends of the socket, the framing.
 * Does not own: what is done (supervise.c). Failure: a client that says nonsense is hung up on.
 */
#ifndef RUNNER_CONTROL_H
#define RUNNER_CONTROL_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CONTROL_CLIENTS = 8, CONTROL_DATA_MAX_BYTES = 1 << 20, CONTROL_ANSWER_BYTES = 1024 };

struct control_request {
    char verb;
    long long first, second, third;
    const char *data;
    size_t bytes;
};
typedef void (*control_fn)(void *arg, const struct control_request *request,
                           char answer[CONTROL_ANSWER_BYTES]);

struct control_client {
    int fd;
    char *bytes;
    size_t used, room;
};
struct control {
    int listen_fd; /* -1 = none */
    struct control_client clients[CONTROL_CLIENTS];
};
int control_open(struct control *control, const char *id);
void control_close(struct control *control);
/* Adds what it waits for; returns how many: at most CONTROL_CLIENTS + 1. */
int control_poll(const struct control *control, struct pollfd *ret);
/* Takes what has come. */
void control_serve(struct control *control, control_fn handle, void *arg);

/* Sends one request; the answer without its line end. -1: nobody answers. */
int control_ask(const char *id, const char *line, const char *data, size_t bytes,
                char answer[CONTROL_ANSWER_BYTES]);

#endif
