/*
 * command - table, reader thread, ends; see command.h. Starting and killing: command_spawn.c.
 */
#include "deploy/template/tool-server/command.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/id.h"
#include "deploy/template/tool-server/command_spawn.h"
#include "deploy/template/tool-server/output.h"

enum { READ_BYTES = 16384, LAST_READS = 16, EVENTS = 16, END_MS = 1000 };

struct source {
    struct command *command; /* NULL: the wake-up descriptor */
    int fd;                  /* -1 = closed */
};

struct command {
    int refs; /* the table, the reader while a source is open, callers */
    bool listed;
    bool kill_wanted;
    struct command_state state;
    struct output output;
    struct source out, process;                /* the pipe; the pidfd */
    pid_t pid;                                 /* not reaped while process.fd >= 0 */
    int64_t started_ms, deadline_ms, grace_ms; /* 0 = none */
    struct command *next;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t news;
    pthread_t reader;
    struct command *list; /* oldest first */
    struct source wake;
    int epoll_fd, max;
    bool ending;   /* nothing is started any more */
    bool stopping; /* the reader ends */
} table = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- small parts; the lock is held ---- */

static void wake_reader(void)
{
    const uint64_t one = 1;

    if (write(table.wake.fd, &one, sizeof(one)) < 0) {
        return; /* EAGAIN: it is awake already */
    }
}

static void unref(struct command *command)
{
    if (--command->refs == 0) {
        output_done(&command->output);
        free(command);
    }
}

static void source_close(struct source *source)
{
    if (source->fd >= 0) {
        close(source->fd); /* the only descriptor of it, so epoll forgets it too */
        source->fd = -1;
        unref(source->command);
    }
}

static int source_open(struct source *source, struct command *command, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = source};

    *source = (struct source){.command = command, .fd = fd};
    return epoll_ctl(table.epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static void unlist(struct command *command)
{
    for (struct command **at = &table.list; *at != NULL; at = &(*at)->next) {
        if (*at == command) {
            *at = command->next;
            command->listed = false;
            unref(command);
            return;
        }
    }
}

static void set_over(struct command *command)
{
    command->state.running = false;
    command->state.held = command->out.fd >= 0;
    command->state.duration_ms = clock_mono_ms() - command->started_ms;
    command->grace_ms = command->deadline_ms = 0;
    pthread_cond_broadcast(&table.news);
}

/* ---- the reader ---- */

/* True when there may be more. */
static bool read_output(struct command *command)
{
    char buffer[READ_BYTES];
    const ssize_t n = read(command->out.fd, buffer, sizeof(buffer));

    if (n > 0) {
        output_put(&command->output, buffer, (size_t)n);
        command->state.bytes = command->output.total;
        pthread_cond_broadcast(&table.news);
        return true;
    }
    if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        command->state.held = false;
        if (command->state.running && command->process.fd < 0) {
            command->refs++;
            source_close(&command->out);
            set_over(command);
            unref(command);
        } else {
            source_close(&command->out);
        }
    }
    return false;
}

static void reap(struct command *command)
{
    siginfo_t info = {.si_pid = 0};

    if (waitid(P_PIDFD, (id_t)command->process.fd, &info, WEXITED | WNOHANG) != 0 ||
        info.si_pid == 0) {
        return;
    }
    command->state.exit_code = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
    command->refs++;
    source_close(&command->process);
    if (command->out.fd < 0) {
        set_over(command);
    } else {
        command->grace_ms = clock_mono_ms() + COMMAND_GRACE_MS;
    }
    unref(command);
}

/* Something it started holds its output; or this thread came late, and all of it is there to read.
 */
static void end_grace(struct command *command)
{
    for (int i = 0; i < LAST_READS && command->out.fd >= 0 && read_output(command); i++) {}
    if (command->state.running) {
        set_over(command);
    }
}

/* What time has brought; returns ms until the next, -1 = nothing. */
static int do_due(void)
{
    const int64_t now = clock_mono_ms();
    int64_t next = INT64_MAX;

    for (struct command *command = table.list; command != NULL; command = command->next) {
        if (command->process.fd >= 0 && command->deadline_ms > 0 && command->deadline_ms <= now) {
            command->state.timed_out = true;
            command->deadline_ms = 0;
            command->kill_wanted = true;
        }
        if (command->kill_wanted) {
            command->kill_wanted = false;
            command_spawn_kill(command->process.fd >= 0 ? command->pid : 0, command->state.id);
        }
        if (command->grace_ms > 0 && command->grace_ms <= now) {
            end_grace(command);
        }
        if (command->grace_ms > 0 && command->grace_ms < next) {
            next = command->grace_ms;
        }
        if (command->deadline_ms > 0 && command->deadline_ms < next) {
            next = command->deadline_ms;
        }
    }
    return next == INT64_MAX ? -1 : (int)(next - now > 60000 ? 60000 : next - now);
}

static void take_wake_up(void)
{
    uint64_t count;

    if (read(table.wake.fd, &count, sizeof(count)) < 0) {
        return; /* EAGAIN: taken already */
    }
}

static void *read_all(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&table.lock);
    while (!table.stopping) {
        struct epoll_event events[EVENTS];
        const int timeout = do_due();
        int count;

        pthread_mutex_unlock(&table.lock);
        count = epoll_wait(table.epoll_fd, events, EVENTS, timeout);
        pthread_mutex_lock(&table.lock);
        for (int i = 0; i < count; i++) {
            /* alive: only this thread closes sources, and each has at most one event */
            const struct source *source = events[i].data.ptr;

            if (source->command == NULL) {
                take_wake_up();
            } else if (source == &source->command->out) {
                (void)read_output(source->command);
            }
        }
        /* ends after outputs, so that what was printed before the end is there; a command whose
         * last reference went with its pipe has no end to come */
        for (struct command *command = table.list, *next; command != NULL; command = next) {
            next = command->next;
            if (command->process.fd >= 0) {
                reap(command);
            }
        }
    }
    pthread_mutex_unlock(&table.lock);
    return NULL;
}

/* ---- callers ---- */

int commands_init(int max, struct error *err)
{
    int status;

    table.max = max;
    table.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    table.wake = (struct source){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (table.epoll_fd < 0 || table.wake.fd < 0 ||
        source_open(&table.wake, NULL, table.wake.fd) != 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "epoll");
    }
    clock_cond_init(&table.news);
    status = pthread_create(&table.reader, NULL, read_all, NULL);
    return status == 0 ? 0 : error_set_errno(err, ERR_INTERNAL, status, "starting the reader");
}

void commands_done(void)
{
    const int64_t until_ms = clock_mono_ms() + END_MS;
    bool running = true;

    pthread_mutex_lock(&table.lock);
    table.ending = true;
    for (struct command *command = table.list; command != NULL; command = command->next) {
        command->kill_wanted = true;
    }
    wake_reader();
    pthread_mutex_unlock(&table.lock);
    while (running && clock_mono_ms() < until_ms) {
        running = false;
        pthread_mutex_lock(&table.lock);
        for (struct command *command = table.list; command != NULL; command = command->next) {
            running = running || command->process.fd >= 0 || command->kill_wanted;
        }
        pthread_mutex_unlock(&table.lock);
        if (running) {
            clock_sleep_ms(5);
        }
    }
    pthread_mutex_lock(&table.lock);
    table.stopping = true;
    wake_reader();
    pthread_mutex_unlock(&table.lock);
    pthread_join(table.reader, NULL);
    /* calls that waited are on their way out, each with a reference of its own */
    pthread_mutex_lock(&table.lock);
    for (struct command *command = table.list, *next; command != NULL; command = next) {
        next = command->next;
        command->listed = false;
        source_close(&command->out);
        source_close(&command->process);
        unref(command);
    }
    table.list = NULL;
    pthread_mutex_unlock(&table.lock);
}

/* Makes room for one more: the lock is held. */
static int make_room(struct error *err)
{
    struct command *ended = NULL;
    int count = 0;

    if (table.ending) {
        return error_set(err, ERR_DRAINING, "the tool server is shutting down");
    }
    for (struct command *command = table.list; command != NULL; command = command->next) {
        count++;
        if (ended == NULL && !command->state.running && !command->state.held) {
            ended = command;
        }
    }
    if (count < table.max) {
        return 0;
    }
    if (ended == NULL) {
        return error_set(err, ERR_LIMIT,
                         "%d commands are running already; end one with kill_command first", count);
    }
    unlist(ended);
    return 0;
}

static struct command *command_new(const struct command_spec *spec)
{
    struct command *command = xcalloc(1, sizeof(*command));

    command->refs = 2; /* the table's and the caller's */
    command->out.fd = command->process.fd = -1;
    id_random_alnum(command->state.id, COMMAND_ID_BYTES - 1);
    (void)str_copy(command->state.title, sizeof(command->state.title), spec->title);
    command->state.running = true;
    output_init(&command->output, spec->output_bytes);
    command->started_ms = clock_mono_ms();
    command->deadline_ms = spec->timeout_ms > 0 ? command->started_ms + spec->timeout_ms : 0;
    return command;
}

int command_start(const struct command_spec *spec, struct command **ret, struct error *err)
{
    struct command *command = command_new(spec);
    struct command_spawned spawned;
    struct command **end;

    pthread_mutex_lock(&table.lock);
    if (make_room(err) != 0 || command_spawn(spec, command->state.id, &spawned, err) != 0) {
        pthread_mutex_unlock(&table.lock);
        output_done(&command->output);
        free(command);
        return -1;
    }
    command->pid = spawned.pid;
    command->refs += 2;
    command->listed = true;
    for (end = &table.list; *end != NULL; end = &(*end)->next) {}
    *end = command;
    if (source_open(&command->out, command, spawned.out) != 0 ||
        source_open(&command->process, command, spawned.pidfd) != 0) {
        /* of memory only; the reader still sees its end, by reap() */
        command->kill_wanted = true;
    }
    wake_reader(); /* its deadline */
    pthread_mutex_unlock(&table.lock);
    *ret = command;
    return 0;
}

struct command *command_find(const char *id)
{
    struct command *found = NULL;

    pthread_mutex_lock(&table.lock);
    for (struct command *command = table.list; command != NULL; command = command->next) {
        if (strcmp(command->state.id, id) == 0) {
            found = command;
            found->refs++;
        }
    }
    pthread_mutex_unlock(&table.lock);
    return found;
}

void command_unref(struct command *command)
{
    pthread_mutex_lock(&table.lock);
    unref(command);
    pthread_mutex_unlock(&table.lock);
}

void command_forget(struct command *command)
{
    pthread_mutex_lock(&table.lock);
    if (command->listed && !command->state.running && !command->state.held) {
        unlist(command);
    }
    pthread_mutex_unlock(&table.lock);
}

void command_wait(struct command *command, uint64_t bytes, int64_t wait_ms)
{
    const struct timespec until = clock_cond_until(wait_ms);

    pthread_mutex_lock(&table.lock);
    while (command->state.running && command->state.bytes <= bytes &&
           pthread_cond_timedwait(&table.news, &table.lock, &until) == 0) {}
    pthread_mutex_unlock(&table.lock);
}

/* The lock is held. */
static void look(const struct command *command, struct command_state *ret)
{
    *ret = command->state;
    if (ret->running) {
        ret->duration_ms = clock_mono_ms() - command->started_ms;
    }
}

void command_look(struct command *command, struct command_state *ret)
{
    pthread_mutex_lock(&table.lock);
    look(command, ret);
    pthread_mutex_unlock(&table.lock);
}

void command_output(struct command *command, uint64_t offset, struct strbuf *out)
{
    pthread_mutex_lock(&table.lock);
    output_get(&command->output, offset, out);
    pthread_mutex_unlock(&table.lock);
}

void command_kill(struct command *command, int signal)
{
    pthread_mutex_lock(&table.lock);
    if (signal == SIGKILL) {
        command->state.killed = command->state.killed || command->state.running;
        command->kill_wanted = true;
        wake_reader();
    } else if (command->process.fd >= 0) {
        (void)kill(-command->pid, signal); /* not reaped: the group is still its own */
    }
    pthread_mutex_unlock(&table.lock);
}

void commands_each(void (*each)(void *arg, const struct command_state *state), void *arg)
{
    pthread_mutex_lock(&table.lock);
    for (const struct command *command = table.list; command != NULL; command = command->next) {
        struct command_state state;

        look(command, &state);
        each(arg, &state);
    }
    pthread_mutex_unlock(&table.lock);
}
