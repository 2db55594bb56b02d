/*
 * warden_child - what a child of the warden does between fork and exec.
 *
 * Owns: cgroup, mounts, descriptors, user id and limits of the new process. It is a fork of a
 * single-threaded process, so it may call any function. Failure: logged, exit status 126.
 */
#ifndef SANDBOX_HOST_WARDEN_CHILD_H
#define SANDBOX_HOST_WARDEN_CHILD_H

#include "deploy/sandbox-host/isolation/warden.h"

_Noreturn void warden_child(const struct warden_order *order);

#endif
