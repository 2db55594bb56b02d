/*
 * process_internal - the process table, shared by the files of process.h.
 *
 * process.c runs the loop and the subscribers, process_control.c what clients do to a process.
 * Everything here is guarded by table.lock but where a field says otherwise.
 */
#ifndef AGENT_PROCESS_INTERNAL_H
#define AGENT_PROCESS_INTERNAL_H

#include <pthread.h>

#include "deploy/sandbox-host/agent/process.h"

struct source {
    struct process *process;
    enum process_output output;
    int fd;
    bool watched; /* in the epoll set */
};

struct process_sub {
    struct process *process;
    struct process_sub *next;
    pthread_cond_t wake;
    struct process_chunk *slots[PROCESS_QUEUE_SLOTS];
    unsigned first, count;
    size_t bytes;
    int64_t progress_ms; /* when it last took something, or was last empty */
    bool owner;          /* the Start call's: hears of the deadline */
    bool expired, dropped;
};

struct process {
    struct process *next;
    int refs;
    pid_t pid;
    char *tag;
    cJSON *description;
    struct source sources[2];
    int input;
    bool pty;
    bool reaped, killed, ended, blocked;
    int wait_status;
    int64_t deadline_ms; /* 0 = none */
    int64_t ended_ms;
    struct process_sub *subs;
    pthread_mutex_t input_lock; /* guards input; taken without or before table.lock, or tried */
};

struct process_table {
    pthread_mutex_t lock;
    struct process *processes;           /* running, newest first */
    struct process *ended, **ended_last; /* oldest first */
    int ended_count;
    int epoll_fd, signal_fd, wake_fd;
    int64_t turn_ms;          /* end of the loop's last turn */
    int turn_wait_ms;         /* and how long it meant to sleep, -1 = until an event */
    pthread_cond_t any_ended; /* broadcast whenever a process ends */
    char *buffer;             /* the loop's read buffer */
};
extern struct process_table process_table;

/* Makes the loop look at deadlines, ends and blocked processes. Needs no lock. */
void process_loop_wake(void);
void process_unref(struct process *process);
/* SIGKILL to the whole group; its end does not wait for its pipes. */
void process_kill(struct process *process);
/* Closes the input unless a writer holds it: that one sees `ended` and closes it itself. */
void process_close_input_if_free(struct process *process);
/* NULL + not_found. */
struct process *process_find(const struct process_selector *selector, bool ended_too,
                             struct connect_error *err);

#endif
