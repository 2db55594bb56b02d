/*
 * tls - HTTPS on the same port as HTTP.
 *
 * A connection that begins with a ClientHello is decrypted by a thread of its own, which hands the
 * plain bytes to the proxy through a socket pair, so that the proxy knows only plain connections.
 * The PEM files are read again when they change. Without them a ClientHello is answered with an
 * alert at once.
 * Owns: certificate, handshake, the two directions. Does not own: accepting, HTTP (proxy.h).
 * Threads: tls_open() and tls_close() from one thread; the others from any.
 */
#ifndef PROXY_TLS_H
#define PROXY_TLS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"

struct tls;
/* Reads certificate (with its chain) and key; the paths must outlive the result. ERR_CONFIG names
 * what is wrong with them. */
struct tls *tls_open(const char *certificate, const char *key, struct error *err) MUST_CHECK;
/* Connections that go on keep what they need. NULL-safe. */
void tls_close(struct tls *tls);
/* Whether the first byte of a connection is that of a ClientHello and not of HTTP. */
bool tls_is_hello(unsigned char first);
/* Takes over the connection `fd`, whose ClientHello nobody has read, in any case. Returns at once
 * the socket that will carry the plain bytes; it ends when the client does not finish the handshake
 * within timeout_ms. -1: the client was refused (`tls` is NULL). */
int tls_accept(struct tls *tls, int fd, int64_t timeout_ms, int64_t stall_ms);

#endif
