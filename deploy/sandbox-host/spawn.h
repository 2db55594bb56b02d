/*
 * spawn - one sandbox's processes: bubblewrap, the agent in it, their end.
 *
 * Owns: the spawner thread, the agent's configuration, killing. Does not own: what a sandbox sees
 * (view.h), when it starts and ends (sandbox.c).
 * Threads: spawn_start() may be called from any thread; the fork happens in one long-lived thread,
 * because --die-with-parent ties a sandbox to the thread that forked it.
 */
#ifndef SANDBOX_HOST_SPAWN_H
#define SANDBOX_HOST_SPAWN_H

#include <sys/types.h>

#include "common/base/error.h"
#include "common/base/json.h"
#include "deploy/sandbox-host/config.h"
#include "deploy/sandbox-host/template.h"

enum { SPAWN_ID_BYTES = 32, SPAWN_PATH_BYTES = 100, SPAWN_ENVD_PORT = 49983 };

struct spawn_request {
    const char *id;
    const struct template *template;
    const char *access_token; /* or NULL */
    const cJSON *envs;        /* over the template's, or NULL */
    int uid_index;            /* which of the user ids from first_uid on; as root only */
};

/* Prepares the state folder and starts the spawner thread. */
int spawn_init(const struct host_config *config, struct error *err) MUST_CHECK;
void spawn_done(void);

/* Starts the sandbox and waits until its agent answers. *ret_wrapper_pid is bubblewrap's,
 * *ret_init_pid the sandbox's first process. */
int spawn_start(const struct spawn_request *request, pid_t *ret_wrapper_pid, pid_t *ret_init_pid,
                struct error *err) MUST_CHECK;
/* Kills everything of it and removes its folder; returns when all is gone. */
void spawn_kill(const char *id, pid_t wrapper_pid, pid_t init_pid);
/* Removes what an earlier run of this program left. */
void spawn_clean_leftovers(void);

/* A connection to a port inside. Returns a socket; ERR_CONFLICT: nothing listens there;
 * ERR_NOT_FOUND: the sandbox does not answer. */
int spawn_connect(const char *id, int port, struct error *err) MUST_CHECK;

#endif
