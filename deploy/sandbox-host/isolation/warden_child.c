/* warden_child - see warden_child.h. */
#include "deploy/sandbox-host/isolation/warden_child.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/log.h"
#include "deploy/sandbox-host/isolation/cgroup.h"
#include "deploy/sandbox-host/isolation/disk.h"
#include "deploy/sandbox-host/isolation/egress_routes.h"

enum { FIRST_FD = 3, SAFE_FD = 64, CANNOT = 126 };

static _Noreturn void fail(const char *what, int errnum)
{
    struct error err = ERROR_INIT;

    error_set_errno(&err, ERR_INTERNAL, errnum, "%s", what);
    log_error(LOG_ERROR, "warden.child_failed", &err);
    _exit(CANNOT);
}

/* Standard input and output to nowhere, the order's descriptors to 3, 4, ..., nothing above. Errors
 * go where the host's do. */
static void place_descriptors(const struct warden_order *order)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), safe[WARDEN_FDS];

    for (int i = 0; i < order->fd_count; i++) {
        safe[i] = fcntl(order->fds[i], F_DUPFD_CLOEXEC, SAFE_FD);
        if (safe[i] < 0) {
            fail("descriptors", errno);
        }
    }
    if (dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0) {
        fail("/dev/null", errno);
    }
    /* slirp4netns talks on stderr of its every step, and not in the log's form */
    if (order->kind == WARDEN_NETWORK && !log_enabled(LOG_DEBUG) && dup2(null, STDERR_FILENO) < 0) {
        fail("/dev/null", errno);
    }
    for (int i = 0; i < order->fd_count; i++) {
        if (dup2(safe[i], FIRST_FD + i) < 0) {
            fail("descriptors", errno);
        }
    }
    if (close_range((unsigned)(FIRST_FD + order->fd_count), ~0U, 0) < 0) {
        fail("close_range", errno);
    }
}

static void become_user(const struct warden_order *order)
{
    const struct rlimit processes = {(rlim_t)order->processes, (rlim_t)order->processes};

    if (order->uid == 0) {
        return;
    }
    if (setgroups(0, NULL) < 0 || setresgid(order->uid, order->uid, order->uid) < 0 ||
        setresuid(order->uid, order->uid, order->uid) < 0) {
        fail("becoming the sandbox's user", errno);
    }
    /* of this user id alone, so it counts this sandbox alone */
    if (order->processes > 0 && setrlimit(RLIMIT_NPROC, &processes) < 0) {
        fail("RLIMIT_NPROC", errno);
    }
}

/* The sandbox's disk is mounted where only it and what it starts can see it, and so is gone with
 * its last process: no mount of this machine's is made or left. */
static void mount_disk(const struct warden_order *order)
{
    struct error err = ERROR_INIT;

    if (order->disk == NULL) {
        return;
    }
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        fail("mount namespace", errno);
    }
    if (disk_mount(order->disk, order->dir, order->text, order->uid, order->layers, &err) < 0) {
        log_error(LOG_ERROR, "warden.child_failed", &err);
        _exit(CANNOT);
    }
}

static void limit(const struct warden_order *order)
{
    struct rlimit files;
    const struct rlimit no_core = {0, 0};

    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        if (order->files > 0 && files.rlim_max > (rlim_t)order->files) {
            files.rlim_max = (rlim_t)order->files;
        }
        files.rlim_cur = files.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &files) < 0) {
            fail("RLIMIT_NOFILE", errno);
        }
    }
    if (setrlimit(RLIMIT_CORE, &no_core) < 0) {
        fail("RLIMIT_CORE", errno);
    }
}

/* The death of a parent that died before this call is not told. */
static void die_with(pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != parent) {
        _exit(CANNOT);
    }
}

static void prepare_network(const struct warden_order *order)
{
    const char *closed = order->text != NULL ? order->text : "";
    struct error err = ERROR_INIT;

    if ((order->kind == WARDEN_NETWORK && egress_routes_close(closed, &err) < 0) ||
        (order->kind == WARDEN_ROUTES && egress_routes_replace(closed, &err) < 0)) {
        log_error(LOG_ERROR, "warden.child_failed", &err);
        _exit(CANNOT);
    }
    if (order->kind == WARDEN_ROUTES) {
        _exit(0);
    }
}

_Noreturn void warden_child(const struct warden_order *order)
{
    sigset_t none;

    setsid();
    die_with(order->parent);
    cgroup_enter(order->id);
    if (order->kind == WARDEN_SANDBOX) {
        mount_disk(order);
    }
    place_descriptors(order);
    limit(order);
    prepare_network(order);
    become_user(order);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
        fail("no_new_privs", errno);
    }
    die_with(order->parent); /* changing the user id cleared it */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    execvp(order->argv[0], order->argv);
    fail(order->argv[0], errno);
}
