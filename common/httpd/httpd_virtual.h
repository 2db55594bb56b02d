/* httpd_virtual - runs CivetWeb on virtual connections. */
#ifndef HTTPD_HTTPD_VIRTUAL_H
#define HTTPD_HTTPD_VIRTUAL_H

#include "common/httpd/httpd_internal.h"

/* Starts CivetWeb with these callbacks and its own; fills civetweb and listener. */
int virtual_start(struct httpd *httpd, struct mg_callbacks *callbacks, const char **settings,
                  struct error *err) MUST_CHECK;
/* Joins CivetWeb's threads; httpd->stopping is set. */
void virtual_stop(struct httpd *httpd);
/* In a callback about a request: the worker that this thread is. Its answer is ours to give. */
struct httpd_worker *virtual_request_begin(void);
/* The answer is given; CivetWeb may look for the rest of the request's body. */
void virtual_request_end(struct httpd_worker *worker, bool chunked);
/* mg_read and mg_write on the exchange's client. */
long virtual_read(struct http_exchange *exchange, void *buf, size_t bytes);
int virtual_write(struct http_exchange *exchange, const void *data, size_t bytes);

#endif
