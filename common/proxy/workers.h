/*
 * workers - threads for what may wait: as many as there is work, up to a limit.
 *
 * Owns: the threads, the queue. Threads: workers_run() from any.
 */
#ifndef PROXY_WORKERS_H
#define PROXY_WORKERS_H

#include <stddef.h>

#include "common/base/error.h"

struct workers;

/* Something to do; part of a larger struct. */
struct work {
    void (*run)(struct work *work);
    struct work *next;
};

struct workers *workers_new(int max_threads, size_t stack_bytes, struct error *err) MUST_CHECK;
/* Work beyond max_threads waits for its turn, in order. */
void workers_run(struct workers *workers, struct work *work);
/* Once no work is left. Joins the threads. NULL-safe. */
void workers_free(struct workers *workers);

#endif
