/*
 * start - SANDBOX_START_COMMAND: what is started in a sandbox that has just come up, for templates
 * that start nothing themselves.
 *
 * Owns: when it is due, its one request. Does not own: the command, which must be one that may be
 * started again while it runs (a worker that dies between the start and the commit is followed by
 * one that starts it again). Threads: the worker's one. Failure: logged; the create stands, and
 * the gateway tells of services that do not answer.
 */
#ifndef WORKER_START_H
#define WORKER_START_H

#include "lifecycle-worker/drive.h"

/* The call has ended like this. True: a start is on its way, and drive_end() is called when it is
 * through. After a create, and after a resume that brought back a disk and no processes. */
bool start_begin(struct flight *flight, const struct provider_step *step);

#endif
