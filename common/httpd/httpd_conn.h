/* httpd_conn - accepts connections and keeps those that have no thread. */
#ifndef HTTPD_HTTPD_CONN_H
#define HTTPD_HTTPD_CONN_H

#include "common/httpd/httpd_internal.h"

/* Before anything else runs: what the acceptor and the workers share. */
int httpd_acceptor_open(struct httpd *httpd, struct error *err) MUST_CHECK;
int httpd_acceptor_start(struct httpd *httpd, struct error *err) MUST_CHECK;
/* Joins the acceptor. Workers may still park connections; they lie there. */
void httpd_acceptor_stop(struct httpd *httpd);
/* Ends every connection without a worker, once there are neither acceptor nor workers. */
void httpd_connections_end(struct httpd *httpd);
void httpd_acceptor_wake(struct httpd *httpd);
/* The connection's head is whole, its short body too (or its time is over). */
bool conn_is_ready(const struct httpd *httpd, struct httpd_conn *conn);
struct httpd_conn *conn_new(struct httpd *httpd, int fd, const struct sockaddr_in *address);
/* Gives a busy connection back to the acceptor. */
void conn_park(struct httpd *httpd, struct httpd_worker *worker, struct httpd_conn *conn,
               enum conn_class class);
/* Ends a busy connection. */
void conn_close(struct httpd *httpd, struct httpd_worker *worker, struct httpd_conn *conn);
/* Makes room for `bytes` behind in_length. */
void conn_reserve(struct httpd_conn *conn, size_t bytes);
/* Drops the request that was served; what was read of the next one stays. */
void conn_next_request(struct httpd_conn *conn);

/* Makes CivetWeb give one more worker its virtual connection. */
void httpd_want_virtual(struct httpd *httpd);

#endif
