/* service - see service.h. */
#include "common/base/service.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/base/id.h"

static _Atomic bool draining;

int service_init(int *ret_signal_fd, struct error *err)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigset_t stop;
    int fd, status;

    if (sodium_init() < 0) {
        return error_set(err, ERR_INTERNAL, "libsodium found no source of randomness");
    }
    sigaction(SIGPIPE, &ignore, NULL);
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    sigaddset(&stop, SIGHUP);
    status = pthread_sigmask(SIG_BLOCK, &stop, NULL);
    if (status != 0) {
        return error_set_errno(err, ERR_INTERNAL, status, "pthread_sigmask");
    }
    fd = signalfd(-1, &stop, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "signalfd");
    }
    *ret_signal_fd = fd;
    return 0;
}

void service_read_signals(int signal_fd)
{
    struct signalfd_siginfo info;

    while (read(signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        /* SIGHUP (a closed terminal) drains like SIGTERM */
        if (atomic_exchange(&draining, true)) {
            _exit(EXIT_RUNTIME);
        }
    }
}

bool service_draining(void)
{
    return atomic_load_explicit(&draining, memory_order_relaxed);
}

void service_wait_for_stop(int signal_fd)
{
    struct pollfd stop = {.fd = signal_fd, .events = POLLIN};

    while (!service_draining()) {
        if (poll(&stop, 1, -1) > 0) {
            service_read_signals(signal_fd);
        }
    }
}

void service_identity(char out[SERVICE_NAME_BYTES])
{
    char host[64] = "localhost";
    char boot[9];

    gethostname(host, sizeof(host) - 1);
    id_random_alnum(boot, sizeof(boot) - 1);
    snprintf(out, SERVICE_NAME_BYTES, "%s:%ld:%s", host, (long)getpid(), boot);
}
