/* tree - see tree.h. */
#include "deploy/command-runner/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/alloc.h"

enum { ROUNDS = 14, ROUND_MS = 50, ENVIRONMENT_BYTES = 65536, SUDO_ROUND = 4 };

struct process {
    pid_t pid, parent;
    char state;
    bool ours;
};
struct tree {
    const char *id;
    pid_t main_pid;
    int *status;
    struct process *list;
    size_t count, room;
    pid_t *stopped; /* those that were sent a SIGSTOP */
    size_t stopped_count, stopped_room;
};

static bool adopts;

bool tree_adopt_orphans(void)
{
    adopts = prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0;
    return adopts;
}

static bool carries_id(pid_t pid, const char *id)
{
    static char text[ENVIRONMENT_BYTES];
    char path[48], wanted[64];
    ssize_t got;
    int fd, length = snprintf(wanted, sizeof(wanted), "SANDBOX_EXEC_ID=%s", id);

    snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    got = read(fd, text, sizeof(text));
    close(fd);
    return got > 0 && memmem(text, (size_t)got, wanted, (size_t)length) != NULL;
}

/* False when it is gone. */
static bool load(struct process *process)
{
    char path[48], line[512];
    const char *behind;
    ssize_t got;
    int fd, parent;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)process->pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    got = read(fd, line, sizeof(line) - 1);
    close(fd);
    line[got > 0 ? got : 0] = '\0';
    behind = strrchr(line, ')'); /* the name before it may hold anything */
    if (behind == NULL || sscanf(behind, ") %c %d", &process->state, &parent) != 2) {
        return false;
    }
    process->parent = parent;
    return true;
}

static void add(struct tree *tree, const struct process *process)
{
    if (tree->count == tree->room) {
        tree->room = tree->room > 0 ? tree->room * 2 : 64;
        tree->list = xrealloc(tree->list, tree->room * sizeof(*tree->list));
    }
    tree->list[tree->count++] = *process;
}

static void list_all(struct tree *tree)
{
    DIR *proc = opendir("/proc");
    struct dirent *entry;

    tree->count = 0;
    while (proc != NULL && (entry = readdir(proc)) != NULL) {
        struct process process = {.pid = (pid_t)strtol(entry->d_name, NULL, 10)};

        if (process.pid > 0 && load(&process)) {
            add(tree, &process);
        }
    }
    if (proc != NULL) {
        closedir(proc);
    }
}

static bool is_ours(const struct tree *tree, pid_t pid)
{
    for (size_t i = 0; i < tree->count; i++) {
        if (tree->list[i].pid == pid) {
            return tree->list[i].ours;
        }
    }
    return false;
}

static void mark_ours(struct tree *tree)
{
    const pid_t self = getpid();
    bool more = true;

    while (more) {
        more = false;
        for (size_t i = 0; i < tree->count; i++) {
            struct process *process = &tree->list[i];

            if (process->ours || process->pid == self) {
                continue;
            }
            process->ours =
                process->parent == self || is_ours(tree, process->parent) ||
                (!adopts && process->pid != getppid() && carries_id(process->pid, tree->id));
            more |= process->ours;
        }
    }
}

static bool is_alive(const struct process *process)
{
    return process->ours && strchr("ZXx", process->state) == NULL;
}

static bool stop_once(struct tree *tree, pid_t pid)
{
    for (size_t i = 0; i < tree->stopped_count; i++) {
        if (tree->stopped[i] == pid) {
            return false;
        }
    }
    if (tree->stopped_count == tree->stopped_room) {
        tree->stopped_room = tree->stopped_room > 0 ? tree->stopped_room * 2 : 64;
        tree->stopped = xrealloc(tree->stopped, tree->stopped_room * sizeof(*tree->stopped));
    }
    tree->stopped[tree->stopped_count++] = pid;
    kill(pid, SIGSTOP);
    return true;
}

/* Until no new one turns up, so that nothing can fork away. */
static void stop_all(struct tree *tree)
{
    bool more = true;

    while (more) {
        more = false;
        list_all(tree);
        mark_ours(tree);
        for (size_t i = 0; i < tree->count; i++) {
            if (is_alive(&tree->list[i])) {
                more |= stop_once(tree, tree->list[i].pid);
            }
        }
    }
}

static void reap(const struct tree *tree)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == tree->main_pid) {
            *tree->status = status;
        }
    }
}

/* As root, where the sandbox has sudo without a password. */
static void kill_with_sudo(const struct tree *tree)
{
    enum { PIDS_MAX = 64 };
    char numbers[PIDS_MAX][16];
    char *argv[PIDS_MAX + 6] = {"sudo", "-n", "kill", "-KILL"};
    int used = 4;
    pid_t pid;

    for (size_t i = 0; i < tree->count && used < PIDS_MAX + 4; i++) {
        if (is_alive(&tree->list[i])) {
            snprintf(numbers[used - 4], sizeof(numbers[0]), "%d", (int)tree->list[i].pid);
            argv[used] = numbers[used - 4];
            used++;
        }
    }
    pid = fork();
    if (pid == 0) {
        execvp(argv[0], argv);
        _exit(127);
    }
    for (int i = 0; pid > 0 && i < 40 && waitpid(pid, NULL, WNOHANG) == 0; i++) {
        const struct timespec pause = {0, 25 * 1000000};

        nanosleep(&pause, NULL);
    }
}

int tree_kill(const char *id, pid_t main_pid, int *ret_status, pid_t *ret, int max)
{
    const struct timespec pause = {0, ROUND_MS * 1000000};
    struct tree tree = {.id = id, .main_pid = main_pid, .status = ret_status};
    int left = 0;

    for (int round = 0; round < ROUNDS; round++) {
        bool refused = false, killed = false;

        stop_all(&tree);
        left = 0;
        for (size_t i = 0; i < tree.count; i++) {
            if (!is_alive(&tree.list[i])) {
                continue;
            }
            if (left < max) {
                ret[left] = tree.list[i].pid;
            }
            left++;
            if (kill(tree.list[i].pid, SIGKILL) == 0) {
                killed = true;
            } else {
                refused |= errno == EPERM;
            }
        }
        reap(&tree);
        if (left == 0) {
            break;
        }
        if (refused && (!killed || round == SUDO_ROUND)) {
            kill_with_sudo(&tree);
            if (round > SUDO_ROUND && !killed) {
                break;
            }
        }
        nanosleep(&pause, NULL);
        reap(&tree);
    }
    free(tree.list);
    free(tree.stopped);
    return left < max ? left : max;
}
