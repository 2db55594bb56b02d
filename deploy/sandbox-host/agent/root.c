/* root - see root.h. */
#include "deploy/sandbox-host/agent/root.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CANNOT = 126, ABSENT = 127 };

#if defined(__x86_64__)
#define OWN_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OWN_ARCH AUDIT_ARCH_AARCH64
#else
#define OWN_ARCH 0
#endif

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define SUCCEED     BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO)
/* succeeds without being made when it is this call */
#define PRETEND(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1), SUCCEED

int root_keep_owners(void)
{
    static const struct sock_filter steps[] = {
        LOAD(arch),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OWN_ARCH, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        LOAD(nr),
#ifdef SYS_chown
        PRETEND(SYS_chown),
        PRETEND(SYS_lchown),
#endif
        PRETEND(SYS_fchown),
        PRETEND(SYS_fchownat),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = sizeof(steps) / sizeof(steps[0]),
                                       .filter = (struct sock_filter *)steps};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0
               ? -1
               : (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

static int write_file(const char *path, const char *text)
{
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    const ssize_t n = fd >= 0 ? write(fd, text, strlen(text)) : -1;

    if (fd >= 0) {
        close(fd);
    }
    return n == (ssize_t)strlen(text) ? 0 : -1;
}

static int map_to_root(const char *path, unsigned long id)
{
    char line[64];

    snprintf(line, sizeof(line), "0 %lu 1\n", id);
    return write_file(path, line);
}

int root_exec(char **argv)
{
    const unsigned long uid = geteuid(), gid = getegid();
    const char *what = "becoming root";

    if (argv[0] == NULL) {
        fprintf(stderr, "sudo: no command\n");
        return CANNOT;
    }
    if (uid != 0 && (unshare(CLONE_NEWUSER) < 0 || write_file("/proc/self/setgroups", "deny") < 0 ||
                     map_to_root("/proc/self/uid_map", uid) < 0 ||
                     map_to_root("/proc/self/gid_map", gid) < 0)) {
        fprintf(stderr, "sudo: %s: %s\n", what, strerror(errno));
        return CANNOT;
    }
    if (uid != 0 && root_keep_owners() < 0) {
        fprintf(stderr, "sudo: %s: %s\n", what, strerror(errno));
        return CANNOT;
    }
    execvp(argv[0], argv);
    fprintf(stderr, "sudo: %s: %s\n", argv[0], strerror(errno));
    return errno == ENOENT || errno == ENOTDIR ? ABSENT : CANNOT;
}
