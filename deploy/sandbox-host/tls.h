/*
 * tls - HTTPS on the same port as HTTP, for the host's own names and those of sandboxes.
 *
 * A connection that begins with a ClientHello is decrypted by a thread of its own, which hands what
 * it carries to the proxy through a socket pair, so that the proxy knows only plain connections.
 * SANDBOX_HOST_TLS_CERTIFICATE and _KEY name PEM files, which are read again when they change.
 * Without them a ClientHello is answered with an alert at once.
 * Owns: certificate, handshake, the two directions. Does not own: accepting, HTTP (front.h).
 * Threads: tls_init() once; then any.
 */
#ifndef SANDBOX_HOST_TLS_H
#define SANDBOX_HOST_TLS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "deploy/sandbox-host/config.h"

/* Reads the certificate, if there is one. ERR_CONFIG names what is wrong with it. */
int tls_init(const struct host_config *config, struct error *err) MUST_CHECK;
void tls_done(void);
/* Whether the first byte of a connection is that of a ClientHello and not of HTTP. */
bool tls_is_hello(unsigned char first);
/* Takes over the connection `fd`, whose ClientHello nobody has read, in any case. Returns the
 * socket that carries what is inside; -1: the client was refused, or does not finish within
 * timeout_ms. */
int tls_accept(int fd, int64_t timeout_ms, int64_t stall_ms);

#endif
