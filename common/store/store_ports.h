/*
 * store_ports - the ports of sandboxes that URLs of the gateways open.
 *
 * Threads and failure: as store.h. Who may expose a port is the caller's to check.
 */
#ifndef STORE_STORE_PORTS_H
#define STORE_STORE_PORTS_H

#include "common/store/store.h"

/* With a port of five digits and an id of 32 the token fills a host name's label. */
enum { STORE_PORT_TOKEN_LENGTH = 24, STORE_PORT_TOKEN_BYTES = STORE_PORT_TOKEN_LENGTH + 1 };

struct store_port {
    int port; /* 0 = every port but those of the services */
    bool is_public;
    char token[STORE_PORT_TOKEN_BYTES];
    int64_t created_at_ms, expires_at_ms; /* 0 = does not expire */
};

struct store_port_expose {
    const char *sandbox_id;
    int port;
    bool is_public;
    const char *token; /* for a port that is not exposed yet */
    int64_t ttl_ms;    /* 0 = does not expire */
    int max;           /* ports that one sandbox may expose */
    bool keep;         /* leave an exposed port as it is */
};
/* Exposes the port; an exposed one keeps its token. ERR_QUOTA. */
int store_port_expose(struct store *store, const struct store_port_expose *expose,
                      struct store_port *ret, struct error *err) MUST_CHECK;
/* Finds the exposed port; with `any_port`, the row of port 0 if the port has none.
 * ERR_NOT_FOUND. */
int store_port_find(struct store *store, const char *sandbox_id, int port, bool any_port,
                    struct store_port *ret, struct error *err) MUST_CHECK;
/* Lists the exposed ports of a sandbox by number. *ret is a heap array. */
int store_ports_list(struct store *store, const char *sandbox_id, struct store_port **ret,
                     size_t *ret_count, struct error *err) MUST_CHECK;
/* ERR_NOT_FOUND. */
int store_port_remove(struct store *store, const char *sandbox_id, int port,
                      struct error *err) MUST_CHECK;

#endif
