/* httpd_peer - finds the address of the client behind trusted proxies. */
#ifndef HTTPD_HTTPD_PEER_H
#define HTTPD_HTTPD_PEER_H

struct http_exchange;

/* The client's address as text: the peer's, or what a trusted proxy says of it. */
const char *http_peer(struct http_exchange *exchange);

#endif
