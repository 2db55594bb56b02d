/*
 * process_loop - reads the outputs of processes, reaps every child, ends processes at their
 * deadline.
 *
 * The agent is the init process of the sandbox: it reaps orphans too. An ended process can be
 * connected to for 30 s. Threads: process_loop_turn() on the main thread only; nothing else reads
 * outputs.
 */
#ifndef AGENT_PROCESS_LOOP_H
#define AGENT_PROCESS_LOOP_H

#include "common/base/error.h"

/* Once, before any thread: blocks SIGCHLD, which becomes readable in the loop. */
int process_loop_init(struct error *err) MUST_CHECK;
/* Readable when process_loop_turn() has work. */
int process_loop_fd(void);
/* Does what is due. Returns the longest wait in ms until the next turn; -1 = until the descriptor
 * is readable. */
int process_loop_turn(void);

#endif
