/* httpd_socket - reads from and writes to the real sockets, with deadlines. */
#ifndef HTTPD_HTTPD_SOCKET_H
#define HTTPD_HTTPD_SOCKET_H

#include "common/httpd/httpd_internal.h"

/* Some bytes of what the client sent, by until_ms. 0 its end; -1 broken, late, or too many wait. */
long socket_receive(struct http_exchange *exchange, void *buf, size_t bytes, int64_t until_ms);
/* The same, bytes that are here already first. */
long socket_take(struct http_exchange *exchange, void *buf, size_t bytes, int64_t until_ms);
/* Sends all of it; each HTTPD_WRITE_PIECE_BYTES have request_timeout_ms. */
int socket_send(struct http_exchange *exchange, const void *data, size_t bytes);

#endif
