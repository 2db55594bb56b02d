/*
 * waiter - requests that wait for a job's end.
 *
 * Owns: the table of waiters by job id, a dispatcher thread that reads this gateway's reply stream,
 * and a poll of PostgreSQL behind it, so that a lost reply costs a moment and Redis is not needed
 * for correctness. Does not own: what the answer is (the handler reads it from the store). A
 * waiting request holds its thread and nothing else: no database and no Redis connection. Threads:
 * all functions are safe from any thread. A waiter lives on its handler's stack, from waiter_add()
 * to waiter_remove().
 */
#ifndef GATEWAY_WAITER_H
#define GATEWAY_WAITER_H

#include <pthread.h>
#include <stdbool.h>

#include "common/base/error.h"
#include "common/domain/types.h"
#include "common/queue/queue.h"
#include "common/store/store.h"

struct waiter {
    char job_id[UUID_BYTES];
    bool urgent; /* no reply will come to us (a joined job): poll from the start */
    bool done;
    int64_t since_ms;
    pthread_cond_t wake;
    struct waiter *next;
};

struct waiters;
struct waiters *waiters_start(const struct queue_options *redis, struct store *store,
                              const char *gateway, struct error *err) MUST_CHECK;
void waiters_stop(struct waiters *waiters);

/* Register before the job is committed, so that no reply can come too early. */
void waiter_add(struct waiters *waiters, struct waiter *waiter, const char *job_id);
/* The accepted job is another one than expected: wait for that. */
void waiter_change_job(struct waiters *waiters, struct waiter *waiter, const char *job_id);
/* True when the job has ended, false when timeout_ms passed or waiting was cut first. */
bool waiter_wait(struct waiters *waiters, struct waiter *waiter, int64_t timeout_ms);
void waiter_remove(struct waiters *waiters, struct waiter *waiter);
int waiters_count(struct waiters *waiters);
/* Ends every wait, present and future: what is accepted goes on without its caller. */
void waiters_cut(struct waiters *waiters);
bool waiters_are_cut(struct waiters *waiters);

#endif
