/*
 * process_subscriber - who listens to a process: queues of its output, its end, its deadline.
 *
 * Owns: the queues. Back-pressure: a subscriber's queue holds at most 1 MiB or 512 chunks. While
 * one is full, the loop does not read the process' outputs, and the command blocks on its pipe. A
 * subscriber that takes nothing for 10 s is dropped, and the command runs on.
 * Threads: any, except where it says otherwise.
 */
#ifndef AGENT_PROCESS_SUBSCRIBER_H
#define AGENT_PROCESS_SUBSCRIBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "deploy/sandbox-host/agent/process_selector.h"

struct process_sub;
struct process;

enum process_output { PROCESS_STDOUT, PROCESS_STDERR, PROCESS_PTY };

/* Output bytes shared by all subscribers of a process. */
struct process_chunk {
    int refs;
    enum process_output output;
    size_t length;
    char data[];
};

enum { PROCESS_BATCH = 8, PROCESS_STALL_MS = 10000 };
enum process_signal_kind {
    PROCESS_DATA,    /* `chunks`, `count` */
    PROCESS_IDLE,    /* nothing happened in the time given */
    PROCESS_ENDED,   /* `wait_status` */
    PROCESS_EXPIRED, /* the process' deadline passed; only the stream that set it gets this */
    PROCESS_DROPPED, /* this subscriber was too slow */
};
struct process_news {
    enum process_signal_kind kind;
    struct process_chunk *chunks[PROCESS_BATCH];
    int count;
    int wait_status;
};

/* Subscribes to later output; an ended process delivers its end at once. */
int process_connect(const struct process_selector *selector, struct process_sub **ret_sub,
                    uint32_t *ret_pid, struct connect_error *err) MUST_CHECK;
/* Waits at most wait_ms. Chunks belong to the caller: process_news_done(). */
void process_wait(struct process_sub *sub, int64_t wait_ms, struct process_news *ret);
void process_news_done(struct process_news *news);
void process_unsubscribe(struct process_sub *sub);

/* ---- for the loop and the start of a process, with the table's lock held ---- */

/* `owner`: the subscriber that gets PROCESS_EXPIRED. */
struct process_sub *process_subscriber_add(struct process *process, bool owner);
void process_subscriber_publish(struct process *process, enum process_output output,
                                const char *data, size_t length);
bool process_subscriber_any_full(const struct process *process);
/* Drops subscribers that took nothing for too long. True: another one is still full; *next becomes
 * the time when the first of these is to be dropped, if that is earlier. */
bool process_subscriber_drop_stalled(struct process *process, int64_t now, int64_t *next);
void process_subscriber_expire(struct process *process);
void process_subscriber_end(struct process *process);
/* The sandbox was paused for late_ms: no subscriber could take anything meanwhile. */
void process_subscriber_forgive(struct process *process, int64_t late_ms);

#endif
