/* httpd_worker - hands whole requests to the threads of CivetWeb. */
#ifndef HTTPD_HTTPD_WORKER_H
#define HTTPD_HTTPD_WORKER_H

#include "common/httpd/httpd_internal.h"

/* Waits for the next request; NULL: the server stops. */
struct httpd_conn *worker_next_request(struct httpd_worker *worker);
/* Writes the request's head to `buf` for CivetWeb. 0: worker->refusal says why not. */
size_t worker_read_head(struct httpd_worker *worker, char *buf, size_t size);
/* The request is answered: its connection stays with the worker (`keep`), or ends. */
void worker_finish(struct httpd_worker *worker, bool keep, bool linger);

#endif
