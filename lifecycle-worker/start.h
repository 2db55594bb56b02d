/*
 * start - SANDBOX_START_COMMAND: the command started in a sandbox that has just come up, for
 * templates that start nothing themselves.
 *
 * Owns: when it is due, its one request, what the answer says. Does not own: sending it (call.c).
 * The command must bear being started again while it runs: a worker that dies between the start and
 * the commit is followed by one that starts it again. Threads: the worker's one. Failure: logged;
 * the create stands, and the gateway reports services that do not answer.
 */
#ifndef WORKER_START_H
#define WORKER_START_H

#include "lifecycle-worker/flight.h"

/* The call has ended like this. True: a start is due, after a create, or after a resume that
 * brought back a disk and no processes; *ret_request, which the caller initialised, starts it. */
bool start_request(const struct flight *flight, const struct provider_step *step,
                   struct http_request *ret_request);
/* Logs a start that the answer says has failed. */
void start_answered(const struct flight *flight, const struct http_response *response);

#endif
