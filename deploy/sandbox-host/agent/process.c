/*
 * process - table, output pump, subscribers; see process.h.
 */
#include "deploy/sandbox-host/agent/process_internal.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"

#define READ_BYTES     32768 /* one event's data; a terminal's is half */
#define READ_PTY_BYTES 16384
#define DRAIN_READS    64 /* of a killed process, before its pipes are given up */
#define LOOP_EVENTS    64
#define TICK_MS        1000
#define PAUSE_MIN_MS   2000

struct process_table process_table = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- small parts; the lock is held unless said otherwise ---- */

void process_loop_wake(void)
{
    const uint64_t one = 1;

    if (write(process_table.wake_fd, &one, sizeof(one)) < 0) {
        return; /* EAGAIN: it is awake already */
    }
}

static void chunk_release(struct process_chunk *chunk)
{
    if (--chunk->refs == 0) {
        free(chunk);
    }
}

void process_unref(struct process *process)
{
    if (--process->refs > 0) {
        return;
    }
    if (process->input >= 0) {
        close(process->input);
    }
    pthread_mutex_destroy(&process->input_lock);
    cJSON_Delete(process->description);
    free(process->tag);
    free(process);
}

static bool sub_full(const struct process_sub *sub)
{
    return !sub->dropped && !sub->expired &&
           (sub->bytes >= PROCESS_QUEUE_BYTES || sub->count == PROCESS_QUEUE_SLOTS);
}

static void sub_empty(struct process_sub *sub)
{
    while (sub->count > 0) {
        chunk_release(sub->slots[sub->first]);
        sub->first = (sub->first + 1) % PROCESS_QUEUE_SLOTS;
        sub->count--;
    }
    sub->bytes = 0;
}

static bool process_any_full(const struct process *process)
{
    for (const struct process_sub *sub = process->subs; sub != NULL; sub = sub->next) {
        if (sub_full(sub)) {
            return true;
        }
    }
    return false;
}

static void process_publish(struct process *process, enum process_output output, const char *data,
                            size_t length)
{
    struct process_chunk *chunk = NULL;

    for (struct process_sub *sub = process->subs; sub != NULL; sub = sub->next) {
        if (sub->dropped || sub->expired || sub->count == PROCESS_QUEUE_SLOTS) {
            continue;
        }
        if (chunk == NULL) {
            chunk = xmalloc(sizeof(*chunk) + length);
            chunk->refs = 0;
            chunk->output = output;
            chunk->length = length;
            memcpy(chunk->data, data, length);
        }
        chunk->refs++;
        if (sub->count == 0) {
            sub->progress_ms = clock_mono_ms();
        }
        sub->slots[(sub->first + sub->count++) % PROCESS_QUEUE_SLOTS] = chunk;
        sub->bytes += length;
        pthread_cond_signal(&sub->wake);
    }
}

static void source_watch(struct source *source, bool on)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = source};

    if (source->fd >= 0 && source->watched != on &&
        epoll_ctl(process_table.epoll_fd, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, source->fd, &event) ==
            0) {
        source->watched = on;
    }
}

static void source_close(struct source *source)
{
    if (source->fd >= 0) {
        /* out of the epoll set by name: a copy of the descriptor (the terminal's writing end, a
         * child between fork and exec) would keep the registration alive past this close */
        source_watch(source, false);
        close(source->fd);
        source->fd = -1;
    }
}

static void process_block(struct process *process, bool on)
{
    process->blocked = on;
    source_watch(&process->sources[0], !on);
    source_watch(&process->sources[1], !on);
}

void process_close_input_if_free(struct process *process)
{
    /* a writer holding it sees `ended` and closes it itself */
    if (pthread_mutex_trylock(&process->input_lock) == 0) {
        if (process->input >= 0) {
            close(process->input);
            process->input = -1;
        }
        pthread_mutex_unlock(&process->input_lock);
    }
}

static bool process_outputs_open(const struct process *process)
{
    return process->sources[0].fd >= 0 || process->sources[1].fd >= 0;
}

/* The whole group: what the command started belongs to it. */
void process_kill(struct process *process)
{
    if (!process->reaped || process_outputs_open(process)) {
        (void)kill(-process->pid, SIGKILL);
    }
    if (!process->reaped) {
        (void)kill(process->pid, SIGKILL);
    }
    process->killed = true;
}

static bool selector_matches(const struct process *process, const struct process_selector *selector)
{
    if (selector->pid != 0) {
        return process->pid == (pid_t)selector->pid;
    }
    return selector->tag != NULL && process->tag != NULL &&
           strcmp(process->tag, selector->tag) == 0;
}

struct process *process_find(const struct process_selector *selector, bool ended_too,
                             struct connect_error *err)
{
    struct process *process = process_table.processes;

    while (process != NULL && !selector_matches(process, selector)) {
        process = process->next;
    }
    if (process == NULL && ended_too) {
        /* a reused pid or tag means the latest */
        for (struct process *old = process_table.ended; old != NULL; old = old->next) {
            process = selector_matches(old, selector) ? old : process;
        }
    }
    if (process == NULL) {
        if (selector->pid != 0) {
            connect_fail(err, CONNECT_NOT_FOUND, "process with pid %lu not found",
                         (unsigned long)selector->pid);
        } else {
            connect_fail(err, CONNECT_NOT_FOUND, "process with tag %.200s not found",
                         selector->tag != NULL ? selector->tag : "");
        }
    }
    return process;
}

/* ---- the loop ---- */

int process_init(struct error *err)
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
        source_close(source);
        return false;
    }
    process_publish(process, source->output, process_table.buffer, (size_t)n);
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
        for (int reads = 0;
             reads < DRAIN_READS && !process_any_full(process) && source_read(&process->sources[i]);
             reads++) {}
        source_close(&process->sources[i]);
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
    for (struct process_sub *sub = process->subs; sub != NULL; sub = sub->next) {
        pthread_cond_signal(&sub->wake);
    }
    pthread_cond_broadcast(&process_table.any_ended);
}

static void process_expire(struct process *process)
{
    process->deadline_ms = 0;
    process_kill(process);
    for (struct process_sub *sub = process->subs; sub != NULL; sub = sub->next) {
        if (sub->owner) {
            sub->expired = true;
            sub_empty(sub);
            pthread_cond_signal(&sub->wake);
        }
    }
}

static void process_unblock(struct process *process, int64_t now, int64_t *next)
{
    bool full = false;

    for (struct process_sub *sub = process->subs; sub != NULL; sub = sub->next) {
        if (!sub_full(sub)) {
            continue;
        }
        if (now - sub->progress_ms >= PROCESS_STALL_MS) {
            sub->dropped = true;
            sub_empty(sub);
            pthread_cond_signal(&sub->wake);
        } else {
            full = true;
            *next = sub->progress_ms + PROCESS_STALL_MS < *next
                        ? sub->progress_ms + PROCESS_STALL_MS
                        : *next;
        }
    }
    if (!full) {
        process_block(process, false);
    }
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
        if (process->blocked) {
            process_unblock(process, now, &next);
        }
        link = &process->next;
    }
    while (process_table.ended != NULL &&
           (now - process_table.ended->ended_ms >= PROCESS_REPLAY_MS ||
            process_table.ended_count > PROCESS_REPLAY_MAX)) {
        struct process *process = process_table.ended;
        process_table.ended = process->next;
        if (process_table.ended == NULL) {
            process_table.ended_last = &process_table.ended;
        }
        process_table.ended_count--;
        process_unref(process);
    }
    if (process_table.ended != NULL && process_table.ended->ended_ms + PROCESS_REPLAY_MS < next) {
        next = process_table.ended->ended_ms + PROCESS_REPLAY_MS;
    }
    return next;
}

/*
 * A paused sandbox is frozen whole, clocks run on: without this, every command with a timeout would
 * die on resume. Oversleeping the wait that the last turn asked for is how a pause shows; while a
 * deadline is set that wait is at most TICK_MS, and so is the error.
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
        for (struct process_sub *sub = process->subs; sub != NULL; sub = sub->next) {
            sub->progress_ms += late;
        }
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
    const int64_t most = deadlines ? TICK_MS : PROCESS_REPLAY_MS;
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
        if (process_any_full(source->process)) {
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

bool process_any(void)
{
    pthread_mutex_lock(&process_table.lock);
    const bool any = process_table.processes != NULL;
    pthread_mutex_unlock(&process_table.lock);
    return any;
}

void process_kill_all(void)
{
    pthread_mutex_lock(&process_table.lock);
    for (struct process *process = process_table.processes; process != NULL;
         process = process->next) {
        process_kill(process);
    }
    pthread_mutex_unlock(&process_table.lock);
}

/* ---- subscribers ---- */

static struct process_sub *sub_add(struct process *process, bool owner)
{
    struct process_sub *sub = xcalloc(1, sizeof(*sub));

    sub->process = process;
    sub->owner = owner;
    sub->progress_ms = clock_mono_ms();
    clock_cond_init(&sub->wake);
    sub->next = process->subs;
    process->subs = sub;
    process->refs++;
    return sub;
}

int process_start(const struct spawn_spec *spec, cJSON *description, const char *tag,
                  int64_t timeout_ms, struct process_sub **ret_sub, uint32_t *ret_pid,
                  struct connect_error *err)
{
    struct spawned child;
    struct error cause = ERROR_INIT;
    struct process *process = xcalloc(1, sizeof(*process));

    process->refs = 1;
    process->description = description;
    process->tag = tag != NULL ? xstrdup(tag) : NULL;
    process->pty = spec->pty;
    process->input = -1;
    pthread_mutex_init(&process->input_lock, NULL);
    if (timeout_ms >= 0) {
        process->deadline_ms = clock_mono_ms() + timeout_ms;
    }
    /* under the lock, so that the child cannot be reaped before it is in the table */
    pthread_mutex_lock(&process_table.lock);
    if (spawn(spec, &child, &cause) != 0) {
        process_unref(process);
        pthread_mutex_unlock(&process_table.lock);
        return connect_fail_from(err, CONNECT_INTERNAL, "", &cause);
    }
    process->pid = child.pid;
    process->input = child.input;
    for (int i = 0; i < 2; i++) {
        process->sources[i] = (struct source){
            .process = process,
            .fd = child.outputs[i],
            .output = spec->pty ? PROCESS_PTY
                      : i == 0  ? PROCESS_STDOUT
                                : PROCESS_STDERR,
        };
        source_watch(&process->sources[i], true);
    }
    process->next = process_table.processes;
    process_table.processes = process;
    *ret_pid = (uint32_t)child.pid;
    *ret_sub = sub_add(process, true);
    if (timeout_ms >= 0) { /* a pause may come before the loop has seen the new deadline */
        process_table.turn_ms = clock_mono_ms();
        process_table.turn_wait_ms = TICK_MS;
    }
    pthread_mutex_unlock(&process_table.lock);
    if (timeout_ms >= 0) {
        process_loop_wake(); /* it may be waiting for a later deadline */
    }
    return 0;
}

int process_connect(const struct process_selector *selector, struct process_sub **ret_sub,
                    uint32_t *ret_pid, struct connect_error *err)
{
    int result = -1;

    pthread_mutex_lock(&process_table.lock);
    struct process *process = process_find(selector, true, err);
    if (process != NULL) {
        *ret_pid = (uint32_t)process->pid;
        *ret_sub = sub_add(process, false);
        result = 0;
    }
    pthread_mutex_unlock(&process_table.lock);
    return result;
}

void process_wait(struct process_sub *sub, int64_t wait_ms, struct process_news *ret)
{
    const struct timespec until = clock_cond_until(wait_ms);

    ret->count = 0;
    pthread_mutex_lock(&process_table.lock);
    while (sub->count == 0 && !sub->expired && !sub->dropped && !sub->process->ended &&
           pthread_cond_timedwait(&sub->wake, &process_table.lock, &until) == 0) {}
    if (sub->expired) {
        ret->kind = PROCESS_EXPIRED;
    } else if (sub->dropped) {
        ret->kind = PROCESS_DROPPED;
    } else if (sub->count > 0) {
        ret->kind = PROCESS_DATA;
        while (sub->count > 0 && ret->count < PROCESS_BATCH) {
            struct process_chunk *chunk = sub->slots[sub->first];
            sub->first = (sub->first + 1) % PROCESS_QUEUE_SLOTS;
            sub->count--;
            sub->bytes -= chunk->length;
            ret->chunks[ret->count++] = chunk;
        }
        sub->progress_ms = clock_mono_ms();
        if (sub->process->blocked) {
            process_loop_wake();
        }
    } else if (sub->process->ended) {
        ret->kind = PROCESS_ENDED;
        ret->wait_status = sub->process->wait_status;
    } else {
        ret->kind = PROCESS_IDLE;
    }
    pthread_mutex_unlock(&process_table.lock);
}

void process_news_done(struct process_news *news)
{
    pthread_mutex_lock(&process_table.lock);
    for (int i = 0; i < news->count; i++) {
        chunk_release(news->chunks[i]);
    }
    pthread_mutex_unlock(&process_table.lock);
    news->count = 0;
}

void process_unsubscribe(struct process_sub *sub)
{
    pthread_mutex_lock(&process_table.lock);
    struct process *process = sub->process;
    struct process_sub **link = &process->subs;
    while (*link != sub) {
        link = &(*link)->next;
    }
    *link = sub->next;
    sub_empty(sub);
    if (process->blocked) {
        process_loop_wake();
    }
    process_unref(process);
    pthread_mutex_unlock(&process_table.lock);
    pthread_cond_destroy(&sub->wake);
    free(sub);
}
