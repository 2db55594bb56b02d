/* egress_policy - see egress_policy.h. */
#include "deploy/sandbox-host/isolation/egress_policy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <string.h>

#include "common/base/cidr.h"
#include "deploy/sandbox-host/isolation/resolver.h"

enum { ENTRIES_MAX = 256 };
/* slirp4netns's own network holds its gateway and its resolver, and no service of this machine. */
static const struct cidr own_network = {.address = UINT32_C(0x0a000200), .bits = 24};
/* slirp4netns forwards this address to this machine's resolver. With --disable-dns it would forward
 * to this machine's loopback, so a route closes the address instead. */
static const struct cidr own_resolver = {.address = UINT32_C(0x0a000203), .bits = 32};

static const struct host_config *config;

static int add_array(struct cidr_set *set, const cJSON *array, const char *field, struct error *err)
{
    const cJSON *item;
    struct cidr network;

    if (array == NULL || cJSON_IsNull(array)) {
        return 0;
    }
    if (!cJSON_IsArray(array) || cJSON_GetArraySize(array) > ENTRIES_MAX) {
        return error_set(err, ERR_INVALID, "network.%s is not an array of at most %d networks",
                         field, ENTRIES_MAX);
    }
    cJSON_ArrayForEach(item, array)
    {
        if (!cJSON_IsString(item) ||
            !cidr_parse(item->valuestring, strlen(item->valuestring), &network)) {
            return error_set(
                err, ERR_INVALID,
                "network.%s: '%.64s' is no IPv4 address or network (this host knows no "
                "rules by domain)",
                field, cJSON_IsString(item) ? item->valuestring : "");
        }
        if (cidr_set_add(set, network, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int subtract_all(struct cidr_set *set, const struct cidr_set *other, struct error *err)
{
    for (size_t i = 0; i < other->count; i++) {
        if (cidr_set_subtract(set, other->list[i], err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Every IPv4 address of this machine. */
static int add_machine_addresses(struct cidr_set *set, struct error *err)
{
    struct ifaddrs *all;
    int status = 0;

    if (getifaddrs(&all) < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "this machine's addresses");
    }
    for (struct ifaddrs *one = all; one != NULL && status == 0; one = one->ifa_next) {
        if (one->ifa_addr != NULL && one->ifa_addr->sa_family == AF_INET) {
            const struct sockaddr_in *address = (const struct sockaddr_in *)one->ifa_addr;

            status = cidr_set_add(
                set, (struct cidr){.address = ntohl(address->sin_addr.s_addr), .bits = 32}, err);
        }
    }
    freeifaddrs(all);
    return status;
}

static int add_all(struct cidr_set *set, const struct cidr_set *other, struct error *err)
{
    for (size_t i = 0; i < other->count; i++) {
        if (cidr_set_add(set, other->list[i], err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Networks that the operator blocks: SANDBOX_HOST_EGRESS_DENY and this machine's addresses, minus
 * SANDBOX_HOST_EGRESS_ALLOW. */
static int add_closed_by_host(struct cidr_set *set, struct error *err)
{
    struct cidr_set closed = {.list = NULL}, opened = {.list = NULL};
    int status;

    status = cidr_set_add_list(&closed, config->egress_deny, err) < 0 ||
                     add_machine_addresses(&closed, err) < 0 ||
                     (config->egress_allow != NULL &&
                      cidr_set_add_list(&opened, config->egress_allow, err) < 0) ||
                     subtract_all(&closed, &opened, err) < 0 || add_all(set, &closed, err) < 0
                 ? -1
                 : 0;
    cidr_set_done(&closed);
    cidr_set_done(&opened);
    return status;
}

int egress_policy_init(const struct host_config *host_config, struct error *err)
{
    struct cidr_set networks = {.list = NULL}, closed = {.list = NULL};
    int status;

    config = host_config;
    status = cidr_set_add_list(&networks, config->egress_deny, err) < 0
                 ? error_prefix(err, "SANDBOX_HOST_EGRESS_DENY")
             : config->egress_allow != NULL &&
                     cidr_set_add_list(&networks, config->egress_allow, err) < 0
                 ? error_prefix(err, "SANDBOX_HOST_EGRESS_ALLOW")
             : add_closed_by_host(&closed, err) < 0 ? -1
                                                    : resolver_init(config, &closed, err);
    cidr_set_done(&networks);
    cidr_set_done(&closed);
    return status;
}

/* Networks that the create blocks: `denyOut` minus `allowOut`. */
static int add_closed_by_request(struct cidr_set *set, const struct egress_request *request,
                                 bool *ret_connected, struct error *err)
{
    const struct cidr everything = {.address = 0, .bits = 0};
    struct cidr_set closed = {.list = NULL}, opened = {.list = NULL};
    int status = -1;

    if (add_array(&closed, request->deny_out, "denyOut", err) < 0 ||
        add_array(&opened, request->allow_out, "allowOut", err) < 0 ||
        (!request->internet && cidr_set_add(&closed, everything, err) < 0) ||
        subtract_all(&closed, &opened, err) < 0) {
        goto out;
    }
    *ret_connected = true;
    for (size_t i = 0; i < closed.count; i++) {
        *ret_connected = *ret_connected && closed.list[i].bits != 0;
    }
    status = add_all(set, &closed, err);
out:
    cidr_set_done(&closed);
    cidr_set_done(&opened);
    return status;
}

int egress_policy_plan(const struct egress_request *request, bool available,
                       struct strbuf *ret_closed, bool *ret_connected, struct error *err)
{
    struct cidr_set closed = {.list = NULL};
    int status = add_closed_by_request(&closed, request, ret_connected, err);

    *ret_connected = status == 0 && *ret_connected && available;
    if (*ret_connected) {
        status = add_closed_by_host(&closed, err) < 0 ||
                         cidr_set_subtract(&closed, own_network, err) < 0 ||
                         (!resolver_is_own() && cidr_set_add(&closed, own_resolver, err) < 0)
                     ? -1
                     : 0;
        for (size_t i = 0; i < closed.count; i++) {
            char text[INET_ADDRSTRLEN];
            const struct in_addr address = {.s_addr = htonl(closed.list[i].address)};

            inet_ntop(AF_INET, &address, text, sizeof(text));
            strbuf_printf(ret_closed, "%s/%d ", text, closed.list[i].bits);
        }
        if (ret_closed->overflow) {
            status = error_set(err, ERR_INVALID, "network: too many networks");
        }
    }
    cidr_set_done(&closed);
    return status;
}
