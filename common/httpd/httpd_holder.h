/* httpd_holder - counts what one address or one owner holds. */
#ifndef HTTPD_HTTPD_HOLDER_H
#define HTTPD_HTTPD_HOLDER_H

#include "common/httpd/httpd_internal.h"

int httpd_holders_init(struct httpd *httpd, struct error *err) MUST_CHECK;
void httpd_holders_free(struct httpd *httpd);
/* One more reference to the holder of this key. Both: the caller holds the lock. */
struct httpd_holder *holder_take(struct httpd *httpd, uint64_t key);
void holder_give(struct httpd *httpd, struct httpd_holder *holder);
/* Takes a place among the bodies that threads wait for; false: there is none. */
bool httpd_body_wait_begin(struct http_exchange *exchange);
void httpd_body_wait_end(struct http_exchange *exchange);

#endif
