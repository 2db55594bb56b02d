/*
 * process - the commands running in the sandbox and who listens to them.
 *
 * Owns: the process table, reading stdout/stderr/pty, fan-out to subscribers, deadlines, reaping
 * every child (the agent is the sandbox's init), the 30 s in which an ended process can still be
 * connected to. Does not own: fork and exec (spawn), the wire (rpc_process).
 *
 * Threads: process_loop_turn() runs on the main thread only and is the one reader of outputs;
 * everything else may be called from any thread; one lock guards the table and all queues.
 *
 * Back-pressure: a subscriber holds at most PROCESS_QUEUE_BYTES. When one is full, the process'
 * outputs are left unread (the command blocks on its pipe) until it takes something; if it takes
 * nothing for PROCESS_STALL_MS it is dropped, and the command runs on.
 */
#ifndef AGENT_PROCESS_H
#define AGENT_PROCESS_H

#include "common/base/json.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "deploy/sandbox-host/agent/connect.h"
#include "deploy/sandbox-host/agent/spawn.h"

#define PROCESS_QUEUE_BYTES (1u << 20)
#define PROCESS_QUEUE_SLOTS 512
#define PROCESS_STALL_MS    10000
#define PROCESS_REPLAY_MS   30000
#define PROCESS_REPLAY_MAX  4096

struct process_sub;

enum process_output { PROCESS_STDOUT, PROCESS_STDERR, PROCESS_PTY };

/* Output bytes shared by all subscribers of a process. */
struct process_chunk {
    int refs;
    enum process_output output;
    size_t length;
    char data[];
};

#define PROCESS_BATCH 8
enum process_signal_kind {
    PROCESS_DATA,    /* `chunks`, `count` */
    PROCESS_IDLE,    /* nothing until the time given */
    PROCESS_ENDED,   /* `wait_status` */
    PROCESS_EXPIRED, /* the process' deadline, seen by the stream that set it */
    PROCESS_DROPPED, /* this subscriber was too slow */
};
struct process_news {
    enum process_signal_kind kind;
    struct process_chunk *chunks[PROCESS_BATCH];
    int count;
    int wait_status;
};

struct process_selector {
    uint32_t pid; /* 0: by tag */
    const char *tag;
};

/* Once, before any thread: SIGCHLD is blocked and becomes readable in the loop. */
int process_init(struct error *err) MUST_CHECK;
/* A descriptor that is readable when process_loop_turn() has work; the loop waits at most
 * *ret_timeout_ms for it. */
int process_loop_fd(void);
/* Does what is due; returns ms until something is due without an event (-1 = never). */
int process_loop_turn(void);
/* Kills every process; for the agent's own end. */
void process_kill_all(void);
bool process_any(void); /* has one that has not ended */

/*
 * Starts a command and subscribes to it before its first byte. `description` is the ProcessConfig
 * that List shows (ownership moves), timeout_ms < 0 = none. The subscriber is the one that hears
 * of the deadline.
 */
int process_start(const struct spawn_spec *spec, cJSON *description, const char *tag,
                  int64_t timeout_ms, struct process_sub **ret_sub, uint32_t *ret_pid,
                  struct connect_error *err) MUST_CHECK;
/* Subscribes to later output; an ended process delivers its end at once. */
int process_connect(const struct process_selector *selector, struct process_sub **ret_sub,
                    uint32_t *ret_pid, struct connect_error *err) MUST_CHECK;
/* Waits at most wait_ms. Chunks belong to the caller: process_news_done(). */
void process_wait(struct process_sub *sub, int64_t wait_ms, struct process_news *ret);
void process_news_done(struct process_news *news);
void process_unsubscribe(struct process_sub *sub);

/* Array of ProcessInfo for the running ones. */
cJSON *process_list(void);
/* not_found unless it runs. */
int process_check(const struct process_selector *selector, struct connect_error *err) MUST_CHECK;
int process_signal(const struct process_selector *selector, int signal,
                   struct connect_error *err) MUST_CHECK;
/* Writes all bytes; waits while the command does not read, at most wait_ms. */
int process_write(const struct process_selector *selector, bool pty, const char *data,
                  size_t length, int64_t wait_ms, struct connect_error *err) MUST_CHECK;
int process_close_stdin(const struct process_selector *selector,
                        struct connect_error *err) MUST_CHECK;
int process_resize(const struct process_selector *selector, unsigned columns, unsigned rows,
                   struct connect_error *err) MUST_CHECK;

#endif
