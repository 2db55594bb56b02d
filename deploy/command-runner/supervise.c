/* supervise - see supervise.h. */
#include "deploy/command-runner/supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "deploy/command-runner/control.h"
#include "deploy/command-runner/place.h"
#include "deploy/command-runner/spool.h"
#include "deploy/command-runner/tree.h"

enum {
    STDOUT_STREAM = 1,
    STDERR_STREAM = 2,
    READ_BYTES = 65536,
    TICK_MS = 1000,
    JUMP_MS = 3000, /* a tick that took longer: the sandbox was paused, it counts as one tick */
    INPUT_MAX_BYTES = 1 << 20, /* of stdin that the command has not read yet */
    SWEEP_MAX_MS = 60000,
};

struct supervisor {
    const struct supervise_options *options;
    struct command_state state;
    struct spool spool;
    struct control control;
    int out_fd, err_fd, in_fd, signal_fd; /* -1 = closed; with a terminal out_fd is in_fd, too */
    bool terminal;
    char *input; /* accepted and not written yet */
    size_t input_bytes;
    int64_t input_total; /* bytes of stdin accepted so far */
    bool input_ended;
    int64_t tick_at_ms, tick_ms; /* the present tick: its begin, its length */
    bool main_ended, orphans;
};

/* ---- the command's process ---- */

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
    *fd = -1;
}

static char **build_argv(const struct supervise_options *options)
{
    /* no argument may be longer than 128 KiB: the shell puts the pieces together */
    static char join[] = "IFS=; __command=$*; unset IFS; set --; eval \"$__command\"";
    static char shell[] = "bash", login[] = "-l", text[] = "-c";
    char **argv = xcalloc((size_t)options->piece_count + 6, sizeof(*argv));
    int used = 0;

    argv[used++] = shell;
    argv[used++] = login;
    argv[used++] = text;
    if (options->piece_count > 1) {
        argv[used++] = join;
        argv[used++] = shell;
    }
    for (int i = 0; i < options->piece_count; i++) {
        argv[used++] = options->pieces[i];
    }
    return argv;
}

/* In the child. */
static void become_command(const struct supervise_options *options, const char *terminal, int in,
                           int out, int err)
{
    static const char why[] = "the sandbox has no shell\n";
    char **argv = build_argv(options);
    sigset_t none;

    for (int number = 1; number < NSIG; number++) {
        signal(number, SIG_DFL);
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    if (terminal != NULL) {
        in = open(terminal, O_RDWR);
        (void)ioctl(in, TIOCSCTTY, 0);
        out = err = in;
        setenv("TERM", "xterm-256color", 0);
    }
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    if (in > STDERR_FILENO) {
        close(in); /* a terminal's; the others close on exec */
    }
    setenv("SANDBOX_EXEC_ID", options->id, 1);
    unsetenv("SANDBOX_SUBREAPER");
    execv("/bin/bash", argv);
    execv("/usr/bin/bash", argv);
    argv[0] = (char[]){"sh"};
    execv("/bin/sh", argv);
    (void)!write(STDERR_FILENO, why, sizeof(why) - 1);
    _exit(127);
}

static int open_terminal(struct supervisor *self, char *ret_name, size_t size)
{
    const struct winsize window = {.ws_row = (unsigned short)self->options->rows,
                                   .ws_col = (unsigned short)self->options->columns};
    int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

    if (fd < 0 || grantpt(fd) < 0 || unlockpt(fd) < 0 || ptsname_r(fd, ret_name, size) != 0) {
        return -1;
    }
    (void)ioctl(fd, TIOCSWINSZ, &window);
    self->out_fd = fd;
    self->in_fd = fd;
    return 0;
}

static int start_command(struct supervisor *self)
{
    int out[2] = {-1, -1}, err[2] = {-1, -1}, in[2] = {-1, -1};
    char terminal[64];
    pid_t pid;

    self->terminal = self->options->rows > 0;
    if (self->terminal) {
        if (open_terminal(self, terminal, sizeof(terminal)) < 0) {
            return -1;
        }
    } else {
        if (pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0) {
            return -1;
        }
        if (self->options->takes_stdin) {
            if (pipe2(in, O_CLOEXEC) < 0) {
                return -1;
            }
        } else {
            in[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        }
        self->out_fd = out[0];
        self->err_fd = err[0];
        self->in_fd = in[1];
    }
    pid = fork();
    if (pid < 0) {
        return -1;
    }
    if (pid == 0) {
        become_command(self->options, self->terminal ? terminal : NULL, in[0], out[1], err[1]);
    }
    close_fd(&out[1]);
    close_fd(&err[1]);
    close_fd(&in[0]);
    for (int *fd = &self->out_fd; fd != NULL;) {
        if (*fd >= 0) {
            (void)fcntl(*fd, F_SETFL, fcntl(*fd, F_GETFL) | O_NONBLOCK);
        }
        fd = fd == &self->out_fd ? &self->err_fd : fd == &self->err_fd ? &self->in_fd : NULL;
    }
    self->state.pid = pid;
    self->state.started_ms = place_wall_ms();
    return 0;
}

/* ---- output ---- */

/* One read; false when there is nothing (more). */
static bool take_output(struct supervisor *self, int *fd, int stream)
{
    static char buffer[READ_BYTES];
    ssize_t got = *fd >= 0 ? read(*fd, buffer, sizeof(buffer)) : -1;

    if (got > 0) {
        spool_add(&self->spool, stream, buffer, (size_t)got);
        *(stream == STDOUT_STREAM ? &self->state.out_bytes : &self->state.err_bytes) += got;
        return true;
    }
    if (*fd >= 0 && (got == 0 || (errno != EAGAIN && errno != EINTR))) {
        if (self->terminal) {
            self->in_fd = -1; /* the same */
        }
        close_fd(fd);
    }
    return false;
}

/* What the command's process had printed when it ended, and no more of what it left behind. */
static void drain(struct supervisor *self, int *fd, int stream)
{
    int waiting = 0;

    while (*fd >= 0 && ioctl(*fd, FIONREAD, &waiting) == 0 && waiting > 0) {
        const int64_t before = self->spool.total;

        if (!take_output(self, fd, stream) || self->spool.total - before >= waiting) {
            break;
        }
    }
}

/* ---- its end ---- */

static void end_main(struct supervisor *self, enum phase phase)
{
    drain(self, &self->out_fd, STDOUT_STREAM);
    drain(self, &self->err_fd, STDERR_STREAM);
    self->main_ended = true;
    self->state.phase = phase;
    self->state.end_offset = self->spool.total;
    self->state.ended_ms = place_wall_ms();
    self->state.background = self->orphans && phase == PHASE_EXITED;
    (void)place_write_state(self->options->id, &self->state);
    if (!self->terminal) {
        close_fd(&self->in_fd);
    }
}

static void take_status(struct supervisor *self, int status)
{
    self->state.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    self->state.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + self->state.signal;
}

static void reap(struct supervisor *self)
{
    int status, main_status = -1;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == self->state.pid) {
            main_status = status;
        }
    }
    self->orphans = pid == 0;
    if (main_status >= 0 && !self->main_ended) {
        take_status(self, main_status);
        end_main(self, PHASE_EXITED);
    }
}

static void kill_all(struct supervisor *self, enum phase phase)
{
    int status = SIGKILL; /* as a wait status: killed by it */

    self->state.survivor_count = tree_kill(self->options->id, self->state.pid, &status,
                                           self->state.survivors, PLACE_SURVIVORS_MAX);
    if (!self->main_ended) {
        take_status(self, status);
        end_main(self, phase);
    }
    self->orphans = false;
}

/* ---- time ---- */

static int64_t left_ms(const struct supervisor *self)
{
    return self->options->limit_ms - self->state.ran_ms;
}

static void begin_tick(struct supervisor *self)
{
    self->tick_at_ms = place_mono_ms();
    self->tick_ms = TICK_MS;
    if (self->options->limit_ms > 0 && left_ms(self) < TICK_MS) {
        self->tick_ms = left_ms(self) > 0 ? left_ms(self) : 0;
    }
}

static void count_time(struct supervisor *self)
{
    int64_t passed = place_mono_ms() - self->tick_at_ms;

    self->state.ran_ms += passed > JUMP_MS ? self->tick_ms : passed;
    begin_tick(self);
}

static int poll_ms(const struct supervisor *self)
{
    int64_t rest;

    if (self->options->limit_ms == 0 || self->main_ended) {
        return -1;
    }
    rest = self->tick_at_ms + self->tick_ms - place_mono_ms();
    return rest > 0 ? (int)rest : 0;
}

/* ---- what is asked of it ---- */

static void take_input(struct supervisor *self, const struct control_request *request, char *answer)
{
    int64_t skip = self->input_total - request->first;
    size_t bytes = 0;

    if (self->in_fd < 0 || self->main_ended) {
        snprintf(answer, CONTROL_ANSWER_BYTES, "no stdin");
        return;
    }
    if (request->first < 0 || skip < 0) {
        snprintf(answer, CONTROL_ANSWER_BYTES, "no offset %lld", (long long)self->input_total);
        return;
    }
    if (!self->input_ended && skip < (int64_t)request->bytes) {
        bytes = request->bytes - (size_t)skip;
        if (bytes > INPUT_MAX_BYTES - self->input_bytes) {
            bytes = INPUT_MAX_BYTES - self->input_bytes;
        }
        self->input = xrealloc(self->input, self->input_bytes + bytes + 1);
        memcpy(self->input + self->input_bytes, request->data + skip, bytes);
        self->input_bytes += bytes;
        self->input_total += (int64_t)bytes;
    }
    if (request->third == 1 && self->input_total == request->first + (int64_t)request->bytes) {
        self->input_ended = true;
    }
    snprintf(answer, CONTROL_ANSWER_BYTES, "ok %lld %d", (long long)self->input_total,
             self->input_ended ? 1 : 0);
}

static void write_input(struct supervisor *self)
{
    static const char end_of_file = 4; /* a terminal's */
    ssize_t wrote = 0;

    if (self->input_bytes > 0) {
        wrote = write(self->in_fd, self->input, self->input_bytes);
        if (wrote > 0) {
            self->input_bytes -= (size_t)wrote;
            memmove(self->input, self->input + wrote, self->input_bytes);
        } else if (errno != EAGAIN && errno != EINTR && !self->terminal) {
            self->input_bytes = 0;
            close_fd(&self->in_fd);
            return;
        }
    }
    if (self->input_bytes == 0 && self->input_ended && self->in_fd >= 0) {
        if (self->terminal) {
            (void)!write(self->in_fd, &end_of_file, 1);
            self->input_ended = false;
        } else {
            close_fd(&self->in_fd);
        }
    }
}

static bool send_signal(const struct supervisor *self, int number)
{
    pid_t group = self->terminal && self->out_fd >= 0 ? tcgetpgrp(self->out_fd) : -1;

    return kill(group > 0 ? -group : -self->state.pid, number) == 0 ||
           kill(self->state.pid, number) == 0;
}

static void handle(void *arg, const struct control_request *request,
                   char answer[CONTROL_ANSWER_BYTES])
{
    struct supervisor *self = arg;
    const struct winsize window = {.ws_row = (unsigned short)request->first,
                                   .ws_col = (unsigned short)request->second};
    int length;

    count_time(self);
    switch (request->verb) {
    case 'K':
        kill_all(self, PHASE_KILLED);
        break;
    case 'S':
        if (self->main_ended || request->first <= 0 || request->first >= NSIG ||
            !send_signal(self, (int)request->first)) {
            snprintf(answer, CONTROL_ANSWER_BYTES, "no process");
            return;
        }
        break;
    case 'W':
        if (!self->terminal || self->out_fd < 0 || ioctl(self->out_fd, TIOCSWINSZ, &window) < 0) {
            snprintf(answer, CONTROL_ANSWER_BYTES, "no terminal");
            return;
        }
        break;
    case 'I':
        take_input(self, request, answer);
        return;
    case 'Q':
        break;
    default:
        return;
    }
    length = snprintf(answer, CONTROL_ANSWER_BYTES, "ok ");
    (void)place_print_state(&self->state, answer + length, CONTROL_ANSWER_BYTES - (size_t)length);
}

/* ---- its life ---- */

static void run_once(struct supervisor *self)
{
    struct pollfd fds[CONTROL_CLIENTS + 8];
    int count = 0;

    fds[count++] = (struct pollfd){.fd = self->signal_fd, .events = POLLIN};
    fds[count++] = (struct pollfd){.fd = self->out_fd, .events = POLLIN};
    fds[count++] = (struct pollfd){.fd = self->err_fd, .events = POLLIN};
    fds[count++] = (struct pollfd){
        .fd = self->input_bytes > 0 || self->input_ended ? self->in_fd : -1, .events = POLLOUT};
    count += control_poll(&self->control, fds + count);
    if (poll(fds, (nfds_t)count, poll_ms(self)) < 0) {
        return;
    }
    if (fds[1].revents != 0) {
        (void)take_output(self, &self->out_fd, STDOUT_STREAM);
    }
    if (fds[2].revents != 0) {
        (void)take_output(self, &self->err_fd, STDERR_STREAM);
    }
    if (fds[3].revents != 0 && self->in_fd >= 0) {
        write_input(self);
    }
    if (fds[0].revents != 0) {
        struct signalfd_siginfo info;

        (void)!read(self->signal_fd, &info, sizeof(info));
        count_time(self);
        reap(self);
    }
    control_serve(&self->control, handle, self);
    if (self->options->limit_ms > 0 && !self->main_ended &&
        place_mono_ms() - self->tick_at_ms >= self->tick_ms) {
        count_time(self);
        if (left_ms(self) <= 0) {
            kill_all(self, PHASE_TIMED_OUT);
        }
    }
}

/* Until nothing is left to do: no process of the command, and its outputs read to their end. */
static void run(struct supervisor *self)
{
    begin_tick(self);
    while (!self->main_ended || self->orphans) {
        run_once(self);
    }
    while (take_output(self, &self->out_fd, STDOUT_STREAM)) {}
    while (take_output(self, &self->err_fd, STDERR_STREAM)) {}
    spool_end_writing(&self->spool);
    self->state.background = false;
    (void)place_write_state(self->options->id, &self->state);
}

/* One process per user removes what has ended, for as long as there is any. */
static void sweep(const struct supervise_options *options)
{
    char path[64];
    int64_t next = 0;

    snprintf(path, sizeof(path), "/tmp/.sandbox-commands/sweeper-%u", (unsigned)geteuid());
    while (next >= 0) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

        if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0) {
            return; /* somebody else does */
        }
        while ((next = place_sweep(options->retention_s, options->keep)) >= 0) {
            const int64_t pause = next < SWEEP_MAX_MS ? next + 10 : SWEEP_MAX_MS;

            (void)poll(NULL, 0, (int)pause);
        }
        unlink(path);
        close(fd);
        /* one that ended in between found the lock taken */
        next = place_sweep(options->retention_s, options->keep);
    }
}

/* started_fd is closed once the first state is there. */
static void supervise(const struct supervise_options *options, int lock_fd, int started_fd)
{
    struct supervisor self = {.options = options,
                              .state = {.end_offset = -1},
                              .out_fd = -1,
                              .err_fd = -1,
                              .in_fd = -1,
                              .control = {.listen_fd = -1}};
    sigset_t child;

    setsid();
    for (int number = 1; number < NSIG; number++) {
        if (number != SIGCHLD && number != SIGSEGV && number != SIGBUS && number != SIGABRT) {
            signal(number, SIG_IGN);
        }
    }
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    self.signal_fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    (void)tree_adopt_orphans();
    spool_init(&self.spool, options->id, options->bound_bytes);
    if (start_command(&self) == 0) {
        (void)place_write_state(options->id, &self.state);
        close(started_fd);
        (void)control_open(&self.control, options->id);
        run(&self);
        control_close(&self.control);
    } else {
        self.state.phase = PHASE_EXITED;
        self.state.code = 126;
        self.state.end_offset = 0;
        spool_end_writing(&self.spool);
        (void)place_write_state(options->id, &self.state);
        close(started_fd);
    }
    close(lock_fd);
    sweep(options);
    _exit(0);
}

int supervise_start(const struct supervise_options *options)
{
    int lock_fd = place_make(options->id), started[2] = {-1, -1}, null, failed;
    char none;
    pid_t pid;

    if (lock_fd < 0) {
        return errno == EEXIST ? 1 : -1;
    }
    pid = pipe2(started, O_CLOEXEC) == 0 ? fork() : -1;
    if (pid == 0) {
        null = open("/dev/null", O_RDWR);
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        if (null > STDERR_FILENO) {
            close(null);
        }
        close(started[0]);
        supervise(options, lock_fd, started[1]);
    }
    failed = errno;
    close(lock_fd);
    close(started[1]);
    if (pid > 0) {
        (void)!read(started[0], &none, 1); /* its end: the state is there, or the supervisor died */
    }
    close(started[0]);
    if (pid < 0) {
        place_remove(options->id);
        errno = failed;
        return -1;
    }
    return 0;
}
