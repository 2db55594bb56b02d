/*
 * route - where a request of E2B's protocol goes: to the API, or to a port of a sandbox.
 *
 * Owns: host names ({port}-{id}.<anything>, {port}-{id}-{suffix}.<anything>), the headers
 * E2b-Sandbox-Id / E2b-Sandbox-Port, the query of a signed file URL, the Host that a sandbox's
 * servers are told instead. Does not own: which sandboxes there are. Threads: no shared state.
 * Failure: a malformed target is ROUTE_BAD, never a guess.
 */
#ifndef PROXY_ROUTE_H
#define PROXY_ROUTE_H

#include <stdbool.h>
#include <stddef.h>

enum {
    ROUTE_ENVD_PORT = 49983,
    ROUTE_ID_BYTES = 33,
    ROUTE_SUFFIX_BYTES = 64,
    ROUTE_MASK_BYTES = 272,
};

enum route_kind { ROUTE_API, ROUTE_SANDBOX, ROUTE_BAD };

struct route_target {
    char id[ROUTE_ID_BYTES];
    int port;
    char suffix[ROUTE_SUFFIX_BYTES]; /* what follows the id in a host name, "" = nothing */
};

/* Any of host, id_header, port_header may be NULL. ret is filled for ROUTE_SANDBOX. */
enum route_kind route_request(const char *host, const char *id_header, const char *port_header,
                              struct route_target *ret);

/* 1..65535 and nothing else. */
bool route_parse_port(const char *text, size_t length, int *ret);

/* A mask is a host name or address, with or without a port, in which each "${PORT}" stands for the
 * port that is asked for. */
bool route_mask_valid(const char *mask);
/* Of a valid one. */
void route_mask_host(const char *mask, int port, char ret[ROUTE_MASK_BYTES]);

/*
 * A file URL that a client signed (GET or POST /files?path=&username=&signature=…). E2B's SDKs put
 * E2B_SANDBOX_URL in front of it and nothing that names the sandbox; its signature does.
 */
struct route_signed {
    char path[4096], username[64], signature[128], expiration[24];
    bool upload;
};
/* false: no signed file URL. */
bool route_signed_parse(const char *method, const char *path, const char *query,
                        struct route_signed *ret);
/* Whether it was signed with this token. */
bool route_signed_matches(const struct route_signed *url, const char *token);

#endif
