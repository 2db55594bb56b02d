/* process_control - see process_control.h. */
#include "deploy/sandbox-host/agent/process_control.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "deploy/sandbox-host/agent/process_table.h"

#define WRITE_SLICE_MS 100
#define KILL_WAIT_MS   1000 /* for a killed process to be gone; one in the kernel's hands is not */

cJSON *process_list(void)
{
    cJSON *list = cJSON_CreateArray();

    pthread_mutex_lock(&process_table.lock);
    for (const struct process *process = process_table.processes; process != NULL;
         process = process->next) {
        cJSON *info = cJSON_CreateObject();
        cJSON_AddItemToObject(info, "config", cJSON_Duplicate(process->description, true));
        cJSON_AddNumberToObject(info, "pid", process->pid);
        if (process->tag != NULL) {
            cJSON_AddStringToObject(info, "tag", process->tag);
        }
        cJSON_AddItemToArray(list, info);
    }
    pthread_mutex_unlock(&process_table.lock);
    return list;
}

int process_check(const struct process_selector *selector, struct connect_error *err)
{
    pthread_mutex_lock(&process_table.lock);
    const bool found = process_find(selector, false, err) != NULL;
    pthread_mutex_unlock(&process_table.lock);
    return found ? 0 : -1;
}

/* The caller holds the lock and a reference. */
static void await_end(const struct process *process)
{
    const struct timespec until = clock_cond_until(KILL_WAIT_MS);

    while (!process->ended &&
           pthread_cond_timedwait(&process_table.any_ended, &process_table.lock, &until) == 0) {}
}

int process_signal(const struct process_selector *selector, int signal, struct connect_error *err)
{
    pthread_mutex_lock(&process_table.lock);
    struct process *process = process_find(selector, false, err);
    if (process == NULL) {
        pthread_mutex_unlock(&process_table.lock);
        return -1;
    }
    if (signal == SIGKILL) {
        process_kill(process);
        process_table_wake();
        /* the caller must not find it alive, or as a zombie, after the answer */
        process->refs++;
        await_end(process);
        process_unref(process);
    } else {
        if (!process->reaped) {
            (void)kill(process->pid, signal);
        }
        process->killed = true;
        process_table_wake();
    }
    pthread_mutex_unlock(&process_table.lock);
    return 0;
}

/* A reference and the input lock, or an error. */
static struct process *input_acquire(const struct process_selector *selector,
                                     struct connect_error *err)
{
    pthread_mutex_lock(&process_table.lock);
    struct process *process = process_find(selector, false, err);
    if (process != NULL) {
        process->refs++;
    }
    pthread_mutex_unlock(&process_table.lock);
    if (process != NULL) {
        pthread_mutex_lock(&process->input_lock);
    }
    return process;
}

static bool process_has_ended(struct process *process)
{
    pthread_mutex_lock(&process_table.lock);
    const bool ended = process->ended;
    pthread_mutex_unlock(&process_table.lock);
    return ended;
}

static void input_release(struct process *process)
{
    pthread_mutex_unlock(&process->input_lock);
    pthread_mutex_lock(&process_table.lock);
    if (process->ended) {
        process_close_input_if_free(process);
    }
    process_unref(process);
    pthread_mutex_unlock(&process_table.lock);
}

static int input_write(struct process *process, bool pty, const char *data, size_t length,
                       int64_t wait_ms, struct connect_error *err)
{
    const char *where = pty ? "tty" : "stdin";
    const int64_t until = clock_mono_ms() + wait_ms;

    if (pty != process->pty) {
        return connect_fail(err, CONNECT_INTERNAL,
                            pty ? "error writing to tty: tty not assigned to process"
                                : "error writing to stdin: tty assigned to process - input should "
                                  "be written to the pty, not the stdin");
    }
    if (process->input < 0) {
        return connect_fail(err, CONNECT_INTERNAL,
                            "error writing to %s: stdin not enabled or closed", where);
    }
    while (length > 0) {
        const ssize_t n = write(process->input, data, length);
        if (n > 0) {
            data += n;
            length -= (size_t)n;
            continue;
        }
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            const int failure = errno;
            return connect_fail(err, CONNECT_INTERNAL,
                                "error writing to %s: error writing to %s of process '%d': %s",
                                where, where, (int)process->pid, strerrordesc_np(failure));
        }
        struct pollfd wait = {.fd = process->input, .events = POLLOUT};
        (void)poll(&wait, 1, WRITE_SLICE_MS);
        if (process_has_ended(process)) {
            return connect_fail(err, CONNECT_NOT_FOUND, "process with pid %d not found",
                                (int)process->pid);
        }
        if (clock_mono_ms() >= until) {
            return connect_fail(err, CONNECT_DEADLINE_EXCEEDED,
                                "the process with pid %d does not read its input",
                                (int)process->pid);
        }
    }
    return 0;
}

int process_write(const struct process_selector *selector, bool pty, const char *data,
                  size_t length, int64_t wait_ms, struct connect_error *err)
{
    struct process *process = input_acquire(selector, err);

    if (process == NULL) {
        return -1;
    }
    const int result = input_write(process, pty, data, length, wait_ms, err);
    input_release(process);
    return result;
}

int process_close_stdin(const struct process_selector *selector, struct connect_error *err)
{
    int result = 0;
    struct process *process = input_acquire(selector, err);

    if (process == NULL) {
        return -1;
    }
    if (process->pty) {
        result = connect_fail(err, CONNECT_UNKNOWN,
                              "error closing stdin: cannot close stdin for PTY process - send "
                              "Ctrl+D (0x04) instead");
    } else if (process->input >= 0) {
        close(process->input);
        process->input = -1;
    }
    input_release(process);
    return result;
}

int process_resize(const struct process_selector *selector, unsigned columns, unsigned rows,
                   struct connect_error *err)
{
    const struct winsize size = {
        .ws_col = (unsigned short)columns,
        .ws_row = (unsigned short)rows,
    };
    int result = -1;

    pthread_mutex_lock(&process_table.lock);
    struct process *process = process_find(selector, false, err);
    if (process != NULL && !process->pty) {
        connect_fail(err, CONNECT_INTERNAL, "error resizing tty: tty not assigned to process");
    } else if (process != NULL) {
        /* the read end: open as long as the process has not ended */
        if (process->sources[0].fd >= 0) {
            (void)ioctl(process->sources[0].fd, TIOCSWINSZ, &size);
        }
        result = 0;
    }
    pthread_mutex_unlock(&process_table.lock);
    return result;
}
