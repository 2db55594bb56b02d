/*
 * cidr - sets of IPv4 networks. Pure.
 */
#ifndef BASE_CIDR_H
#define BASE_CIDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

enum { CIDR_SET_MAX = 8192 };

struct cidr {
    uint32_t address; /* host byte order; bits behind the prefix are 0 */
    int bits;         /* 0..32 */
};
struct cidr_set {
    struct cidr *list;
    size_t count, capacity;
};

/* "1.2.3.4" or "1.2.0.0/16" (bits behind the prefix are cleared). false: neither. */
bool cidr_parse(const char *text, size_t length, struct cidr *ret);
bool cidr_contains(struct cidr outer, struct cidr inner);
void cidr_set_done(struct cidr_set *set);
/* ERR_LIMIT past CIDR_SET_MAX. A network already covered is not added. */
int cidr_set_add(struct cidr_set *set, struct cidr network, struct error *err) MUST_CHECK;
/* Takes the network out of the set: what only partly lies in it is split. */
int cidr_set_subtract(struct cidr_set *set, struct cidr network, struct error *err) MUST_CHECK;
/* Adds every network of a list separated by commas or spaces; the message names a bad one. */
int cidr_set_add_list(struct cidr_set *set, const char *text, struct error *err) MUST_CHECK;

#endif
