/*
 * loop - one thread that waits for many sockets and runs what they are ready for.
 *
 * Owns: the thread, epoll (edge-triggered), tasks that other threads hand over, a regular tick.
 * Does not own: the sockets, what is done with them. Threads: loop_post() from any; the others,
 * once it runs, from the loop's own thread, but for loop_stop() and loop_free().
 */
#ifndef PROXY_LOOP_H
#define PROXY_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"

enum { LOOP_TICK_MS = 50 };

struct loop;

/* A socket. `ready` gets the events of epoll_wait(2). */
struct loop_watch {
    int fd;
    void (*ready)(struct loop_watch *watch, uint32_t events);
};

/* Something to do once; part of a larger struct. Must not be posted again before it ran. */
struct loop_task {
    void (*run)(struct loop_task *task);
    struct loop_task *next;
};

/* `tick` is called every LOOP_TICK_MS while it returns true, and after each batch of events that
 * follows a false. No thread runs yet. */
struct loop *loop_new(bool (*tick)(void *arg), void *arg, struct error *err) MUST_CHECK;
int loop_start(struct loop *loop, struct error *err) MUST_CHECK;
/* Joins the thread; tasks and events that are left do not run. */
void loop_stop(struct loop *loop);
void loop_free(struct loop *loop);
/* From any thread. */
void loop_post(struct loop *loop, struct loop_task *task);
/* From the loop's thread: runs the task after the events at hand. */
void loop_later(struct loop *loop, struct loop_task *task);
/* -1: the kernel has no room for it. */
int loop_watch(struct loop *loop, struct loop_watch *watch);
void loop_unwatch(struct loop *loop, struct loop_watch *watch);

#endif
