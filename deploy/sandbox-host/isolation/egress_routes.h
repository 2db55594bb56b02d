/*
 * egress_routes - closes networks to a sandbox by unreachable routes in its network namespace.
 *
 * Nothing in the sandbox has the right to change these routes. Both functions run in a child of the
 * warden that has the sandbox's user and network namespace as EGRESS_USERNS_FD and EGRESS_NETNS_FD.
 * Owns: netlink. Does not own: which networks (egress_policy.h). Threads: a single-threaded
 * process.
 */
#ifndef SANDBOX_HOST_EGRESS_ROUTES_H
#define SANDBOX_HOST_EGRESS_ROUTES_H

#include "common/base/error.h"

#define EGRESS_DEVICE "tap0"

enum { EGRESS_ANSWER_FD = 3, EGRESS_USERNS_FD = 4, EGRESS_NETNS_FD = 5 };
/* egress_routes_replace() answers with one of these on EGRESS_ANSWER_FD. */
enum { EGRESS_REPLACED = '+', EGRESS_NO_DEVICE = '-' };

/* Closes the networks, before slirp4netns starts and before the process gives up root. */
int egress_routes_close(const char *closed, struct error *err) MUST_CHECK;
/* Closes these networks, then opens what else was closed, and answers EGRESS_REPLACED. A sandbox
 * without EGRESS_DEVICE is left as it is: the answer is EGRESS_NO_DEVICE. */
int egress_routes_replace(const char *closed, struct error *err) MUST_CHECK;

#endif
