/*
 * warden_wire - the messages between host and warden, one per packet of a SOCK_SEQPACKET socket.
 *
 * Both ends are this program on this machine; the version tells an older warden from a newer host.
 */
#ifndef SANDBOX_HOST_WARDEN_WIRE_H
#define SANDBOX_HOST_WARDEN_WIRE_H

#include <stdint.h>
#include <sys/types.h>

#include "deploy/sandbox-host/isolation/warden.h"

enum { WIRE_VERSION = 4, WIRE_TEXT_BYTES = 128 * 1024, WIRE_ARGS_MAX = 4096 };
#define WIRE_SOCKET "warden"

enum wire_type { WIRE_HELLO, WIRE_RUN, WIRE_KILL, WIRE_QUIT, WIRE_STARTED, WIRE_EXITED };

/* host -> warden; WIRE_RUN is followed by the order's text and layers, then argc words,
 * each with its NUL */
struct wire_request {
    uint32_t type, kind, uid, argc;
    int64_t processes, files;
    char id[WARDEN_ID_BYTES];
    char disk[WARDEN_PATH_BYTES];
    char dir[WARDEN_PATH_BYTES];
};

/* warden -> host */
struct wire_answer {
    uint32_t type;
    int32_t pid;       /* HELLO, STARTED, EXITED */
    int32_t status;    /* HELLO: version; STARTED: errno; EXITED: wait status */
    int64_t first_uid; /* HELLO */
};

/* One packet with descriptors. Returns bytes, 0 = the other side is gone, -1 + errno. */
ssize_t wire_send(int fd, const void *head, size_t head_bytes, const void *text, size_t text_bytes,
                  const int *fds, int fd_count);
/* *fd_count: room in, received out; received ones are close-on-exec. */
ssize_t wire_receive(int fd, void *data, size_t bytes, int *fds, int *fd_count);

#endif
