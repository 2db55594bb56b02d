/* cidr - sets of IPv4 networks. Pure functions. */
#ifndef BASE_CIDR_H
#define BASE_CIDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

enum { CIDR_SET_MAX = 8192, CIDR_CLIENT_BYTES = 64 };

struct cidr {
    uint32_t address; /* host byte order; bits after the prefix are 0 */
    int bits;         /* 0..32 */
};
struct cidr_set {
    struct cidr *list;
    size_t count, capacity;
};

/* Parses "1.2.3.4" or "1.2.0.0/16" and clears the bits after the prefix. False: neither form. */
bool cidr_parse(const char *text, size_t length, struct cidr *ret);
bool cidr_contains(struct cidr outer, struct cidr inner);
void cidr_set_done(struct cidr_set *set);
/* Adds a network unless the set covers it. ERR_LIMIT beyond CIDR_SET_MAX networks. */
int cidr_set_add(struct cidr_set *set, struct cidr network, struct error *err) MUST_CHECK;
/* Removes the network from the set; splits networks that contain it. */
int cidr_set_subtract(struct cidr_set *set, struct cidr network, struct error *err) MUST_CHECK;
/* Adds the networks of a list separated by commas or spaces. The error names the bad one. */
int cidr_set_add_list(struct cidr_set *set, const char *text, struct error *err) MUST_CHECK;

/* What a limit counts as one client: an IPv4 address, or the /64 of an IPv6 address, because a
 * subscriber has at least that many (RFC 6177) and may send each request from another. An IPv4
 * address written as IPv6 (::ffff:1.2.3.4) is that IPv4 address; other text stays as it is. */
void cidr_client(const char *address, char ret[CIDR_CLIENT_BYTES]);

#endif
