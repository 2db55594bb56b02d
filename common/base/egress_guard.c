/* egress_guard - see egress_guard.h. */
#include "common/base/egress_guard.h"

#include <netinet/in.h>
#include <string.h>

/* IANA's special-purpose IPv4 addresses that are not globally reachable, multicast and class E */
static const struct cidr not_public[] = {
    {0x00000000, 8},  {0x0a000000, 8},  {0x64400000, 10}, {0x7f000000, 8},  {0xa9fe0000, 16},
    {0xac100000, 12}, {0xc0000000, 24}, {0xc0000200, 24}, {0xc0586300, 24}, {0xc0a80000, 16},
    {0xc6120000, 15}, {0xc6336400, 24}, {0xcb007100, 24}, {0xe0000000, 4},  {0xf0000000, 4},
};

int egress_guard_init(struct egress_guard *guard, const char *networks, struct error *err)
{
    *guard = (struct egress_guard){.allowed = {.list = NULL}};
    if (networks != NULL && cidr_set_add_list(&guard->allowed, networks, err) < 0) {
        egress_guard_done(guard);
        err->code = ERR_CONFIG;
        return -1;
    }
    return 0;
}

void egress_guard_done(struct egress_guard *guard)
{
    cidr_set_done(&guard->allowed);
}

static bool allows_ipv4(const struct egress_guard *guard, uint32_t address)
{
    const struct cidr one = {.address = address, .bits = 32};

    for (size_t i = 0; i < guard->allowed.count; i++) {
        if (cidr_contains(guard->allowed.list[i], one)) {
            return true;
        }
    }
    for (size_t i = 0; i < sizeof(not_public) / sizeof(not_public[0]); i++) {
        if (cidr_contains(not_public[i], one)) {
            return false;
        }
    }
    return true;
}

static uint32_t ipv4_at(const unsigned char *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static bool allows_ipv6(const struct egress_guard *guard, const unsigned char address[16])
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};

    if (memcmp(address, mapped, sizeof(mapped)) == 0) {
        return allows_ipv4(guard, ipv4_at(address + sizeof(mapped)));
    }
    /* 2000::/3 without 2001::/23 (Teredo and others), 2001:db8::/32 and 2002::/16 (6to4) */
    return (address[0] & 0xe0) == 0x20 &&
           !(address[0] == 0x20 && address[1] == 0x01 && address[2] < 2) &&
           !(address[0] == 0x20 && address[1] == 0x01 && address[2] == 0x0d &&
             address[3] == 0xb8) &&
           !(address[0] == 0x20 && address[1] == 0x02) &&
           /* 3fff::/20, documentation */
           !(address[0] == 0x3f && address[1] == 0xff && address[2] < 0x10);
}

bool egress_guard_allows(const struct egress_guard *guard, const struct sockaddr *address)
{
    struct sockaddr_in four;
    struct sockaddr_in6 six;

    if (address->sa_family == AF_INET) {
        memcpy(&four, address, sizeof(four));
        return allows_ipv4(guard, ntohl(four.sin_addr.s_addr));
    }
    if (address->sa_family == AF_INET6) {
        memcpy(&six, address, sizeof(six));
        return allows_ipv6(guard, six.sin6_addr.s6_addr);
    }
    return false;
}
