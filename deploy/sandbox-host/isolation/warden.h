/*
 * warden - the small process that owns the sandboxes' processes, so that they outlive a crash of
 * the host by a bounded time and never for ever.
 *
 * Owns: forking what runs in and beside sandboxes, reaping it, ending all of it. The host asks it
 * over a socket in the state folder. When the host is gone, it waits SANDBOX_HOST_ADOPT_SECONDS for
 * the next one, which finds its sandboxes alive; then it ends them, removes what they leave and
 * goes. When the warden itself is gone, the kernel ends all sandboxes with it (--die-with-parent),
 * and the lifeline those whose first process had not asked for that yet.
 * Does not own: which sandboxes there are and what they may do (sandbox.c, spawn.c).
 * Threads: the warden is one thread, and forks from one thread only; the client side is safe from
 * any thread. Failure: -1 with the reason; a warden that dies is told to the client's callback.
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

struct warden_events {
    void (*exited)(void *arg, pid_t pid, int wait_status);
    void (*lost)(void *arg); /* the warden is gone, and every sandbox with it */
    void *arg;
};

/* ---- the host's side ---- */

/* Finds the warden of this state folder or starts one. *ret_adopted: it was there already, and its
 * sandboxes may be alive. *ret_first_uid: where this host's user ids begin. */
int warden_open(const struct host_config *config, const struct warden_events *events,
                bool *ret_adopted, int64_t *ret_first_uid, struct error *err) MUST_CHECK;
int warden_run(const struct warden_order *order, struct error *err) MUST_CHECK;
/* Kills what it runs for a sandbox, by its id. */
void warden_kill(const char *id);
/* Ends it: whatever still runs is killed. */
void warden_close(void);

/* ---- the process ---- */

/* Runs until told to end; `listener` is its socket. Returns a program exit status. */
int warden_main(const struct host_config *config, int listener);

/* In the child between fork and exec of the single-threaded warden; never returns. */
_Noreturn void warden_child(const struct warden_order *order);

#endif
