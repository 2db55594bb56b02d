/* warden_client - see warden_client.h. */
#include "deploy/sandbox-host/isolation/warden_client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/strbuf.h"
#include "deploy/sandbox-host/isolation/uids.h"
#include "deploy/sandbox-host/isolation/warden_wire.h"

enum { BACKLOG = 4, HELLO_MS = 10000, PACKET_BYTES = 1 << 20 };
extern char **environ;

static struct {
    int fd;
    struct warden_events events;
    pthread_t reader;
    pthread_mutex_t order; /* one order at a time */
    pthread_mutex_t lock;  /* guards what follows */
    pthread_cond_t changed;
    struct wire_answer started;
    int pidfd;
    bool answered, gone, closing;
} wire = {.fd = -1,
          .order = PTHREAD_MUTEX_INITIALIZER,
          .lock = PTHREAD_MUTEX_INITIALIZER,
          .changed = PTHREAD_COND_INITIALIZER};

/* ---- starting ---- */

static void address_of(const struct host_config *config, struct sockaddr_un *ret)
{
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(ret->sun_path, sizeof(ret->sun_path), "%.60s/" WIRE_SOCKET, config->state_dir);
}

static int open_listener(const struct host_config *config, struct error *err)
{
    struct sockaddr_un address;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    address_of(config, &address);
    unlink(address.sun_path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        chmod(address.sun_path, 0600) < 0 || listen(fd, BACKLOG) < 0) {
        error_set_errno(err, ERR_CONFIG, errno, "SANDBOX_HOST_STATE_DIR: %s", address.sun_path);
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    return fd;
}

/* Starts `sandbox-host warden` in a session of its own, so that a signal to ours spares it. Its
 * settings are this process' environment; `first_uid` with the claim on it (uids.h) and the state
 * folder, which may be another than the environment's (`doctor`), go along. */
static int start_warden(const struct host_config *config, struct error *err)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    char first_uid[32];
    char *argv[] = {"sandbox-host", "warden", first_uid, config->state_dir, NULL};
    int opened = open_listener(config, err), listener, claim, failure;
    sigset_t none;
    pid_t pid;

    if (opened < 0) {
        return -1;
    }
    /* above their targets, so that no dup2 overwrites a source */
    listener = fcntl(opened, F_DUPFD_CLOEXEC, 16);
    claim = uids_claim_fd() >= 0 ? fcntl(uids_claim_fd(), F_DUPFD_CLOEXEC, 16) : -1;
    close(opened);
    snprintf(first_uid, sizeof(first_uid), "%lld", (long long)config->first_uid);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, listener, 3);
    if (claim >= 0) {
        posix_spawn_file_actions_adddup2(&actions, claim, 4);
    }
    posix_spawnattr_init(&attributes);
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK);
    failure = posix_spawn(&pid, "/proc/self/exe", &actions, &attributes, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    close(listener);
    if (claim >= 0) {
        close(claim);
    }
    return failure != 0 ? error_set_errno(err, ERR_INTERNAL, failure, "starting the warden") : 0;
}

/* A connection with the hello read, or -1: nobody is there (ERR_NOT_FOUND), or one that does not
 * talk to us. */
static int dial(const struct host_config *config, struct wire_answer *ret_hello, struct error *err)
{
    struct sockaddr_un address;
    struct pollfd readable = {.events = POLLIN};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), size = PACKET_BYTES;

    address_of(config, &address);
    if (fd < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "socket");
    }
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        close(fd);
        return error_set(err, ERR_NOT_FOUND, "no warden");
    }
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    readable.fd = fd;
    if (poll(&readable, 1, HELLO_MS) <= 0 ||
        wire_receive(fd, ret_hello, sizeof(*ret_hello), NULL, NULL) != sizeof(*ret_hello) ||
        ret_hello->type != WIRE_HELLO) {
        close(fd);
        return error_set(err, ERR_CONFIG, "SANDBOX_HOST_STATE_DIR: another sandbox-host uses %s",
                         config->state_dir);
    }
    return fd;
}

/* ---- answers ---- */

static void take_answer(const struct wire_answer *answer, int pidfd)
{
    if (answer->type == WIRE_STARTED) {
        pthread_mutex_lock(&wire.lock);
        wire.started = *answer;
        wire.pidfd = pidfd;
        wire.answered = true;
        pthread_cond_broadcast(&wire.changed);
        pthread_mutex_unlock(&wire.lock);
    } else if (answer->type == WIRE_EXITED) {
        wire.events.exited(wire.events.arg, answer->pid, answer->status);
    }
}

static void *read_answers(void *arg)
{
    bool closing;

    (void)arg;
    for (;;) {
        struct wire_answer answer;
        int fds[1] = {-1}, count = 1;

        if (wire_receive(wire.fd, &answer, sizeof(answer), fds, &count) != sizeof(answer)) {
            break;
        }
        take_answer(&answer, count > 0 ? fds[0] : -1);
    }
    pthread_mutex_lock(&wire.lock);
    wire.gone = true;
    closing = wire.closing;
    pthread_cond_broadcast(&wire.changed);
    pthread_mutex_unlock(&wire.lock);
    if (!closing) {
        wire.events.lost(wire.events.arg);
    }
    return NULL;
}

int warden_open(const struct host_config *config, const struct warden_events *events,
                bool *ret_adopted, int64_t *ret_first_uid, struct error *err)
{
    struct wire_answer hello;
    struct error absent = ERROR_INIT;
    int status;

    wire.events = *events;
    wire.fd = dial(config, &hello, &absent);
    *ret_adopted = wire.fd >= 0;
    if (wire.fd >= 0 && hello.status != WIRE_VERSION) {
        /* of another version of this program: its sandboxes cannot be kept */
        close(wire.fd);
        kill(hello.pid, SIGTERM);
        return error_set(err, ERR_DRAINING,
                         "a warden of another version ends its sandboxes; start again");
    }
    if (wire.fd < 0 && absent.code != ERR_NOT_FOUND) {
        *err = absent;
        return -1;
    }
    if (wire.fd < 0) {
        int64_t first = config->first_uid;
        struct host_config own = *config;

        if (geteuid() == 0 && uids_claim(config->first_uid, &first, err) < 0) {
            return -1;
        }
        own.first_uid = first;
        if (start_warden(&own, err) < 0) {
            return -1;
        }
        wire.fd = dial(config, &hello, err);
        if (wire.fd < 0) {
            return -1;
        }
    }
    *ret_first_uid = hello.first_uid;
    status = pthread_create(&wire.reader, NULL, read_answers, NULL);
    return status != 0 ? error_set_errno(err, ERR_INTERNAL, status, "starting the warden's reader")
                       : 0;
}

/* ---- orders ---- */

static int send_request(const struct wire_request *request, const struct strbuf *text,
                        const int *fds, int fd_count, struct error *err)
{
    if (wire_send(wire.fd, request, sizeof(*request), text != NULL ? text->data : NULL,
                  text != NULL ? text->length : 0, fds, fd_count) < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "asking the warden");
    }
    return 0;
}

static int wait_started(const struct warden_order *order, struct error *err)
{
    int status = 0;

    pthread_mutex_lock(&wire.lock);
    while (!wire.answered && !wire.gone) {
        pthread_cond_wait(&wire.changed, &wire.lock);
    }
    if (!wire.answered) {
        status = error_set(err, ERR_DRAINING, "the host is stopping");
    } else if (wire.started.status != 0) {
        status = error_set_errno(err, ERR_INTERNAL, wire.started.status, "fork");
    } else {
        *order->pid = wire.started.pid;
        *order->pidfd = wire.pidfd;
        wire.pidfd = -1;
    }
    if (status < 0 && wire.pidfd >= 0) {
        close(wire.pidfd);
        wire.pidfd = -1;
    }
    pthread_mutex_unlock(&wire.lock);
    return status;
}

int warden_run(const struct warden_order *order, struct error *err)
{
    struct wire_request request = {.type = WIRE_RUN,
                                   .kind = (uint32_t)order->kind,
                                   .uid = (uint32_t)order->uid,
                                   .processes = order->processes,
                                   .files = order->files};
    struct strbuf text;
    bool closing;
    int status;

    str_copy(request.id, sizeof(request.id), order->id);
    str_copy(request.disk, sizeof(request.disk), order->disk != NULL ? order->disk : "");
    str_copy(request.dir, sizeof(request.dir), order->dir != NULL ? order->dir : "");
    strbuf_init(&text, WIRE_TEXT_BYTES);
    strbuf_append(&text, order->text != NULL ? order->text : "",
                  (order->text != NULL ? strlen(order->text) : 0) + 1);
    strbuf_append(&text, order->layers != NULL ? order->layers : "",
                  (order->layers != NULL ? strlen(order->layers) : 0) + 1);
    for (; order->argv[request.argc] != NULL; request.argc++) {
        strbuf_append(&text, order->argv[request.argc], strlen(order->argv[request.argc]) + 1);
    }
    if (text.overflow || request.argc > WIRE_ARGS_MAX) {
        strbuf_done(&text);
        return error_set(err, ERR_LIMIT, "the template has too many folders and mounts");
    }
    pthread_mutex_lock(&wire.order);
    pthread_mutex_lock(&wire.lock);
    wire.answered = false;
    wire.pidfd = -1;
    closing = wire.closing;
    pthread_mutex_unlock(&wire.lock);
    status = closing ? error_set(err, ERR_DRAINING, "the host is stopping")
                     : send_request(&request, &text, order->fds, order->fd_count, err);
    if (status == 0) {
        status = wait_started(order, err);
    }
    pthread_mutex_unlock(&wire.order);
    strbuf_done(&text);
    return status;
}

void warden_kill(const char *id)
{
    struct wire_request request = {.type = WIRE_KILL};
    struct error gone = ERROR_INIT; /* then it killed everything itself */

    str_copy(request.id, sizeof(request.id), id);
    (void)!send_request(&request, NULL, NULL, 0, &gone);
}

void warden_close(void)
{
    const struct wire_request request = {.type = WIRE_QUIT};
    struct error gone = ERROR_INIT; /* then there is nothing to end */

    if (wire.fd < 0) {
        return;
    }
    pthread_mutex_lock(&wire.lock);
    wire.closing = true;
    pthread_mutex_unlock(&wire.lock);
    (void)!send_request(&request, NULL, NULL, 0, &gone);
    pthread_join(wire.reader, NULL); /* it closes its end when all is gone */
    pthread_mutex_lock(&wire.order); /* an order under way ends without an answer */
    close(wire.fd);
    wire.fd = -1;
    pthread_mutex_unlock(&wire.order);
    while (waitpid(-1, NULL, WNOHANG) > 0) {} /* the warden, when it was our child */
}
