/*
 * waiter - lets a request wait until its job has ended.
 *
 * Owns: the table of waiters by job id, a dispatcher thread that reads this gateway's reply stream,
 * and a poller of PostgreSQL, so that a lost reply costs less than a second and correctness does
 * not depend on Redis. Does not own: the answer, which the handler reads from the store. A waiting
 * request holds its thread, but no database or Redis connection. Threads: any. A waiter lives on
 * its handler's stack, from waiter_add() to waiter_remove().
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
    bool urgent; /* no reply will come to this gateway (a joined job): poll from the start */
    bool done;
    int64_t since_ms;
    pthread_cond_t wake;
    struct waiter *next;
};

struct waiters;
struct waiters *waiters_start(const struct queue_options *redis, struct store *store,
                              const char *gateway, struct error *err) MUST_CHECK;
void waiters_stop(struct waiters *waiters);

/* Register before the job is committed, so that a reply cannot arrive before its waiter. */
void waiter_add(struct waiters *waiters, struct waiter *waiter, const char *job_id);
/* An existing job was joined instead of the expected one: wait for that. */
void waiter_change_job(struct waiters *waiters, struct waiter *waiter, const char *job_id);
/* True: the job has ended. False: timeout_ms passed, or waiters_cut() was called. */
bool waiter_wait(struct waiters *waiters, struct waiter *waiter, int64_t timeout_ms);
void waiter_remove(struct waiters *waiters, struct waiter *waiter);
int waiters_count(struct waiters *waiters);
/* Ends every wait, present and future. Accepted jobs go on without their callers. */
void waiters_cut(struct waiters *waiters);
bool waiters_are_cut(struct waiters *waiters);

#endif
