/* cidr - see cidr.h. */
#include "common/base/cidr.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"

static uint32_t mask(int bits)
{
    return bits == 0 ? 0 : UINT32_MAX << (32 - bits);
}

void cidr_client(const char *address, char ret[CIDR_CLIENT_BYTES])
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
    unsigned char six[16];
    char text[INET6_ADDRSTRLEN];

    if (inet_pton(AF_INET6, address, six) != 1) {
        (void)str_copy(ret, CIDR_CLIENT_BYTES, address);
    } else if (memcmp(six, mapped, sizeof(mapped)) == 0) {
        (void)inet_ntop(AF_INET, six + sizeof(mapped), ret, CIDR_CLIENT_BYTES);
    } else {
        memset(six + 8, 0, 8);
        (void)inet_ntop(AF_INET6, six, text, sizeof(text));
        snprintf(ret, CIDR_CLIENT_BYTES, "%s/64", text);
    }
}

bool cidr_parse(const char *text, size_t length, struct cidr *ret)
{
    const char *slash = memchr(text, '/', length);
    size_t address_length = slash != NULL ? (size_t)(slash - text) : length;
    char address[INET_ADDRSTRLEN];
    struct in_addr parsed;
    int bits = 32;

    if (address_length >= sizeof(address)) {
        return false;
    }
    memcpy(address, text, address_length);
    address[address_length] = '\0';
    if (inet_pton(AF_INET, address, &parsed) != 1) {
        return false;
    }
    if (slash != NULL) {
        size_t digits = length - address_length - 1;

        bits = 0;
        for (size_t i = 0; i < digits; i++) {
            if (slash[1 + i] < '0' || slash[1 + i] > '9') {
                return false;
            }
            bits = bits * 10 + (slash[1 + i] - '0');
        }
        if (digits == 0 || digits > 2 || bits > 32) {
            return false;
        }
    }
    ret->bits = bits;
    ret->address = ntohl(parsed.s_addr) & mask(bits);
    return true;
}

bool cidr_contains(struct cidr outer, struct cidr inner)
{
    return outer.bits <= inner.bits && (inner.address & mask(outer.bits)) == outer.address;
}

void cidr_set_done(struct cidr_set *set)
{
    free(set->list);
    *set = (struct cidr_set){.list = NULL};
}

static int append(struct cidr_set *set, struct cidr network, struct error *err)
{
    if (set->count >= CIDR_SET_MAX) {
        return error_set(err, ERR_LIMIT, "more than %d networks", CIDR_SET_MAX);
    }
    if (set->count == set->capacity) {
        set->capacity = set->capacity == 0 ? 64 : 2 * set->capacity;
        set->list = xrealloc(set->list, set->capacity * sizeof(*set->list));
    }
    set->list[set->count++] = network;
    return 0;
}

int cidr_set_add(struct cidr_set *set, struct cidr network, struct error *err)
{
    for (size_t i = 0; i < set->count; i++) {
        if (cidr_contains(set->list[i], network)) {
            return 0;
        }
    }
    return append(set, network, err);
}

/* Appends `whole` minus `hole`, which lies inside it: at each prefix length, the half without the
 * hole. */
static int append_around(struct cidr_set *set, struct cidr whole, struct cidr hole,
                         struct error *err)
{
    for (int bits = whole.bits + 1; bits <= hole.bits; bits++) {
        const uint32_t step = UINT32_C(1) << (32 - bits);
        const struct cidr other = {.address = (hole.address & mask(bits)) ^ step, .bits = bits};

        if (append(set, other, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int cidr_set_subtract(struct cidr_set *set, struct cidr network, struct error *err)
{
    for (size_t i = 0; i < set->count;) {
        const struct cidr present = set->list[i];

        if (!cidr_contains(network, present) && !cidr_contains(present, network)) {
            i++;
            continue;
        }
        set->list[i] = set->list[--set->count];
        /* the appended pieces do not overlap `network`, so the loop may visit them */
        if (!cidr_contains(network, present) && append_around(set, present, network, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int cidr_set_add_list(struct cidr_set *set, const char *text, struct error *err)
{
    while (*(text += strspn(text, ", ")) != '\0') {
        size_t length = strcspn(text, ", ");
        struct cidr network;

        if (!cidr_parse(text, length, &network)) {
            return error_set(err, ERR_INVALID, "'%.*s' is no IPv4 network",
                             length > 40 ? 40 : (int)length, text);
        }
        if (cidr_set_add(set, network, err) < 0) {
            return -1;
        }
        text += length;
    }
    return 0;
}
