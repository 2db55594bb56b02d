/* process_loop - see process_loop.h. */
#include "deploy/sandbox-host/agent/process_loop.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "deploy/sandbox-host/agent/process_table.h"

enum {
    READ_BYTES = 32768, /* data of one event at most */
    READ_PTY_BYTES = 16384,
    DRAIN_READS = 64, /* reads from a killed process before its pipes are closed */
    LOOP_EVENTS = 64,
    PAUSE_MIN_MS = 2000, /* an oversleep from here on is a pause of the sandbox */
    REPLAY_MS = 30000,   /* time in which an ended process can still be connected to */
    REPLAY_MAX = 4096,   /* ended processes kept at most */
};

static void process_block(struct process *process, bool on)
{
    process->blocked = on;
    process_source_watch(&process->sources[0], !on);
    process_source_watch(&process->sources[1], !on);
}

int process_loop_init(struct error *err)
{
    sigset_t child;

    clock_cond_init(&process_table.any_ended);
    process_table.buffer = xmalloc(READ_BYTES);
    process_table.ended_last = &process_table.ended;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    if (pthread_sigmask(SIG_BLOCK, &child, NULL) != 0) {
        return error_set(err, ERR_INTERNAL, "cannot block SIGCHLD");
    }
    /* orphans come to us even where something else is process 1 */
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1L, 0L, 0L, 0L);
    process_table.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    process_table.signal_fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    process_table.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event signal_event = {.events = EPOLLIN, .data.ptr = &process_table.signal_fd};
    struct epoll_event wake_event = {.events = EPOLLIN, .data.ptr = &process_table.wake_fd};
    if (process_table.epoll_fd < 0 || process_table.signal_fd < 0 || process_table.wake_fd < 0 ||
        epoll_ctl(process_table.epoll_fd, EPOLL_CTL_ADD, process_table.signal_fd, &signal_event) !=
            0 ||
        epoll_ctl(process_table.epoll_fd, EPOLL_CTL_ADD, process_table.wake_fd, &wake_event) != 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "process loop");
    }
    return 0;
}

int process_loop_fd(void)
{
    return process_table.epoll_fd;
}

/* One read; false when the source has nothing (more) to give now. */
static bool source_read(struct source *source)
{
    struct process *process = source->process;
    const size_t want = source->output == PROCESS_PTY ? READ_PTY_BYTES : READ_BYTES;

    if (source->fd < 0) {
        return false;
    }
    const ssize_t n = read(source->fd, process_table.buffer, want);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return false;
    }
    if (n <= 0) { /* EIO is how a terminal says that its other side is closed */
        process_source_close(source);
        return false;
    }
    process_subscriber_publish(process, source->output, process_table.buffer, (size_t)n);
    return true;
}

static void reap_children(void)
{
    struct signalfd_siginfo info;
    int status;
    pid_t pid;

    while (read(process_table.signal_fd, &info, sizeof(info)) > 0) {}
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (struct process *process = process_table.processes; process != NULL;
             process = process->next) {
            if (process->pid == pid && !process->reaped) {
                process->reaped = true;
                process->wait_status = status;
                break;
            }
        }
    }
}

/* What was written before a kill is still delivered, as far as the readers have room. */
static void process_drain(struct process *process)
{
    for (int i = 0; i < 2; i++) {
        for (int reads = 0; reads < DRAIN_READS && !process_subscriber_any_full(process) &&
                            source_read(&process->sources[i]);
             reads++) {}
        process_source_close(&process->sources[i]);
    }
}

/* Moves it to the ended ones; the caller has taken it out of the running ones. */
static void process_end(struct process *process, int64_t now)
{
    process->ended = true;
    process->ended_ms = now;
    process->next = NULL;
    *process_table.ended_last = process;
    process_table.ended_last = &process->next;
    process_table.ended_count++;
    process_close_input_if_free(process);
    cJSON_Delete(process->description);
    process->description = NULL;
    process_subscriber_end(process);
    pthread_cond_broadcast(&process_table.any_ended);
}

static void process_expire(struct process *process)
{
    process->deadline_ms = 0;
    process_kill(process);
    process_subscriber_expire(process);
}

/* Deadlines, ends, stalls, forgetting. Returns the time of the next one. */
static int64_t processes_check(int64_t now)
{
    int64_t next = INT64_MAX;
    struct process **link = &process_table.processes;

    while (*link != NULL) {
        struct process *process = *link;
        if (process->deadline_ms != 0) {
            if (now >= process->deadline_ms) {
                process_expire(process);
            } else if (process->deadline_ms < next) {
                next = process->deadline_ms;
            }
        }
        if (process->reaped && process->killed) {
            process_drain(process);
        }
        if (process->reaped && !process_outputs_open(process)) {
            *link = process->next;
            process_end(process, now);
            continue;
        }
        if (process->blocked && !process_subscriber_drop_stalled(process, now, &next)) {
            process_block(process, false);
        }
        link = &process->next;
    }
    while (process_table.ended != NULL && (now - process_table.ended->ended_ms >= REPLAY_MS ||
                                           process_table.ended_count > REPLAY_MAX)) {
        struct process *process = process_table.ended;
        process_table.ended = process->next;
        if (process_table.ended == NULL) {
            process_table.ended_last = &process_table.ended;
        }
        process_table.ended_count--;
        process_unref(process);
    }
    if (process_table.ended != NULL && process_table.ended->ended_ms + REPLAY_MS < next) {
        next = process_table.ended->ended_ms + REPLAY_MS;
    }
    return next;
}

/*
 * A pause freezes every process of the sandbox, and its clocks run on. Without this function every
 * command with a timeout would die on resume. The loop recognizes a pause because it sleeps longer
 * than its last turn asked for. While a deadline is set that sleep is at most PROCESS_TICK_MS, and
 * so is the error.
 */
static void processes_forgive_pause(int64_t now)
{
    const int64_t late = now - process_table.turn_ms - process_table.turn_wait_ms;

    if (process_table.turn_wait_ms < 0 || late < PAUSE_MIN_MS) {
        return;
    }
    for (struct process *process = process_table.processes; process != NULL;
         process = process->next) {
        process->deadline_ms += process->deadline_ms != 0 ? late : 0;
        process_subscriber_forgive(process, late);
    }
}

/* How long the loop may sleep when the next thing is due at `next`. */
static int loop_wait(int64_t now, int64_t next)
{
    bool deadlines = false;

    for (const struct process *process = process_table.processes; process != NULL;
         process = process->next) {
        deadlines = deadlines || process->deadline_ms != 0;
    }
    if (next == INT64_MAX) {
        return -1;
    }
    const int64_t most = deadlines ? PROCESS_TICK_MS : REPLAY_MS;
    return next <= now ? 0 : next - now < most ? (int)(next - now) : (int)most;
}

int process_loop_turn(void)
{
    struct epoll_event events[LOOP_EVENTS];
    const int count = epoll_wait(process_table.epoll_fd, events, LOOP_EVENTS, 0);

    pthread_mutex_lock(&process_table.lock);
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr == &process_table.signal_fd) {
            continue;
        }
        if (events[i].data.ptr == &process_table.wake_fd) {
            uint64_t value;
            if (read(process_table.wake_fd, &value, sizeof(value)) < 0) {
                continue;
            }
            continue;
        }
        struct source *source = events[i].data.ptr;
        if (source->process->blocked) {
            continue;
        }
        (void)source_read(source);
        if (process_subscriber_any_full(source->process)) {
            process_block(source->process, true);
        }
    }
    reap_children();
    int64_t now = clock_mono_ms();
    processes_forgive_pause(now);
    const int64_t next = processes_check(now);
    now = clock_mono_ms();
    const int wait = loop_wait(now, next);
    process_table.turn_ms = now;
    process_table.turn_wait_ms = wait;
    pthread_mutex_unlock(&process_table.lock);
    return wait;
}
