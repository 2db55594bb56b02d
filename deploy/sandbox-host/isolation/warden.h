/*
 * warden - the small process that owns the sandboxes' processes. Sandboxes outlive a crash of the
 * host by a bounded time.
 *
 * Owns: forking what runs in and beside sandboxes, reaping it, killing all of it. The host sends
 * orders over a socket in the state folder (warden_client.h). When the host is gone, the warden
 * waits SANDBOX_HOST_ADOPT_SECONDS for the next host, which adopts the running sandboxes. Then it
 * kills them, removes their files and exits. When the warden itself dies, the kernel kills every
 * sandbox (--die-with-parent); a closed lifeline ends those whose first process had not requested
 * that yet.
 * Does not own: which sandboxes exist and what they may do (sandbox.c, spawn.c).
 * Threads: one, so that it may fork.
 */
#ifndef SANDBOX_HOST_WARDEN_H
#define SANDBOX_HOST_WARDEN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/base/error.h"
#include "deploy/sandbox-host/config.h"

enum { WARDEN_ID_BYTES = 32, WARDEN_PATH_BYTES = 128, WARDEN_FDS = 5, WARDEN_LIFELINE = 2 };

enum warden_kind {
    WARDEN_SANDBOX, /* fds: relay, settings, info, seccomp filter; the warden puts a lifeline third
                     */
    WARDEN_NETWORK, /* fds: ready, user namespace, network namespace */
    WARDEN_ROUTES,  /* the same; changes the routes of a sandbox and becomes no program */
};

/* What is to be run. Descriptors arrive as 3, 4, ... in their order. */
struct warden_order {
    enum warden_kind kind;
    const char *id;
    char *const *argv;
    int fds[WARDEN_FDS];
    int fd_count;
    pid_t parent;       /* the warden itself */
    uid_t uid;          /* to run as; 0 = as the warden */
    int64_t processes;  /* limit for this user id; 0 = no limit */
    int64_t files;      /* open files of one process at most; 0 = as the warden */
    const char *disk;   /* block device to mount at dir/disk first, or NULL */
    const char *dir;    /* the sandbox's folder */
    const char *text;   /* or NULL. SANDBOX: folder whose content its home starts with; others: the
                           networks to close */
    const char *layers; /* or NULL. SANDBOX: the plan of its system's layers (layers.h) */
    int *pidfd;         /* a descriptor of the process, close-on-exec */
    pid_t *pid;
};

/* Runs until told to end; `listener` is its socket. Returns a program exit status. */
int warden_main(const struct host_config *config, int listener);

#endif
