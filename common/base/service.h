/*
 * service - signals, drain flag and exit codes of every process.
 *
 * Owns: blocking SIGTERM, SIGINT and SIGHUP in all threads, reading them from a signalfd, ignoring
 * SIGPIPE, the drain flag. Does not own: the loop.
 */
#ifndef BASE_SERVICE_H
#define BASE_SERVICE_H

#include <stdbool.h>

#include "common/base/error.h"

enum { EXIT_OK = 0, EXIT_RUNTIME = 1, EXIT_USAGE = 64, EXIT_CONFIG = 78 };

/* Call first in main, before any thread: initialises libsodium, blocks the signals, ignores
 * SIGPIPE. *ret_signal_fd becomes readable (non-blocking) when a stop signal is pending. */
int service_init(int *ret_signal_fd, struct error *err) MUST_CHECK;
/* Reads pending signals. The first stop signal sets the drain flag, a second one exits 1. */
void service_read_signals(int signal_fd);
bool service_draining(void);
/* Waits for a stop signal. */
void service_wait_for_stop(int signal_fd);
/* "<host>:<pid>:<boot>": unique per process start; used as consumer and lease owner. */
#define SERVICE_NAME_BYTES 128
void service_identity(char out[SERVICE_NAME_BYTES]);

#endif
