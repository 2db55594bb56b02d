/* egress - see egress.h. */
#include "deploy/sandbox-host/isolation/egress.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/fib_rules.h>
#include <linux/nsfs.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/cidr.h"
#include "common/base/clock.h"
#include "deploy/sandbox-host/isolation/resolver.h"
#include "deploy/sandbox-host/isolation/warden.h"

enum {
    READY_FD = 3,
    USERNS_FD = 4,
    NETNS_FD = 5,
    READY_MS = 5000,
    ENTRIES_MAX = 256,
    TUN_MAJOR = 10,
    TUN_MINOR = 200,
    DUMP_BYTES = 65536,
    TFTP_PORT = 69,
};
/* slirp4netns's own network: gateway and resolver, and nothing of this machine's */
static const struct cidr own_network = {.address = UINT32_C(0x0a000200), .bits = 24};
/* its way to this machine's resolver. Its option --disable-dns makes of it a way to this machine's
 * loopback, so it is closed by a route. */
static const struct cidr own_resolver = {.address = UINT32_C(0x0a000203), .bits = 32};

#define TAP "tap0"
/* Halves are narrower than slirp4netns's own routes and leave those where they are. Its resolver's
 * come first: a set takes nothing that is covered already. */
#define EVERYTHING "10.0.2.0/25 10.0.2.128/25 0.0.0.0/1 128.0.0.0/1"
enum { WAY_OUT = '+', NO_WAY_OUT = '-' };

static const struct host_config *config;
static bool available;

/* ---- the plan ---- */

static bool find_program(const char *name)
{
    const char *path = getenv("PATH");
    char *copy = xstrdup(path != NULL ? path : "/usr/bin:/bin"), *save = NULL, file[4096];
    bool found = false;

    for (char *dir = strtok_r(copy, ":", &save); dir != NULL && !found;
         dir = strtok_r(NULL, ":", &save)) {
        snprintf(file, sizeof(file), "%s/%s", dir, name);
        found = access(file, X_OK) == 0;
    }
    free(copy);
    return found;
}

static int add_closed_by_host(struct cidr_set *set, struct error *err);

int egress_init(const struct host_config *host_config, struct error *err)
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
    available =
        config->internet && find_program("slirp4netns") && access("/dev/net/tun", R_OK | W_OK) == 0;
    return status;
}

bool egress_available(void)
{
    return available;
}

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

/* Every address this machine answers on. */
static int add_own_addresses(struct cidr_set *set, struct error *err)
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

/* What the operator closes: the list and this machine, but for what the operator opens. */
static int add_closed_by_host(struct cidr_set *set, struct error *err)
{
    struct cidr_set closed = {.list = NULL}, opened = {.list = NULL};
    int status;

    status = cidr_set_add_list(&closed, config->egress_deny, err) < 0 ||
                     add_own_addresses(&closed, err) < 0 ||
                     (config->egress_allow != NULL &&
                      cidr_set_add_list(&opened, config->egress_allow, err) < 0) ||
                     subtract_all(&closed, &opened, err) < 0 || add_all(set, &closed, err) < 0
                 ? -1
                 : 0;
    cidr_set_done(&closed);
    cidr_set_done(&opened);
    return status;
}

/* What the create closes, but for what it opens. */
static int add_closed_by_wish(struct cidr_set *set, const struct egress_wish *wish,
                              bool *ret_connected, struct error *err)
{
    const struct cidr everything = {.address = 0, .bits = 0};
    struct cidr_set closed = {.list = NULL}, opened = {.list = NULL};
    int status = -1;

    if (add_array(&closed, wish->deny_out, "denyOut", err) < 0 ||
        add_array(&opened, wish->allow_out, "allowOut", err) < 0 ||
        (!wish->internet && cidr_set_add(&closed, everything, err) < 0) ||
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

int egress_plan(const struct egress_wish *wish, struct strbuf *ret_closed, bool *ret_connected,
                struct error *err)
{
    struct cidr_set closed = {.list = NULL};
    int status = add_closed_by_wish(&closed, wish, ret_connected, err);

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

/* ---- starting ---- */

/* Until bubblewrap has given the sandbox's user namespace its ids, nobody can act in it. */
static int wait_mapped(pid_t pid, struct error *err)
{
    int64_t until_ms = clock_mono_ms() + READY_MS;
    char path[64], byte;

    snprintf(path, sizeof(path), "/proc/%ld/uid_map", (long)pid);
    while (clock_mono_ms() < until_ms) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd >= 0 ? read(fd, &byte, 1) : -1;

        if (fd >= 0) {
            close(fd);
        }
        if (n == 1) {
            return 0;
        }
        if (n < 0) {
            return error_set_errno(err, ERR_INTERNAL, errno, "%s", path);
        }
        clock_sleep_ms(1);
    }
    return error_set(err, ERR_TIMEOUT, "the sandbox's user namespace was not ready in time");
}

/* The sandbox's network, and the user namespace that owns it: bubblewrap makes one more for its
 * commands, which has no rights over the network. */
static int open_namespaces(const struct egress_sandbox *sandbox, int *ret_net, int *ret_user,
                           struct error *err)
{
    struct pollfd ended = {.fd = sandbox->init_fd, .events = POLLIN};
    char path[64];

    snprintf(path, sizeof(path), "/proc/%ld/ns/net", (long)sandbox->init_pid);
    *ret_net = open(path, O_RDONLY | O_CLOEXEC);
    if (*ret_net < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "%s", path);
    }
    if (sandbox->init_fd < 0 || poll(&ended, 1, 0) != 0) {
        return error_set(err, ERR_NOT_FOUND, "the sandbox has ended");
    }
    *ret_user = ioctl(*ret_net, NS_GET_USERNS);
    if (*ret_user < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "%s: its owner", path);
    }
    return fcntl(*ret_user, F_SETFD, FD_CLOEXEC) < 0
               ? error_set_errno(err, ERR_INTERNAL, errno, "%s", path)
               : 0;
}

/* One byte, or -1: none came in time, or its writer ended without one. */
static int read_answer(int answers, char *ret, const char *who, struct error *err)
{
    struct pollfd readable = {.fd = answers, .events = POLLIN};

    if (poll(&readable, 1, READY_MS) <= 0) {
        return error_set(err, ERR_TIMEOUT, "%s was not ready in time", who);
    }
    return read(answers, ret, 1) == 1 ? 0 : error_set(err, ERR_INTERNAL, "%s failed", who);
}

/* Has the warden run what acts on a sandbox's network and waits for its answer, the first byte on
 * its first descriptor. Without one it is killed. The namespaces come as descriptors, so that it
 * needs no right to look at the sandbox's processes. */
static int run_in_network(const struct egress_sandbox *sandbox, struct warden_order *order,
                          const char *who, char *ret_answer, struct error *err)
{
    int answers[2] = {-1, -1}, user = -1, net = -1, pidfd = -1, status = -1;
    pid_t pid;

    if (wait_mapped(sandbox->init_pid, err) < 0 || open_namespaces(sandbox, &net, &user, err) < 0) {
        goto out;
    }
    if (pipe2(answers, O_CLOEXEC) < 0) {
        error_set_errno(err, ERR_INTERNAL, errno, "pipe");
        goto out;
    }
    order->id = sandbox->id;
    order->uid = sandbox->uid;
    order->fds[0] = answers[1];
    order->fds[1] = user;
    order->fds[2] = net;
    order->fd_count = 3;
    order->pid = &pid;
    order->pidfd = &pidfd;
    status = warden_run(order, err);
    close(answers[1]);
    if (status == 0 && (status = read_answer(answers[0], ret_answer, who, err)) < 0 && pidfd >= 0) {
        (void)!syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0); /* or it has ended */
    }
    close(answers[0]);
out:
    if (pidfd >= 0) {
        close(pidfd);
    }
    if (net >= 0) {
        close(net);
    }
    if (user >= 0) {
        close(user);
    }
    return status;
}

int egress_start(const struct egress_sandbox *sandbox, const char *closed, struct error *err)
{
    static char *const argv[] = {"slirp4netns",
                                 "--configure",
                                 "--mtu=65520",
                                 "--disable-host-loopback",
                                 "--ready-fd=3",
                                 "--userns-path=/proc/self/fd/4",
                                 "--netns-type=path",
                                 "/proc/self/fd/5",
                                 TAP,
                                 NULL};
    struct warden_order order = {.kind = WARDEN_NETWORK, .argv = argv, .text = closed};
    char ready;

    return run_in_network(sandbox, &order, "slirp4netns", &ready, err);
}

int egress_change(const struct egress_sandbox *sandbox, const char *closed, bool connected,
                  struct error *err)
{
    static char *const no_program[] = {NULL};
    struct warden_order order = {
        .kind = WARDEN_ROUTES, .argv = no_program, .text = connected ? closed : EVERYTHING};
    char answer;

    if (run_in_network(sandbox, &order, "the change of routes", &answer, err) < 0) {
        return -1;
    }
    return answer == NO_WAY_OUT && connected ? egress_start(sandbox, closed, err) : 0;
}

/* ---- routes, in the warden's child ---- */

struct route_request {
    struct nlmsghdr head;
    struct rtmsg route;
    struct rtattr attribute;
    struct in_addr address;
};

/* Sends one request and takes its acknowledgement. */
static int ask_netlink(int netlink, const void *request, size_t length, const char *what,
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

/* Closes a network (RTM_NEWROUTE), or takes back that it was closed (RTM_DELROUTE). */
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
    return ask_netlink(netlink, &request, sizeof(request), "a route", err);
}

/* slirp4netns's gateway answers TFTP itself; nothing there is for a sandbox. A rule, for routes
 * know no ports. */
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

    return ask_netlink(netlink, &request, sizeof(request), "a rule for TFTP", err);
}

/* A socket that speaks of the sandbox's routes. The caller is in its network from then on. */
static int enter_network(struct error *err)
{
    int netlink;

    /* an ordinary user has rights over the network only inside the sandbox's user namespace */
    if ((geteuid() != 0 && setns(USERNS_FD, CLONE_NEWUSER) < 0) ||
        setns(NETNS_FD, CLONE_NEWNET) < 0) {
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

/* ---- their change ---- */

/* What is closed now: networks in no order, which may lie in one another. */
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

int egress_replace(const char *closed, struct error *err)
{
    int netlink = enter_network(err), status = 0;
    char answer = NO_WAY_OUT;

    if (netlink < 0) {
        return -1;
    }
    if (if_nametoindex(TAP) != 0) {
        answer = WAY_OUT;
        status = replace_routes(netlink, closed, err);
    }
    close(netlink);
    if (status == 0 && write(READY_FD, &answer, 1) != 1) {
        status = error_set_errno(err, ERR_INTERNAL, errno, "answering");
    }
    return status;
}

/* Some machines let only root open it; making a device in a sandbox's own namespace needs no more
 * than that namespace. Seen by this process alone. */
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

int egress_prepare(const char *closed, struct error *err)
{
    int status;
    pid_t pid = fork(); /* the namespaces are entered for this alone */

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
