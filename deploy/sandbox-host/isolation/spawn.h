/*
 * spawn - one sandbox's processes: bubblewrap, the agent in it, its way out, their end.
 *
 * Owns: the order of starting, the agent's settings, killing, the sandbox's folder. Does not own:
 * what a sandbox sees (bwrap_argv.h), its disk (disk.h), its network (egress.h), forking
 * (warden_client.h), when it starts and ends (sandbox.c). Threads: spawn_init() once; then any.
 */
#ifndef SANDBOX_HOST_SPAWN_H
#define SANDBOX_HOST_SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/base/error.h"
#include "common/base/json.h"
#include "deploy/sandbox-host/config.h"
#include "deploy/sandbox-host/isolation/userland.h"

enum { SPAWN_PATH_BYTES = 100, SPAWN_ENVD_PORT = 49983 };
#define SPAWN_KEPT "kept" /* file in the folder of a sandbox that outlives host and warden */

struct spawn_request {
    const char *id;
    const struct userland *userland;
    const char *access_token; /* or NULL */
    const cJSON *envs;        /* over the template's, or NULL */
    uid_t uid;                /* 0 = as this process */
    bool connected;           /* gets a way out, but for the networks of `closed` */
    const char *closed;
    const char
        *disk; /* as disk_make()'s source: NULL = new, "" = the one that is there, or an image */
};

/* A sandbox's processes. A pid alone may be another process' by now: signals go through the
 * descriptors, and a pid read back from disk counts only with its start time. */
struct spawn_process {
    pid_t pid;
    int fd;           /* pidfd, or -1 */
    int64_t start_at; /* clock ticks since boot */
};
struct spawn_processes {
    struct spawn_process wrapper, init; /* bubblewrap; the sandbox's first process */
};
#define SPAWN_NOTHING                                                                              \
    {                                                                                              \
        .wrapper = {.fd = -1}, .init = {.fd = -1 }                                                 \
    }

/* Prepares the state folder. */
int spawn_init(const struct host_config *config, struct error *err) MUST_CHECK;
void spawn_dir(char out[SPAWN_PATH_BYTES], const char *id);

/* Starts the sandbox and waits until its agent answers. On failure it is killed: to be removed. */
int spawn_start(const struct spawn_request *request, struct spawn_processes *ret,
                struct error *err) MUST_CHECK;
/* Finds the processes of an earlier run again by pid and start time. -1: they are gone. */
int spawn_find(struct spawn_processes *sandbox, struct error *err) MUST_CHECK;
bool spawn_alive(const struct spawn_processes *sandbox);
/* Kills everything of it. */
void spawn_kill(const char *id, const struct spawn_processes *sandbox);
/* Waits until all of a killed one is gone but its folder, with its disk; removes its cgroup. */
int spawn_wait_gone(const char *id, struct spawn_processes *sandbox, struct error *err) MUST_CHECK;
/* The image that is its disk. */
void spawn_image(char out[SPAWN_PATH_BYTES + 16], const char *id);
/* Whether its folder outlives the host and its warden: that of a paused one does. */
int spawn_keep(const char *id, bool kept, struct error *err) MUST_CHECK;
bool spawn_is_kept(const char *id);
/* Waits until all of a killed one is gone and removes its cgroup and its folder. -1: something of
 * it stays; to be called again. */
int spawn_remove(const char *id, struct spawn_processes *sandbox, struct error *err) MUST_CHECK;

/* When the warden is dead: kills what outlived it. The first process of a sandbox waits for a word
 * of bubblewrap, without end when that is killed just then; the rest the kernel ends. */
void spawn_kill_strays(void);

/* A connection to a port inside. Returns a socket; ERR_CONFLICT: nothing listens there;
 * ERR_NOT_FOUND: the sandbox does not answer. */
int spawn_connect(const char *id, int port, struct error *err) MUST_CHECK;

#endif
