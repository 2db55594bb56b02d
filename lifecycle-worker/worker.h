/*
 * worker - the loop: reads entries, claims their jobs, waits for all calls at once, drains.
 *
 * On top of the folder's tower: each file calls only those below it.
 *
 *   worker                              the loop and its single wait
 *   settle                              commits what has ended, then Redis
 *   begin, reconcile                    what a job or a sweep asks for
 *   end                                 what a provider's answer means for the row
 *   failover, kill                      another provider; a sandbox that no row wants
 *   call                                one provider call, from its first request to its end
 *   finish, start, gates, outgoing      parts of these
 *   dependencies, heartbeat             PostgreSQL, Redis, figures
 *   flight, inflight, gate, compare     records and pure decisions
 *
 * Threads: one. Failure: PostgreSQL, Redis or a provider away stop what needs them and nothing
 * else; finished outcomes are kept until their lease ends.
 */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include "common/base/error.h"
#include "lifecycle-worker/worker_state.h"

/* Builds the worker; `config` must outlive it. ERR_CONFIG names what is wrong. */
int worker_init(struct worker *worker, const struct worker_config *config, int signal_fd,
                struct error *err) MUST_CHECK;
/* Runs until drained; -1: the Redis keys are another deployment's. */
int worker_run(struct worker *worker, struct error *err) MUST_CHECK;
void worker_done(struct worker *worker); /* also of a half-built one */

#endif
