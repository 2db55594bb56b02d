/* warden - the process; see warden.h. */
#include "deploy/sandbox-host/isolation/warden.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/service.h"
#include "deploy/sandbox-host/isolation/cgroup.h"
#include "deploy/sandbox-host/isolation/files.h"
#include "deploy/sandbox-host/isolation/spawn.h"
#include "deploy/sandbox-host/isolation/warden_child.h"
#include "deploy/sandbox-host/isolation/warden_wire.h"

enum { END_MS = 5000, REMOVE_AGAIN_MS = 100 };

struct child {
    char id[WARDEN_ID_BYTES];
    pid_t pid;
    int lifeline; /* -1 = none; closed with it, or with us: the agent then ends */
    struct child *next;
};

struct warden {
    const struct host_config *config;
    int listener, signals, host; /* host -1 = none now */
    int64_t orphaned_ms;         /* since when, or 0 */
    bool ending;
    struct child *children;
    char *packet;
};

static void tell(struct warden *w, const struct wire_answer *answer, const int *fds, int fd_count)
{
    if (w->host >= 0 && wire_send(w->host, answer, sizeof(*answer), NULL, 0, fds, fd_count) < 0) {
        /* its end is seen by the poll, and what it missed it finds out by looking */
        log_event(LOG_DEBUG, "warden.host_gone");
    }
}

static void close_if_open(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

/* ---- children ---- */

static pid_t parent_of(const char *pid)
{
    char path[64], text[512], *after_name;
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1; /* it ended meanwhile */
    }
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    after_name = strrchr(text, ')'); /* ") S 123", the state and the parent */
    return after_name != NULL && strlen(after_name) > 4 ? (pid_t)strtol(after_name + 4, NULL, 10)
                                                        : -1;
}

static bool is_known(const struct warden *w, pid_t pid)
{
    const struct child *child = w->children;

    while (child != NULL && child->pid != pid) {
        child = child->next;
    }
    return child != NULL;
}

/* What a dead child leaves becomes the warden's own (PR_SET_CHILD_SUBREAPER) before the dead one
 * can be reaped, and has nobody who knows it: a sandbox's first process asks to die with bubblewrap
 * only just before it becomes the agent, so bubblewrap may be killed before that. */
static void kill_orphans(const struct warden *w)
{
    const pid_t self = getpid();
    struct dirent *entry;
    DIR *proc = opendir("/proc");

    if (proc == NULL) {
        log_event(LOG_ERROR, "warden.orphans_unseen", LOG_S("what", "/proc cannot be read"));
        return;
    }
    while ((entry = readdir(proc)) != NULL) {
        if (isdigit((unsigned char)entry->d_name[0]) && parent_of(entry->d_name) == self) {
            pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

            if (!is_known(w, pid)) {
                kill(pid, SIGKILL); /* our child: the number is no other's until it is reaped */
            }
        }
    }
    closedir(proc);
}

/* Returns whether any child is left. */
static bool reap(struct warden *w)
{
    bool reaped = false;
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        reaped = true;
        for (struct child **at = &w->children; *at != NULL; at = &(*at)->next) {
            struct child *child = *at;

            if (child->pid == pid) {
                *at = child->next;
                close_if_open(child->lifeline);
                free(child);
                tell(w, &(struct wire_answer){.type = WIRE_EXITED, .pid = pid, .status = status},
                     NULL, 0);
                break;
            }
        }
    }
    if (reaped) {
        kill_orphans(w);
    }
    return pid == 0;
}

static void kill_children(struct warden *w, const char *id)
{
    for (struct child *child = w->children; child != NULL; child = child->next) {
        if (id == NULL || strcmp(child->id, id) == 0) {
            cgroup_let_die(child->id);
            kill(child->pid, SIGKILL);
        }
    }
}

/* Removes the cgroups of all sandboxes, and the folders but those of paused ones. Returns what
 * could not be removed. */
static int remove_all(const struct warden *w, struct error *err)
{
    char all[WARDEN_PATH_BYTES], folder[WARDEN_PATH_BYTES];
    struct dirent *entry;
    DIR *sandboxes;
    int left = 0;

    snprintf(all, sizeof(all), "%.60s/s", w->config->state_dir);
    sandboxes = opendir(all);
    if (sandboxes == NULL && errno == ENOENT) {
        return 0;
    }
    if (sandboxes == NULL) {
        error_set_errno(err, ERR_INTERNAL, errno, "%s", all);
        return 1;
    }
    while ((entry = readdir(sandboxes)) != NULL) {
        if (entry->d_name[0] != '.') {
            snprintf(folder, sizeof(folder), "%.62s/%.31s/" SPAWN_KEPT, all, entry->d_name);
            const bool kept = access(folder, F_OK) == 0;

            snprintf(folder, sizeof(folder), "%.62s/%.31s", all, entry->d_name);
            left += cgroup_remove(entry->d_name, err) < 0 ||
                    (!kept && files_remove_tree(folder, err) < 0);
        }
    }
    closedir(sandboxes);
    return left;
}

/* Ends everything and removes what it leaves. */
static void end_all(struct warden *w)
{
    int64_t until_ms = clock_mono_ms() + END_MS;
    struct error err = ERROR_INIT;

    do {
        kill_children(w, NULL);
        clock_sleep_ms(5);
    } while (reap(w) && clock_mono_ms() < until_ms);
    while (remove_all(w, &err) > 0) {
        if (clock_mono_ms() > until_ms) {
            log_error(LOG_ERROR, "warden.not_removed", &err);
            return; /* the next start tries again */
        }
        clock_sleep_ms(REMOVE_AGAIN_MS);
    }
}

static void run(struct warden *w, const struct wire_request *request, const char *text,
                size_t text_bytes, const int *fds, int fd_count)
{
    struct warden_order order = {.kind = (enum warden_kind)request->kind,
                                 .id = request->id,
                                 .fd_count = fd_count,
                                 .parent = getpid(),
                                 .uid = request->uid,
                                 .processes = request->processes,
                                 .files = request->files,
                                 .disk = request->disk[0] != '\0' ? request->disk : NULL,
                                 .dir = request->dir};
    struct wire_answer answer = {.type = WIRE_STARTED};
    const char *at = text, *end = text + text_bytes;
    struct child *child;
    char **argv;
    int pidfd = -1, lifeline[2] = {-1, -1};

    if ((request->argc == 0) != (order.kind == WARDEN_ROUTES) || request->argc > WIRE_ARGS_MAX ||
        text_bytes == 0 || end[-1] != '\0' ||
        (order.kind == WARDEN_SANDBOX && (fd_count < WARDEN_LIFELINE || fd_count >= WARDEN_FDS))) {
        answer.status = EPROTO;
        tell(w, &answer, NULL, 0);
        return;
    }
    argv = xcalloc(request->argc + 1, sizeof(*argv));
    order.text = *at != '\0' ? at : NULL;
    at += strlen(at) + 1;
    order.layers = at < end && *at != '\0' ? at : NULL;
    at += at < end ? strlen(at) + 1 : 0;
    for (uint32_t i = 0; i < request->argc && at < end; i++) {
        argv[i] = (char *)at;
        at += strlen(at) + 1;
    }
    order.argv = argv;
    memcpy(order.fds, fds, (size_t)fd_count * sizeof(int));
    if (order.kind == WARDEN_SANDBOX && pipe2(lifeline, O_CLOEXEC) < 0) {
        answer.status = errno;
        tell(w, &answer, NULL, 0);
        free(argv);
        return;
    }
    if (order.kind == WARDEN_SANDBOX) {
        memmove(order.fds + WARDEN_LIFELINE + 1, order.fds + WARDEN_LIFELINE,
                (size_t)(order.fd_count - WARDEN_LIFELINE) * sizeof(int));
        order.fds[WARDEN_LIFELINE] = lifeline[0];
        order.fd_count++;
    }
    answer.pid = fork();
    if (answer.pid == 0) {
        warden_child(&order);
    }
    if (answer.pid < 0) {
        answer.status = errno;
        close_if_open(lifeline[1]);
    } else {
        child = xcalloc(1, sizeof(*child));
        str_copy(child->id, sizeof(child->id), request->id);
        child->pid = answer.pid;
        child->lifeline = lifeline[1];
        child->next = w->children;
        w->children = child;
        /* before anything is reaped, so it cannot be another process'*/
        pidfd = (int)syscall(SYS_pidfd_open, answer.pid, 0);
    }
    close_if_open(lifeline[0]);
    tell(w, &answer, &pidfd, pidfd >= 0);
    if (pidfd >= 0) {
        close(pidfd);
    }
    free(argv);
}

/* ---- the host ---- */

static void orphan(struct warden *w)
{
    close(w->host);
    w->host = -1;
    w->orphaned_ms = clock_mono_ms();
    log_event(LOG_WARN, "warden.orphaned", LOG_I("ends_in_seconds", w->config->adopt_s));
}

static void read_host(struct warden *w)
{
    struct wire_request request;
    int fds[WARDEN_FDS], fd_count = WARDEN_FDS;
    ssize_t n = wire_receive(w->host, w->packet, sizeof(request) + WIRE_TEXT_BYTES, fds, &fd_count);

    if (n < (ssize_t)sizeof(request)) {
        orphan(w);
        return;
    }
    memcpy(&request, w->packet, sizeof(request));
    request.id[sizeof(request.id) - 1] = '\0';
    request.disk[sizeof(request.disk) - 1] = '\0';
    request.dir[sizeof(request.dir) - 1] = '\0';
    if (request.type == WIRE_RUN) {
        run(w, &request, w->packet + sizeof(request), (size_t)n - sizeof(request), fds, fd_count);
    } else if (request.type == WIRE_KILL) {
        kill_children(w, request.id);
    } else if (request.type == WIRE_QUIT) {
        w->ending = true;
    }
    for (int i = 0; i < fd_count; i++) {
        close(fds[i]);
    }
}

static void accept_host(struct warden *w)
{
    struct ucred peer;
    socklen_t bytes = sizeof(peer);
    int fd = accept4(w->listener, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0) {
        return;
    }
    if (w->host >= 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) < 0 ||
        peer.uid != geteuid()) {
        close(fd); /* one host at a time, and ours */
        return;
    }
    w->host = fd;
    w->orphaned_ms = 0;
    tell(w,
         &(struct wire_answer){.type = WIRE_HELLO,
                               .pid = getpid(),
                               .status = WIRE_VERSION,
                               .first_uid = w->config->first_uid},
         NULL, 0);
}

static int wait_ms(const struct warden *w)
{
    int64_t left_ms;

    if (w->orphaned_ms == 0) {
        return -1;
    }
    left_ms = w->orphaned_ms + w->config->adopt_s * 1000 - clock_mono_ms();
    return left_ms > 0 ? (int)left_ms : 0;
}

static void turn(struct warden *w)
{
    struct pollfd fds[3] = {{.fd = w->signals, .events = POLLIN},
                            {.fd = w->listener, .events = POLLIN},
                            {.fd = w->host, .events = POLLIN}};
    struct signalfd_siginfo info;

    if (poll(fds, 3, wait_ms(w)) == 0) {
        w->ending = w->ending || wait_ms(w) == 0;
        return;
    }
    while (read(w->signals, &info, sizeof(info)) == sizeof(info)) {
        w->ending = w->ending || info.ssi_signo != SIGCHLD;
    }
    reap(w);
    if ((fds[2].revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
        read_host(w);
    }
    if ((fds[1].revents & POLLIN) != 0) {
        accept_host(w);
    }
}

int warden_main(const struct host_config *config, int listener)
{
    struct warden w = {.config = config, .listener = listener, .host = -1};
    char path[WARDEN_PATH_BYTES];
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    w.signals = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (w.signals < 0) {
        log_event(LOG_ERROR, "warden.failed", LOG_S("what", "signalfd"));
        return EXIT_RUNTIME;
    }
    /* a sandbox's first process becomes our child when bubblewrap dies first */
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    w.packet = xmalloc(sizeof(struct wire_request) + WIRE_TEXT_BYTES);
    w.orphaned_ms = clock_mono_ms(); /* until the host that started us connects */
    while (!w.ending) {
        turn(&w);
    }
    if (w.host < 0) {
        log_event(LOG_WARN, "warden.not_adopted");
    }
    end_all(&w);
    snprintf(path, sizeof(path), "%.60s/" WIRE_SOCKET, config->state_dir);
    unlink(path);
    free(w.packet);
    return EXIT_OK;
}
