/* warden_wire - see warden_wire.h. */
#include "deploy/sandbox-host/isolation/warden_wire.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

union control {
    char bytes[CMSG_SPACE(WARDEN_FDS * sizeof(int))];
    struct cmsghdr align;
};

ssize_t wire_send(int fd, const void *head, size_t head_bytes, const void *text, size_t text_bytes,
                  const int *fds, int fd_count)
{
    struct iovec parts[2] = {{.iov_base = (void *)head, .iov_len = head_bytes},
                             {.iov_base = (void *)text, .iov_len = text_bytes}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = text_bytes > 0 ? 2 : 1};
    union control control;
    ssize_t n;

    if (fd_count > 0) {
        struct cmsghdr *item;

        memset(&control, 0, sizeof(control));
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE((size_t)fd_count * sizeof(int));
        item = CMSG_FIRSTHDR(&message);
        item->cmsg_level = SOL_SOCKET;
        item->cmsg_type = SCM_RIGHTS;
        item->cmsg_len = CMSG_LEN((size_t)fd_count * sizeof(int));
        memcpy(CMSG_DATA(item), fds, (size_t)fd_count * sizeof(int));
    }
    do {
        n = sendmsg(fd, &message, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n;
}

ssize_t wire_receive(int fd, void *data, size_t bytes, int *fds, int *fd_count)
{
    struct iovec part = {.iov_base = data, .iov_len = bytes};
    union control control;
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    int room = fd_count != NULL ? *fd_count : 0, count = 0;
    ssize_t n;

    do {
        n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    for (struct cmsghdr *item = n >= 0 ? CMSG_FIRSTHDR(&message) : NULL; item != NULL;
         item = CMSG_NXTHDR(&message, item)) {
        size_t got = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        for (size_t i = 0; i < got; i++) {
            int received;

            memcpy(&received, CMSG_DATA(item) + i * sizeof(int), sizeof(int));
            if (count < room) {
                fds[count++] = received;
            } else {
                close(received);
            }
        }
    }
    if (fd_count != NULL) {
        *fd_count = count;
    }
    return n;
}
