/* filter - see filter.h. */
#include "deploy/sandbox-host/isolation/filter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int filter_fd = -1;

#define S(name) #name,
static const char *const allowed[] = {
#include "deploy/sandbox-host/isolation/syscalls.def"
};
#undef S

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

/* A name that is not known here cannot be called here either. */
static int allow(scmp_filter_ctx filter, const char *name, unsigned count,
                 const struct scmp_arg_cmp *arguments)
{
    int number = seccomp_syscall_resolve_name(name);

    return number == __NR_SCMP_ERROR || number < 0
               ? 0
               : seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, number, count, arguments);
}

/* A namespace of its own may be a user namespace only: that is what commands as root need. A
 * network or mount namespace in it would open kernel code that only administrators reach. */
static int allow_clone(scmp_filter_ctx filter)
{
    const uint64_t namespaces =
        CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET;
    const struct scmp_arg_cmp clone_flags[] = {SCMP_A0(SCMP_CMP_MASKED_EQ, namespaces, 0)};
    const struct scmp_arg_cmp unshare_flags[] = {
        SCMP_A0(SCMP_CMP_MASKED_EQ, namespaces | CLONE_NEWTIME, 0)};
    int status = allow(filter, "clone", COUNT(clone_flags), clone_flags);

    /* clone3's flags are out of a filter's reach: ENOSYS makes the C libraries use clone */
    return status < 0 ? status : allow(filter, "unshare", COUNT(unshare_flags), unshare_flags);
}

/* Not AF_VSOCK, which reaches a hypervisor, nor the many families that only add kernel code. */
static int allow_sockets(scmp_filter_ctx filter)
{
    static const int families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};
    int status = 0;

    for (size_t i = 0; i < COUNT(families) && status == 0; i++) {
        const struct scmp_arg_cmp family[] = {SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i], 0)};

        status = allow(filter, "socket", COUNT(family), family);
    }
    return status;
}

/* Everything but pushing characters into a terminal somebody else reads. */
static int allow_ioctl(scmp_filter_ctx filter)
{
    /* compared as the kernel does: the low half of the word only */
    const struct scmp_arg_cmp sti[] = {SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, TIOCSTI)};
    const struct scmp_arg_cmp linux_console[] = {
        SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, TIOCLINUX)};
    int number = seccomp_syscall_resolve_name("ioctl"), status;

    status = seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(EPERM), number, 1, sti);
    if (status == 0) {
        status = seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(EPERM), number, 1, linux_console);
    }
    return status < 0 ? status : seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, number, 0, NULL);
}

/* As debuggers and old programs ask for it. */
static int allow_personality(scmp_filter_ctx filter)
{
    static const uint64_t personas[] = {PER_LINUX, ADDR_NO_RANDOMIZE, UINT32_MAX};
    int status = 0;

    for (size_t i = 0; i < COUNT(personas) && status == 0; i++) {
        const struct scmp_arg_cmp persona[] = {
            SCMP_A0(SCMP_CMP_MASKED_EQ, UINT32_MAX, personas[i])};

        status = allow(filter, "personality", COUNT(persona), persona);
    }
    return status;
}

static int build(scmp_filter_ctx filter)
{
    int status = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS));

    for (size_t i = 0; i < COUNT(allowed) && status == 0; i++) {
        status = allow(filter, allowed[i], 0, NULL);
    }
    if (status == 0) {
        status = allow_clone(filter);
    }
    if (status == 0) {
        status = allow_sockets(filter);
    }
    if (status == 0) {
        status = allow_ioctl(filter);
    }
    if (status == 0) {
        status = allow_personality(filter);
    }
    if (status == 0) {
        /* a binary tree instead of a list: a dozen comparisons a call instead of hundreds */
        (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
        status = seccomp_export_bpf(filter, filter_fd);
    }
    return status;
}

int filter_init(struct error *err)
{
    scmp_filter_ctx filter;
    int status;

    if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) < 0) {
        return error_set(err, ERR_CONFIG, "this kernel has no seccomp");
    }
    filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
    filter_fd = memfd_create("sandbox-filter", MFD_CLOEXEC);
    if (filter == NULL || filter_fd < 0) {
        seccomp_release(filter);
        return error_set(err, ERR_CONFIG, "libseccomp has no filter for this machine");
    }
    status = build(filter);
    seccomp_release(filter);
    if (status < 0) {
        filter_done();
        return error_set_errno(err, ERR_CONFIG, -status, "the system call filter");
    }
    return 0;
}

void filter_done(void)
{
    if (filter_fd >= 0) {
        close(filter_fd);
        filter_fd = -1;
    }
}

int filter_open(void)
{
    char path[64];

    if (filter_fd < 0) {
        return -1;
    }
    /* opened anew, because sandboxes that start at once must not share a read position */
    snprintf(path, sizeof(path), "/proc/self/fd/%d", filter_fd);
    return open(path, O_RDONLY | O_CLOEXEC);
}
