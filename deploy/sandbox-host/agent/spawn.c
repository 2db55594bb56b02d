/*
 * spawn - fork and exec; see spawn.h.
 */
#include "deploy/sandbox-host/agent/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "deploy/sandbox-host/agent/root.h"

#define EXIT_CANNOT 126
#define EXIT_ABSENT 127

/* /proc/self/oom_score_adj, and what stands in it; -1 = not to be had. */
static int victim_fd = -1;
static char victim_own[16];
static const char victim_child[] = "800";

void spawn_init(void)
{
    victim_fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
    if (victim_fd >= 0) {
        const ssize_t n = read(victim_fd, victim_own, sizeof(victim_own) - 1);
        victim_own[n > 0 ? n : 0] = '\0';
    }
}

/* A child inherits what stands there at the fork; afterwards it is not the agent's to write. */
static void mark_victim(const char *score)
{
    if (victim_fd >= 0 && victim_own[0] != '\0' && pwrite(victim_fd, score, strlen(score), 0) < 0) {
        close(victim_fd); /* then the kernel chooses by size alone */
        victim_fd = -1;
    }
}

/* The child's own ends. */
struct child_fds {
    int input, output, errors;
};

static _Noreturn void child_fail(int status, const char *what, const char *name, int errnum)
{
    const char *reason = strerrordesc_np(errnum);
    const char *parts[] = {what, ": '", name, "': ", reason != NULL ? reason : "unknown error",
                           "\n"};

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (write(STDERR_FILENO, parts[i], strlen(parts[i])) < 0) {
            break; /* nobody can be told */
        }
    }
    _exit(status);
}

/* Decimal text without stdio. */
static size_t put_number(char *out, unsigned long value)
{
    char digits[24];
    size_t count = 0;

    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    for (size_t i = 0; i < count; i++) {
        out[i] = digits[count - 1 - i];
    }
    return count;
}

static int child_write_map(const char *file, unsigned long inside, unsigned long outside)
{
    char line[64];
    size_t length = put_number(line, inside);

    line[length++] = ' ';
    length += put_number(line + length, outside);
    memcpy(line + length, " 1\n", 3);
    length += 3;
    const int fd = open(file, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    const ssize_t n = write(fd, line, length);
    close(fd);
    return n == (ssize_t)length ? 0 : -1;
}

/*
 * A sandbox whose user namespace maps one id only cannot change to another; a namespace inside it
 * can show that id under the wanted name (root for package tools, say). The kernel still knows one
 * user, so this gives nobody a right they lacked.
 */
static int child_rename_user(const struct user *user)
{
    const unsigned long uid = geteuid(), gid = getegid();

    /* the agent hides its /proc files, and the maps are among them */
    (void)prctl(PR_SET_DUMPABLE, 1L, 0L, 0L, 0L);
    if (unshare(CLONE_NEWUSER) != 0) {
        return -1;
    }
    const int fd = open("/proc/self/setgroups", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        const ssize_t n = write(fd, "deny", 4);
        close(fd);
        if (n != 4) {
            return -1;
        }
    }
    if (child_write_map("/proc/self/uid_map", user->uid, uid) != 0 ||
        child_write_map("/proc/self/gid_map", user->gid, gid) != 0) {
        return -1;
    }
    return user->uid == 0 ? root_keep_owners() : 0;
}

static void child_become(const struct user *user)
{
    if (user->uid == geteuid() && user->gid == getegid()) {
        return;
    }
    if (setgroups((size_t)user->group_count, user->groups) == 0 &&
        setresgid(user->gid, user->gid, user->gid) == 0 &&
        setresuid(user->uid, user->uid, user->uid) == 0) {
        return;
    }
    const int failure = errno;
    /* half-way is no place to run a command: only the untouched identity may go on */
    if (getuid() == user->uid || child_rename_user(user) != 0) {
        child_fail(EXIT_CANNOT, "cannot become user", user->name, failure);
    }
}

static _Noreturn void child_run(const struct spawn_spec *spec, const struct child_fds *fds)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t none;

    for (int i = 1; i < NSIG; i++) {
        (void)sigaction(i, &action, NULL); /* EINVAL for KILL, STOP and libc's own */
    }
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)setsid();
    if (spec->pty) {
        (void)ioctl(fds->input, TIOCSCTTY, 0);
    }
    if (dup2(fds->input, STDIN_FILENO) < 0 || dup2(fds->output, STDOUT_FILENO) < 0 ||
        dup2(fds->errors, STDERR_FILENO) < 0) {
        _exit(EXIT_CANNOT);
    }
    /* every descriptor of the agent is close-on-exec; this is the second lock on that door */
    (void)syscall(SYS_close_range, 3u, ~0u, 0u);
    (void)setrlimit(RLIMIT_NOFILE, &spec->nofile);
    child_become(spec->user);
    if (spec->subreaper) {
        (void)prctl(PR_SET_CHILD_SUBREAPER, 1L, 0L, 0L, 0L);
    }
    if (chdir(spec->cwd) != 0) {
        child_fail(EXIT_CANNOT, "cannot enter the folder", spec->cwd, errno);
    }
    environ = spec->envp;
    execvp(spec->argv[0], spec->argv);
    const int failure = errno;
    child_fail(failure == ENOENT || failure == ENOTDIR ? EXIT_ABSENT : EXIT_CANNOT, "cannot run",
               spec->argv[0], failure);
}

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

/* Blocking for the child, non-blocking for the agent. */
static int make_pipe(int *agent_end, int *child_end, bool child_reads)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) != 0) {
        return -1;
    }
    *agent_end = child_reads ? ends[1] : ends[0];
    *child_end = child_reads ? ends[0] : ends[1];
    return fcntl(*agent_end, F_SETFL, O_NONBLOCK);
}

static int open_pty(const struct spawn_spec *spec, struct spawned *ret, struct child_fds *fds)
{
    const struct winsize size = {.ws_col = spec->columns, .ws_row = spec->rows};
    char name[64];

    ret->outputs[0] = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (ret->outputs[0] < 0 || unlockpt(ret->outputs[0]) != 0 ||
        ptsname_r(ret->outputs[0], name, sizeof(name)) != 0) {
        return -1;
    }
    (void)ioctl(ret->outputs[0], TIOCSWINSZ, &size);
    fds->input = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    ret->input = fcntl(ret->outputs[0], F_DUPFD_CLOEXEC, 3);
    if (fds->input < 0 || ret->input < 0) {
        return -1;
    }
    user_own(spec->user, name);
    fds->output = fds->input;
    fds->errors = fds->input;
    return 0;
}

int spawn(const struct spawn_spec *spec, struct spawned *ret, struct error *err)
{
    struct child_fds fds = {-1, -1, -1};
    sigset_t all, before;
    int failure = 0;

    *ret = (struct spawned){.pid = -1, .input = -1, .outputs = {-1, -1}};
    if (spec->pty) {
        if (open_pty(spec, ret, &fds) != 0) {
            failure = errno;
        }
    } else {
        if (spec->stdin_pipe) {
            failure = make_pipe(&ret->input, &fds.input, true) != 0 ? errno : 0;
        } else {
            fds.input = open("/dev/null", O_RDONLY | O_CLOEXEC);
            failure = fds.input < 0 ? errno : 0;
        }
        if (failure == 0 && (make_pipe(&ret->outputs[0], &fds.output, false) != 0 ||
                             make_pipe(&ret->outputs[1], &fds.errors, false) != 0)) {
            failure = errno;
        }
    }
    if (failure == 0) {
        /* no handler of the agent may run in the child */
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        mark_victim(victim_child);
        ret->pid = fork();
        failure = ret->pid < 0 ? errno : 0;
        if (ret->pid == 0) {
            child_run(spec, &fds);
        }
        mark_victim(victim_own);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    if (spec->pty) {
        fds.output = fds.errors = -1; /* the same descriptor as input */
    }
    close_fd(&fds.input);
    close_fd(&fds.output);
    close_fd(&fds.errors);
    if (failure != 0) {
        close_fd(&ret->input);
        close_fd(&ret->outputs[0]);
        close_fd(&ret->outputs[1]);
        return error_set_errno(err, ERR_INTERNAL, failure, "cannot start the process");
    }
    return 0;
}
