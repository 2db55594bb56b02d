/*
 * warden_client - the host's side of the warden: starts it, sends it orders, hears of exits.
 *
 * Owns: the connection to the warden and the thread that reads it. Threads: warden_open() and
 * warden_close() from one thread; the rest from any. Failure: < 0 with the reason; `lost` is called
 * when the warden dies.
 */
#ifndef SANDBOX_HOST_WARDEN_CLIENT_H
#define SANDBOX_HOST_WARDEN_CLIENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/base/error.h"
#include "deploy/sandbox-host/config.h"
#include "deploy/sandbox-host/isolation/warden.h"

struct warden_events {
    void (*exited)(void *arg, pid_t pid, int wait_status);
    void (*lost)(void *arg); /* the warden died, and every sandbox with it */
    void *arg;
};

/* Connects to the warden of this state folder, or starts one. *ret_adopted: the warden ran already,
 * and its sandboxes may be alive. *ret_first_uid: the first user id of this host's range. */
int warden_open(const struct host_config *config, const struct warden_events *events,
                bool *ret_adopted, int64_t *ret_first_uid, struct error *err) MUST_CHECK;
int warden_run(const struct warden_order *order, struct error *err) MUST_CHECK;
/* Kills every process that the warden runs for this sandbox. */
void warden_kill(const char *id);
/* Ends the warden; it kills what still runs. */
void warden_close(void);

#endif
