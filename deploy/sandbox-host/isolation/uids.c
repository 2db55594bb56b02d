/* uids - see uids.h. */
#include "deploy/sandbox-host/isolation/uids.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int claimed_fd = -1;

int uids_claim_fd(void)
{
    return claimed_fd;
}

/* An abstract socket's name is held as long as its process lives, and by nothing else: no stale
 * lock is left by a kill. 1 = ours now, 0 = another host's. */
static int claim_one(int64_t first, struct error *err)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int length;

    if (fd < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "socket");
    }
    length =
        snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "sandbox-host.uids.%" PRId64, first);
    if (bind(fd, (struct sockaddr *)&name,
             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length)) == 0) {
        claimed_fd = fd; /* kept open until the process ends */
        return 1;
    }
    int failure = errno;
    close(fd);
    return failure == EADDRINUSE ? 0
                                 : error_set_errno(err, ERR_INTERNAL, failure, "claiming user ids");
}

int uids_claim(int64_t first, int64_t *ret, struct error *err)
{
    for (int i = 0; i < UIDS_RANGES; i++) {
        int64_t at = first + (int64_t)i * UIDS_RANGE;
        int claimed = claim_one(at, err);

        if (claimed < 0) {
            return -1;
        }
        if (claimed > 0) {
            *ret = at;
            return 0;
        }
    }
    return error_set(err, ERR_CONFIG,
                     "SANDBOX_HOST_FIRST_UID: %d ranges of user ids from %" PRId64
                     " on are used by other sandbox hosts",
                     UIDS_RANGES, first);
}
