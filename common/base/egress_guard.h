/*
 * egress_guard - which addresses a URL that a caller has given may lead to: public ones, and the
 * networks that the operator names.
 *
 * The check is of the address that is connected to, not of the host name, so a name that resolves
 * to another address a moment later gains nothing. Threads: const after egress_guard_init().
 */
#ifndef BASE_EGRESS_GUARD_H
#define BASE_EGRESS_GUARD_H

#include <stdbool.h>
#include <sys/socket.h>

#include "common/base/cidr.h"

struct egress_guard {
    struct cidr_set allowed; /* beside public addresses */
};

/* `networks`: IPv4 networks with commas between that may be reached although they are not public;
 * NULL or "" = none. ERR_CONFIG names the bad one. */
int egress_guard_init(struct egress_guard *guard, const char *networks,
                      struct error *err) MUST_CHECK;
void egress_guard_done(struct egress_guard *guard);
/* False for loopback, private, link-local, shared, multicast, reserved and documentation addresses,
 * for IPv6 addresses that contain an IPv4 address of such a kind, and for what is no IP address. */
bool egress_guard_allows(const struct egress_guard *guard, const struct sockaddr *address);

#endif
