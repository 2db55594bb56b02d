/*
 * http_connect - a connected stream to the server of a URL, for whoever speaks HTTP over it itself.
 *
 * Owns: resolving, connecting, TLS with verification (libcurl's CURLOPT_CONNECT_ONLY), and for TLS
 * a thread that carries bytes between libcurl and a socket pair, HTTP_CONNECT_BUFFER_BYTES each
 * way. Does not own: what is said over the stream. Threads: any. Failure: ERR_PROVIDER_DOWN.
 */
#ifndef PROVIDER_HTTP_CONNECT_H
#define PROVIDER_HTTP_CONNECT_H

#include <stdint.h>

#include "common/base/error.h"

enum { HTTP_CONNECT_BUFFER_BYTES = 16384 };

/* *ret_fd is a stream socket that the caller closes; after http:// it is the connection itself. */
int http_connect(const char *url, int64_t timeout_ms, int *ret_fd, struct error *err) MUST_CHECK;

#endif
