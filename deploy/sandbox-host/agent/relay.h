/*
 * relay - lets the host reach any port of this sandbox's network namespace.
 *
 * Owns: one thread that accepts on a UNIX listener, reads a 2-byte big-endian port, connects to it
 * on the loopback (127.0.0.1, then ::1), answers one byte (0 connected, 1 refused) and copies bytes
 * both ways with half-close. Does not own: who may connect (the socket's place does that), HTTP.
 * Threads: one, its own; nothing shared. Failure: a broken relay closes both of its ends.
 */
#ifndef AGENT_RELAY_H
#define AGENT_RELAY_H

#include "common/base/error.h"

/* Starts the thread; it owns `listen_fd` from here and lives as long as the process. */
int relay_start(int listen_fd, struct error *err) MUST_CHECK;

#endif
