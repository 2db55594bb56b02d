/* egress - see egress.h. */
#include "deploy/sandbox-host/isolation/egress.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "deploy/sandbox-host/isolation/egress_routes.h"
#include "deploy/sandbox-host/isolation/warden_client.h"

enum { READY_MS = 5000 };

/* Halves are narrower than slirp4netns's own routes and leave those in place. The halves of
 * slirp4netns's network come first: a set ignores a network that it covers already. */
#define EVERYTHING "10.0.2.0/25 10.0.2.128/25 0.0.0.0/1 128.0.0.0/1"

static bool available;

static bool find_program(const char *name)
{
    const char *path = getenv("PATH");
    char *copy = xstrdup(path != NULL ? path : "/usr/bin:/bin"), *save = NULL, file[4096];
    bool found = false;

    for (char *dir = strtok_r(copy, ":", &save); dir != NULL && !found;
         dir = strtok_r(NULL, ":", &save)) {
        snprintf(file, sizeof(file), "%s/%s", dir, name);
        found = access(file, X_OK) == 0;
    }
    free(copy);
    return found;
}

int egress_init(const struct host_config *config, struct error *err)
{
    available =
        config->internet && find_program("slirp4netns") && access("/dev/net/tun", R_OK | W_OK) == 0;
    return egress_policy_init(config, err);
}

bool egress_available(void)
{
    return available;
}

int egress_plan(const struct egress_request *request, struct strbuf *ret_closed,
                bool *ret_connected, struct error *err)
{
    return egress_policy_plan(request, available, ret_closed, ret_connected, err);
}

/* bubblewrap writes the id map of the sandbox's user namespace; before that nobody can act in it.
 */
static int wait_mapped(pid_t pid, struct error *err)
{
    int64_t until_ms = clock_mono_ms() + READY_MS;
    char path[64], byte;

    snprintf(path, sizeof(path), "/proc/%ld/uid_map", (long)pid);
    while (clock_mono_ms() < until_ms) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd >= 0 ? read(fd, &byte, 1) : -1;

        if (fd >= 0) {
            close(fd);
        }
        if (n == 1) {
            return 0;
        }
        if (n < 0) {
            return error_set_errno(err, ERR_INTERNAL, errno, "%s", path);
        }
        clock_sleep_ms(1);
    }
    return error_set(err, ERR_TIMEOUT, "the sandbox's user namespace was not ready in time");
}

/* The sandbox's network, and the user namespace that owns it: bubblewrap makes one more for its
 * commands, which has no rights over the network. */
static int open_namespaces(const struct egress_sandbox *sandbox, int *ret_net, int *ret_user,
                           struct error *err)
{
    struct pollfd ended = {.fd = sandbox->init_fd, .events = POLLIN};
    char path[64];

    snprintf(path, sizeof(path), "/proc/%ld/ns/net", (long)sandbox->init_pid);
    *ret_net = open(path, O_RDONLY | O_CLOEXEC);
    if (*ret_net < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "%s", path);
    }
    if (sandbox->init_fd < 0 || poll(&ended, 1, 0) != 0) {
        return error_set(err, ERR_NOT_FOUND, "the sandbox has ended");
    }
    *ret_user = ioctl(*ret_net, NS_GET_USERNS);
    if (*ret_user < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "%s: its owner", path);
    }
    return fcntl(*ret_user, F_SETFD, FD_CLOEXEC) < 0
               ? error_set_errno(err, ERR_INTERNAL, errno, "%s", path)
               : 0;
}

/* One byte, or -1: none came in time, or its writer ended without one. */
static int read_answer(int answers, char *ret, const char *who, struct error *err)
{
    struct pollfd readable = {.fd = answers, .events = POLLIN};

    if (poll(&readable, 1, READY_MS) <= 0) {
        return error_set(err, ERR_TIMEOUT, "%s was not ready in time", who);
    }
    return read(answers, ret, 1) == 1 ? 0 : error_set(err, ERR_INTERNAL, "%s failed", who);
}

/* Has the warden run what acts on a sandbox's network and waits for its answer, the first byte on
 * its first descriptor. Without one it is killed. The namespaces come as descriptors, so that it
 * needs no right to look at the sandbox's processes. */
static int run_in_network(const struct egress_sandbox *sandbox, struct warden_order *order,
                          const char *who, char *ret_answer, struct error *err)
{
    int answers[2] = {-1, -1}, user = -1, net = -1, pidfd = -1, status = -1;
    pid_t pid;

    if (wait_mapped(sandbox->init_pid, err) < 0 || open_namespaces(sandbox, &net, &user, err) < 0) {
        goto out;
    }
    if (pipe2(answers, O_CLOEXEC) < 0) {
        error_set_errno(err, ERR_INTERNAL, errno, "pipe");
        goto out;
    }
    order->id = sandbox->id;
    order->uid = sandbox->uid;
    order->fds[0] = answers[1];
    order->fds[1] = user;
    order->fds[2] = net;
    order->fd_count = 3;
    order->pid = &pid;
    order->pidfd = &pidfd;
    status = warden_run(order, err);
    close(answers[1]);
    if (status == 0 && (status = read_answer(answers[0], ret_answer, who, err)) < 0 && pidfd >= 0) {
        (void)!syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0); /* or it has ended */
    }
    close(answers[0]);
out:
    if (pidfd >= 0) {
        close(pidfd);
    }
    if (net >= 0) {
        close(net);
    }
    if (user >= 0) {
        close(user);
    }
    return status;
}

int egress_start(const struct egress_sandbox *sandbox, const char *closed, struct error *err)
{
    static char *const argv[] = {"slirp4netns",       "--configure",
                                 "--mtu=65520",       "--disable-host-loopback",
                                 "--ready-fd=3",      "--userns-path=/proc/self/fd/4",
                                 "--netns-type=path", "/proc/self/fd/5",
                                 EGRESS_DEVICE,       NULL};
    struct warden_order order = {.kind = WARDEN_NETWORK, .argv = argv, .text = closed};
    char ready;

    return run_in_network(sandbox, &order, "slirp4netns", &ready, err);
}

int egress_change(const struct egress_sandbox *sandbox, const char *closed, bool connected,
                  struct error *err)
{
    static char *const no_program[] = {NULL};
    struct warden_order order = {
        .kind = WARDEN_ROUTES, .argv = no_program, .text = connected ? closed : EVERYTHING};
    char answer;

    if (run_in_network(sandbox, &order, "the change of routes", &answer, err) < 0) {
        return -1;
    }
    return answer == EGRESS_NO_DEVICE && connected ? egress_start(sandbox, closed, err) : 0;
}
