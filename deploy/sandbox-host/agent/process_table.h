/*
 * process_table - the commands of the sandbox that run or ended a short time ago.
 *
 * Owns: the table, its lock, the files of each process. Does not own: who listens
 * (process_subscriber.h), when a process ends (process_loop.h). Threads: everything here is guarded
 * by process_table.lock, except where a field or function says otherwise.
 */
#ifndef AGENT_PROCESS_TABLE_H
#define AGENT_PROCESS_TABLE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/base/json.h"
#include "deploy/sandbox-host/agent/process_selector.h"
#include "deploy/sandbox-host/agent/process_subscriber.h"

/* Longest sleep of the loop while a process has a deadline. */
enum { PROCESS_TICK_MS = 1000 };

struct source {
    struct process *process;
    enum process_output output;
    int fd;
    bool watched; /* in the epoll set */
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
    pthread_mutex_t input_lock; /* guards `input`; locked without or before the table's lock, or
                                   with trylock */
};

struct process_table {
    pthread_mutex_t lock;
    struct process *processes;           /* running, newest first */
    struct process *ended, **ended_last; /* oldest first */
    int ended_count;
    int epoll_fd, signal_fd, wake_fd;
    int64_t turn_ms;          /* end of the loop's last turn */
    int turn_wait_ms;         /* sleep that this turn asked for; -1 = until an event */
    pthread_cond_t any_ended; /* broadcast whenever a process ends */
    char *buffer;             /* the loop's read buffer */
};
extern struct process_table process_table;

/* Makes the loop check deadlines, ends and blocked processes. Needs no lock. */
void process_table_wake(void);
void process_unref(struct process *process);
/* SIGKILL to the whole process group. The process then ends even if its pipes stay open. */
void process_kill(struct process *process);
/* Closes the input unless a writer holds it: the writer sees `ended` and closes it itself. */
void process_close_input_if_free(struct process *process);
bool process_outputs_open(const struct process *process);
void process_source_watch(struct source *source, bool on);
void process_source_close(struct source *source);
/* NULL with not_found. */
struct process *process_find(const struct process_selector *selector, bool ended_too,
                             struct connect_error *err);

#endif
