/* egress_routes - see egress_routes.h. */
#include "deploy/sandbox-host/isolation/egress_routes.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/cidr.h"

enum { TUN_MAJOR = 10, TUN_MINOR = 200, DUMP_BYTES = 65536, TFTP_PORT = 69 };

/* ---- closing ---- */

struct route_request {
    struct nlmsghdr head;
    struct rtmsg route;
    struct rtattr attribute;
    struct in_addr address;
};

/* Sends one request and takes its acknowledgement. */
static int send_netlink(int netlink, const void *request, size_t length, const char *what,
                        struct error *err)
{
    struct {
        struct nlmsghdr head;
        struct nlmsgerr error;
        char rest[512];
    } answer;

    if (send(netlink, request, length, 0) < 0 ||
        recv(netlink, &answer, sizeof(answer), 0) < (ssize_t)sizeof(answer.head)) {
        return error_set_errno(err, ERR_INTERNAL, errno, "netlink");
    }
    return answer.head.nlmsg_type != NLMSG_ERROR || answer.error.error != 0
               ? error_set_errno(err, ERR_INTERNAL, -answer.error.error, "%s", what)
               : 0;
}

/* RTM_NEWROUTE closes a network, RTM_DELROUTE opens it again. */
static int set_route(int netlink, uint16_t type, struct cidr network, struct error *err)
{
    struct route_request request = {
        .head = {.nlmsg_len = sizeof(request),
                 .nlmsg_type = type,
                 .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
        .route = {.rtm_family = AF_INET,
                  .rtm_dst_len = (unsigned char)network.bits,
                  .rtm_table = RT_TABLE_MAIN,
                  .rtm_protocol = RTPROT_STATIC,
                  .rtm_scope = RT_SCOPE_UNIVERSE,
                  .rtm_type = RTN_UNREACHABLE},
        .attribute = {.rta_len = RTA_LENGTH(sizeof(struct in_addr)), .rta_type = RTA_DST},
        .address = {.s_addr = htonl(network.address)}};

    if (type == RTM_NEWROUTE) {
        request.head.nlmsg_flags |= NLM_F_CREATE | NLM_F_REPLACE;
    }
    return send_netlink(netlink, &request, sizeof(request), "a route", err);
}

/* slirp4netns's gateway answers TFTP, which a sandbox must not use. A route cannot name a port, a
 * rule can. */
static int close_tftp(int netlink, struct error *err)
{
    struct {
        struct nlmsghdr head;
        struct fib_rule_hdr rule;
        struct rtattr protocol_head;
        uint8_t protocol, padding[3];
        struct rtattr port_head;
        struct fib_rule_port_range ports;
    } request = {.head = {.nlmsg_len = sizeof(request),
                          .nlmsg_type = RTM_NEWRULE,
                          .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE},
                 .rule = {.family = AF_INET, .action = FR_ACT_UNREACHABLE},
                 .protocol_head = {.rta_len = RTA_LENGTH(1), .rta_type = FRA_IP_PROTO},
                 .protocol = IPPROTO_UDP,
                 .port_head = {.rta_len = RTA_LENGTH(sizeof(struct fib_rule_port_range)),
                               .rta_type = FRA_DPORT_RANGE},
                 .ports = {.start = TFTP_PORT, .end = TFTP_PORT}};

    return send_netlink(netlink, &request, sizeof(request), "a rule for TFTP", err);
}

/* Moves the calling process into the sandbox's network and returns a netlink socket there. */
static int enter_network(struct error *err)
{
    int netlink;

    /* an ordinary user has rights over the network only inside the sandbox's user namespace */
    if ((geteuid() != 0 && setns(EGRESS_USERNS_FD, CLONE_NEWUSER) < 0) ||
        setns(EGRESS_NETNS_FD, CLONE_NEWNET) < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "entering the sandbox's network");
    }
    netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    return netlink < 0 ? error_set_errno(err, ERR_INTERNAL, errno, "netlink") : netlink;
}

static int close_networks(int netlink, const struct cidr_set *networks, struct error *err)
{
    for (size_t i = 0; i < networks->count; i++) {
        if (set_route(netlink, RTM_NEWROUTE, networks->list[i], err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int close_all(const char *closed, struct error *err)
{
    struct cidr_set networks = {.list = NULL};
    int netlink = enter_network(err), status;

    if (netlink < 0) {
        return -1;
    }
    status = cidr_set_add_list(&networks, closed, err) < 0 ||
                     close_networks(netlink, &networks, err) < 0 || close_tftp(netlink, err) < 0
                 ? -1
                 : 0;
    cidr_set_done(&networks);
    close(netlink);
    return status;
}

/* ---- replacing ---- */

/* Networks that are closed now. They are not sorted, and one may contain another. */
struct closed_now {
    struct cidr *list;
    size_t count, room;
};

static void take_route(struct closed_now *now, const struct nlmsghdr *message)
{
    const struct rtmsg *route = NLMSG_DATA(message);
    int left = (int)RTM_PAYLOAD(message);

    if (message->nlmsg_type != RTM_NEWROUTE || route->rtm_type != RTN_UNREACHABLE ||
        route->rtm_table != RT_TABLE_MAIN) {
        return;
    }
    for (const struct rtattr *at = RTM_RTA(route); RTA_OK(at, left); at = RTA_NEXT(at, left)) {
        struct in_addr address;

        if (at->rta_type == RTA_DST && RTA_PAYLOAD(at) == sizeof(address)) {
            memcpy(&address, RTA_DATA(at), sizeof(address));
            if (now->count == now->room) {
                now->room = now->room * 2 + 64;
                now->list = xrealloc(now->list, now->room * sizeof(*now->list));
            }
            now->list[now->count++] =
                (struct cidr){.address = ntohl(address.s_addr), .bits = route->rtm_dst_len};
        }
    }
}

static int list_closed(int netlink, struct closed_now *ret, struct error *err)
{
    struct {
        struct nlmsghdr head;
        struct rtmsg route;
    } request = {.head = {.nlmsg_len = sizeof(request),
                          .nlmsg_type = RTM_GETROUTE,
                          .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
                 .route = {.rtm_family = AF_INET}};
    char *packet = xmalloc(DUMP_BYTES);
    int status = 1;

    if (send(netlink, &request, sizeof(request), 0) < 0) {
        status = error_set_errno(err, ERR_INTERNAL, errno, "netlink");
    }
    while (status > 0) {
        const ssize_t n = recv(netlink, packet, DUMP_BYTES, 0);
        int left = n > 0 ? (int)n : 0;

        if (n <= 0) {
            status = error_set_errno(err, ERR_INTERNAL, errno, "netlink");
        }
        for (struct nlmsghdr *at = (struct nlmsghdr *)(void *)packet;
             status > 0 && NLMSG_OK(at, (unsigned)left); at = NLMSG_NEXT(at, left)) {
            if (at->nlmsg_type == NLMSG_ERROR || (at->nlmsg_flags & NLM_F_DUMP_INTR) != 0) {
                status = error_set(err, ERR_INTERNAL, "the routes could not be listed");
            } else if (at->nlmsg_type == NLMSG_DONE) {
                status = 0;
            } else {
                take_route(ret, at);
            }
        }
    }
    free(packet);
    return status;
}

static bool is_listed(const struct cidr_set *set, struct cidr network)
{
    for (size_t i = 0; i < set->count; i++) {
        if (set->list[i].address == network.address && set->list[i].bits == network.bits) {
            return true;
        }
    }
    return false;
}

static int replace_routes(int netlink, const char *closed, struct error *err)
{
    struct cidr_set wanted = {.list = NULL};
    struct closed_now now = {.list = NULL};
    int status = cidr_set_add_list(&wanted, closed, err) < 0 ||
                         list_closed(netlink, &now, err) < 0 ||
                         close_networks(netlink, &wanted, err) < 0
                     ? -1
                     : 0;

    for (size_t i = 0; i < now.count && status == 0; i++) {
        if (!is_listed(&wanted, now.list[i])) {
            status = set_route(netlink, RTM_DELROUTE, now.list[i], err);
        }
    }
    cidr_set_done(&wanted);
    free(now.list);
    return status;
}

int egress_routes_replace(const char *closed, struct error *err)
{
    int netlink = enter_network(err), status = 0;
    char answer = EGRESS_NO_DEVICE;

    if (netlink < 0) {
        return -1;
    }
    if (if_nametoindex(EGRESS_DEVICE) != 0) {
        answer = EGRESS_REPLACED;
        status = replace_routes(netlink, closed, err);
    }
    close(netlink);
    if (status == 0 && write(EGRESS_ANSWER_FD, &answer, 1) != 1) {
        status = error_set_errno(err, ERR_INTERNAL, errno, "answering");
    }
    return status;
}

/* On some machines only root may open /dev/net/tun, though a device in the sandbox's own namespace
 * needs no right outside it. Only this process sees the replacement. */
static int open_tun_to_all(struct error *err)
{
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", "/dev/net", "tmpfs", MS_NOSUID | MS_NOEXEC, "size=4k,mode=755") < 0 ||
        mknod("/dev/net/tun", S_IFCHR | 0666, makedev(TUN_MAJOR, TUN_MINOR)) < 0 ||
        chmod("/dev/net/tun", 0666) < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "/dev/net/tun for the sandbox");
    }
    return 0;
}

int egress_routes_close(const char *closed, struct error *err)
{
    int status;
    pid_t pid = fork(); /* this process must stay outside the namespaces */

    if (pid == 0) {
        struct error failure = ERROR_INIT;

        if (close_all(closed, &failure) < 0) {
            (void)!write(STDERR_FILENO, failure.message, strlen(failure.message));
            (void)!write(STDERR_FILENO, "\n", 1);
            _exit(1);
        }
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "closing networks");
    }
    if (status != 0) {
        return error_set(err, ERR_INTERNAL, "networks could not be closed");
    }
    return geteuid() == 0 ? open_tun_to_all(err) : 0;
}
