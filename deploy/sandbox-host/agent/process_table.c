/* process_table - see process_table.h. */
#include "deploy/sandbox-host/agent/process_table.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

struct process_table process_table = {.lock = PTHREAD_MUTEX_INITIALIZER};

void process_table_wake(void)
{
    const uint64_t one = 1;

    if (write(process_table.wake_fd, &one, sizeof(one)) < 0) {
        return; /* EAGAIN: it is awake already */
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

void process_source_watch(struct source *source, bool on)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = source};

    if (source->fd >= 0 && source->watched != on &&
        epoll_ctl(process_table.epoll_fd, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, source->fd, &event) ==
            0) {
        source->watched = on;
    }
}

void process_source_close(struct source *source)
{
    if (source->fd >= 0) {
        /* out of the epoll set by name: a copy of the descriptor (the terminal's writing end, a
         * child between fork and exec) would keep the registration alive past this close */
        process_source_watch(source, false);
        close(source->fd);
        source->fd = -1;
    }
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

bool process_outputs_open(const struct process *process)
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

static bool is_selected(const struct process *process, const struct process_selector *selector)
{
    return process_selector_matches(selector, process->pid, process->tag);
}

struct process *process_find(const struct process_selector *selector, bool ended_too,
                             struct connect_error *err)
{
    struct process *process = process_table.processes;

    while (process != NULL && !is_selected(process, selector)) {
        process = process->next;
    }
    if (process == NULL && ended_too) {
        /* a reused pid or tag means the latest */
        for (struct process *old = process_table.ended; old != NULL; old = old->next) {
            process = is_selected(old, selector) ? old : process;
        }
    }
    if (process == NULL) {
        (void)!process_selector_not_found(selector, err);
    }
    return process;
}
